// The GPU device's table of functions, and the library's one exported symbol.
#include <exception>
#include <new>

#include "Layout/Layout.h"
#include "Runtime/GPU/Clock.h"
#include "Runtime/GPU/Device.h"
#include "Runtime/GPU/Launch.h"
#include "Runtime/GPU/Memory.h"
#include "Runtime/GPU/Sharing.h"
#include "Runtime/GPU/Status.h"
#include "Runtime/GPU/Stream.h"

namespace mori::gpu {
namespace {

/// No C++ exception crosses the ABI: what can be thrown below it is a lack of memory.
template <auto function>
struct Guarded;

template <class... Arguments, moriep_status (*function)(Arguments...)>
struct Guarded<function> {
    static moriep_status call(Arguments... arguments) {
        try {
            return function(arguments...);
        } catch (const std::bad_alloc& error) {
            return fail(MORIEP_OUT_OF_MEMORY, 0, "%s", error.what());
        } catch (const std::exception& error) {
            return fail(MORIEP_DEVICE_FAILURE, 0, "%s", error.what());
        } catch (...) {
            return fail(MORIEP_DEVICE_FAILURE, 0, "an unknown C++ exception");
        }
    }
};

template <auto function>
constexpr auto guarded = &Guarded<function>::call;

moriep_status liveCounts(moriep_live_counts* out) {
    *out = moriep_live_counts{};
    countAllocations(out);
    countImports(out);
    countStreams(out);
    countGraphs(out);
    return MORIEP_SUCCESS;
}

moriep_status plan(const moriep_shape* shape, moriep_layout* out) {
    if (shape->world_size < 1 || shape->world_size > MORIEP_MAX_RANKS || shape->max_tokens < 1 ||
        shape->max_received < 1 || shape->top_k < 1 || shape->slots < 1) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "a shape without ranks, tokens, experts or slots");
    }
    *out = layoutFor(*shape);
    return MORIEP_SUCCESS;
}

constexpr moriep_device_api kTable = {
    .version = MORIEP_API_VERSION,
    .byte_count = sizeof(moriep_device_api),
    .kind = kKind,
    .can_trace = kHasTracedKernels ? 1 : 0,
    .size_of_properties = sizeof(moriep_device_properties),
    .size_of_shape = sizeof(moriep_shape),
    .size_of_layout = sizeof(moriep_layout),
    .size_of_control = sizeof(moriep_control),
    .size_of_failure = sizeof(moriep_failure),
    .size_of_operator = sizeof(moriep_operator),
    .size_of_dispatch = sizeof(moriep_dispatch_arguments),
    .size_of_combine = sizeof(moriep_combine_arguments),
    .size_of_received = sizeof(moriep_received_arguments),
    .size_of_clock_reading = sizeof(moriep_clock_reading),
    .last_message = lastMessage,
    .last_code = lastCode,
    .device_count = guarded<deviceCount>,
    .device_properties = guarded<deviceProperties>,
    .can_access_peer = guarded<canAccessPeer>,
    .live_counts = guarded<liveCounts>,
    .memory_allocate = guarded<memoryAllocate>,
    .memory_free = guarded<memoryFree>,
    .memory_export = guarded<memoryExport>,
    .memory_import = guarded<memoryImport>,
    .memory_release = guarded<memoryRelease>,
    .memory_export_dmabuf = guarded<memoryExportDMABuf>,
    .memory_copy = guarded<memoryCopy>,
    .memory_fill = guarded<memoryFill>,
    .stream_create = guarded<streamCreate>,
    .stream_borrow = guarded<streamBorrow>,
    .stream_destroy = guarded<streamDestroy>,
    .stream_native = guarded<streamNative>,
    .stream_synchronize = guarded<streamSynchronize>,
    .stream_expect_wait = streamExpectWait,
    .stream_query = guarded<streamQuery>,
    .stream_wait_event = guarded<streamWaitEvent>,
    .stream_callback = guarded<streamCallback>,
    .event_create = guarded<eventCreate>,
    .event_destroy = guarded<eventDestroy>,
    .event_record = guarded<eventRecord>,
    .event_synchronize = guarded<eventSynchronize>,
    .event_query = guarded<eventQuery>,
    .event_elapsed_ns = guarded<eventElapsed>,
    .capture_begin = guarded<captureBegin>,
    .capture_end = guarded<captureEnd>,
    .capture_active = guarded<captureActive>,
    .graph_launch = guarded<graphLaunch>,
    .graph_destroy = guarded<graphDestroy>,
    .plan = guarded<plan>,
    .max_resident_blocks = guarded<maxResidentBlocks>,
    .dispatch = guarded<dispatch>,
    .combine = guarded<combine>,
    .received = guarded<received>,
    .read_clock = guarded<readClock>,
};

}  // namespace
}  // namespace mori::gpu

extern "C" __attribute__((visibility("default"))) const moriep_device_api* moriep_get_api(
    uint32_t version) {
    return version == MORIEP_API_VERSION ? &mori::gpu::kTable : nullptr;
}

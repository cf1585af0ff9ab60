// The host device's table of functions.
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>

#include "Layout/Layout.h"
#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Memory/Allocations.h"
#include "Runtime/Host/Stream/Event.h"
#include "Runtime/Host/Stream/Launch.h"
#include "Runtime/Host/Stream/Stream.h"
#include "Runtime/include/moriep_host.h"

namespace mori::host {
namespace {

/// No C++ exception crosses the ABI: what can be thrown below it is a lack of memory or threads.
template <class Body>
moriep_status guarded(Body&& body) {
    try {
        return body();
    } catch (const std::exception& error) {
        return fail(MORIEP_OUT_OF_MEMORY, 0, "%s", error.what());
    } catch (...) {
        return fail(MORIEP_DEVICE_FAILURE, 0, "an unknown C++ exception");
    }
}

/// The processor's name as the kernel tells it.
void readProcessorName(char* name, size_t size) {
    std::snprintf(name, size, "host processor");
    std::FILE* file = std::fopen("/proc/cpuinfo", "re");
    if (file == nullptr) return;
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
        char* colon = std::strchr(line, ':');
        if (std::strncmp(line, "model name", 10) != 0 || colon == nullptr) continue;
        line[std::strcspn(line, "\n")] = 0;
        std::snprintf(name, size, "%s", colon + 2);
        break;
    }
    std::fclose(file);
}

moriep_status deviceCount(int32_t* count) {
    *count = 1;
    return MORIEP_SUCCESS;
}

moriep_status deviceProperties(int32_t device, moriep_device_properties* out) {
    if (device != 0) return fail(MORIEP_NO_DEVICE, 0, "the host device has ordinal 0 only");
    *out = moriep_device_properties{};
    readProcessorName(out->name, sizeof out->name);
    utsname system{};
    uname(&system);
    std::snprintf(out->architecture,
                  sizeof out->architecture,
                  "%.*s",
                  static_cast<int>(sizeof out->architecture - 1),
                  system.machine);
    out->kind = MORIEP_DEVICE_HOST;
    out->lanes_per_warp = 1;
    const unsigned threads = std::thread::hardware_concurrency();
    out->compute_units = threads > 0 ? static_cast<int32_t>(threads) : 1;
    out->max_warps_per_block = 32;
    out->max_resident_warps = kMaxResidentWarps;
    out->memory_is_host_memory = 1;
    out->memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                        static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    out->shared_bytes_per_block = kSharedBytes;
    return MORIEP_SUCCESS;
}

moriep_status canAccessPeer(int32_t, int32_t, int32_t* out) {
    *out = 1;
    return MORIEP_SUCCESS;
}

moriep_status liveCounts(moriep_live_counts* out) {
    *out = moriep_live_counts{};
    countMemory(out);
    out->streams = liveStreams().load(std::memory_order_relaxed);
    out->events = liveEvents().load(std::memory_order_relaxed);
    out->graphs = liveGraphs().load(std::memory_order_relaxed);
    return MORIEP_SUCCESS;
}

moriep_status memoryCopy(moriep_stream* stream,
                         uint64_t destination,
                         uint64_t source,
                         uint64_t bytes) {
    return guarded([&] { return stream->enqueue(CopyBytes{destination, source, bytes}); });
}

moriep_status memoryFill(moriep_stream* stream, uint64_t address, uint8_t byte, uint64_t bytes) {
    return guarded([&] { return stream->enqueue(FillBytes{address, bytes, byte}); });
}

moriep_status streamCreate(int32_t, moriep_stream** out) {
    return guarded([&] {
        *out = moriep_stream::create();
        return MORIEP_SUCCESS;
    });
}

moriep_status streamBorrow(int32_t, uint64_t, moriep_stream**) {
    return fail(MORIEP_NOT_SUPPORTED, 0, "the host device has no streams of other frameworks");
}

moriep_status streamDestroy(moriep_stream* stream) {
    return guarded([&] {
        stream->close();
        return MORIEP_SUCCESS;
    });
}

moriep_status streamNative(moriep_stream*, uint64_t*) {
    return fail(MORIEP_NOT_SUPPORTED, 0, "a stream of the host device has no other handle");
}

moriep_status streamSynchronize(moriep_stream* stream) { return stream->synchronize(); }

moriep_status streamExpectWait(moriep_stream* stream, int32_t expects) {
    stream->expectWait(expects != 0);
    return MORIEP_SUCCESS;
}

moriep_status streamQuery(moriep_stream* stream) {
    return stream->isIdle() ? MORIEP_SUCCESS : MORIEP_NOT_READY;
}

moriep_status streamWaitEvent(moriep_stream* stream, moriep_event* event) {
    return guarded(
        [&] { return stream->enqueue(WaitEvent{event->event, event->event->requested()}); });
}

moriep_status streamCallback(moriep_stream* stream, void (*function)(void*), void* context) {
    return guarded([&] { return stream->enqueue(HostCallback{function, context}); });
}

moriep_status captureBegin(moriep_stream* stream) {
    return guarded([&] { return stream->beginCapture(); });
}

moriep_status captureEnd(moriep_stream* stream, moriep_graph** out) {
    return guarded([&] { return stream->endCapture(out); });
}

moriep_status captureActive(moriep_stream* stream, int32_t* out) {
    *out = stream->isCapturing() ? 1 : 0;
    return MORIEP_SUCCESS;
}

moriep_status graphLaunch(moriep_graph* graph, moriep_stream* stream) {
    return guarded([&] { return stream->enqueue(LaunchGraph{graph->graph}); });
}

moriep_status graphDestroy(moriep_graph* graph) {
    delete graph;
    liveGraphs().fetch_sub(1, std::memory_order_relaxed);
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

moriep_status maxResidentBlocks(
    int32_t, int32_t, int32_t, int32_t warpsPerBlock, int32_t, int32_t* out) {
    if (warpsPerBlock < 1) return fail(MORIEP_INVALID_ARGUMENT, 0, "%d warps", warpsPerBlock);
    *out = kMaxResidentWarps / warpsPerBlock;
    return MORIEP_SUCCESS;
}

moriep_status dispatch(moriep_stream* stream, const moriep_dispatch_arguments* arguments) {
    return guarded([&] {
        const moriep_status status = checkDispatch(*arguments);
        return status == MORIEP_SUCCESS ? stream->enqueue(*arguments) : status;
    });
}

moriep_status combine(moriep_stream* stream, const moriep_combine_arguments* arguments) {
    return guarded([&] {
        const moriep_status status = checkCombine(*arguments);
        return status == MORIEP_SUCCESS ? stream->enqueue(*arguments) : status;
    });
}

moriep_status received(moriep_stream* stream, const moriep_received_arguments* arguments) {
    return guarded([&] {
        const moriep_status status = checkReceived(*arguments);
        return status == MORIEP_SUCCESS ? stream->enqueue(*arguments) : status;
    });
}

/// Records of the host device have the host's own clock.
moriep_status readClock(moriep_stream*, uint64_t, uint64_t, moriep_clock_reading* out) {
    const uint64_t now = machine::now();
    *out = {now, now, now};
    return MORIEP_SUCCESS;
}

moriep_status createEvent(int32_t device, int32_t timed, moriep_event** out) {
    return guarded([&] { return eventCreate(device, timed, out); });
}

moriep_status recordEvent(moriep_event* event, moriep_stream* stream) {
    return guarded([&] { return eventRecord(event, stream); });
}

moriep_status allocate(int32_t device, int32_t kind, uint64_t bytes, uint64_t* out) {
    return guarded([&] { return memoryAllocate(device, kind, bytes, out); });
}

moriep_status importMemory(int32_t device, const moriep_memory_handle* handle, uint64_t* out) {
    return guarded([&] { return memoryImport(device, handle, out); });
}

moriep_status exportMemory(int32_t device, uint64_t address, moriep_memory_handle* out) {
    return guarded([&] { return memoryExport(device, address, out); });
}

constexpr moriep_device_api kTable = {
    .version = MORIEP_API_VERSION,
    .byte_count = sizeof(moriep_device_api),
    .kind = MORIEP_DEVICE_HOST,
    .can_trace = 1,
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
    .device_count = deviceCount,
    .device_properties = deviceProperties,
    .can_access_peer = canAccessPeer,
    .live_counts = liveCounts,
    .memory_allocate = allocate,
    .memory_free = memoryFree,
    .memory_export = exportMemory,
    .memory_import = importMemory,
    .memory_release = memoryRelease,
    .memory_export_dmabuf = memoryExportDMABuf,
    .memory_copy = memoryCopy,
    .memory_fill = memoryFill,
    .stream_create = streamCreate,
    .stream_borrow = streamBorrow,
    .stream_destroy = streamDestroy,
    .stream_native = streamNative,
    .stream_synchronize = streamSynchronize,
    .stream_expect_wait = streamExpectWait,
    .stream_query = streamQuery,
    .stream_wait_event = streamWaitEvent,
    .stream_callback = streamCallback,
    .event_create = createEvent,
    .event_destroy = eventDestroy,
    .event_record = recordEvent,
    .event_synchronize = eventSynchronize,
    .event_query = eventQuery,
    .event_elapsed_ns = eventElapsed,
    .capture_begin = captureBegin,
    .capture_end = captureEnd,
    .capture_active = captureActive,
    .graph_launch = graphLaunch,
    .graph_destroy = graphDestroy,
    .plan = plan,
    .max_resident_blocks = maxResidentBlocks,
    .dispatch = dispatch,
    .combine = combine,
    .received = received,
    .read_clock = readClock,
};

}  // namespace
}  // namespace mori::host

extern "C" const void* moriep_host_api(uint32_t version) {
    return version == MORIEP_API_VERSION ? &mori::host::kTable : nullptr;
}

#include "Runtime/GPU/Stream.h"

#include <atomic>
#include <cmath>

#include "Runtime/GPU/Device.h"
#include "Runtime/GPU/Status.h"

namespace mori::gpu {
namespace {

std::atomic<int64_t> liveStreams{0};
std::atomic<int64_t> liveEvents{0};

}  // namespace

moriep_status streamCreate(int32_t device, moriep_stream** out) {
    GPU_USE_DEVICE(device);
    MORI_TRY(loadKernels(device));
    NativeStream native = nullptr;
    // Non-blocking: a stream that waited for the legacy default stream could wait for a peer there.
    GPU_TRY(StreamCreateWithFlags, &native, GPU(StreamNonBlocking));
    *out = new moriep_stream{device, native, false};
    liveStreams += 1;
    return MORIEP_SUCCESS;
}

moriep_status streamBorrow(int32_t device, uint64_t native, moriep_stream** out) {
    GPU_USE_DEVICE(device);
    MORI_TRY(loadKernels(device));
    *out = new moriep_stream{
        device, reinterpret_cast<NativeStream>(static_cast<uintptr_t>(native)), true};
    liveStreams += 1;
    return MORIEP_SUCCESS;
}

moriep_status streamDestroy(moriep_stream* stream) {
    if (!stream->borrowed) {
        GPU_USE_DEVICE(stream->device);
        GPU_TRY(StreamDestroy, stream->native);
    }
    delete stream;
    liveStreams -= 1;
    return MORIEP_SUCCESS;
}

moriep_status streamNative(moriep_stream* stream, uint64_t* out) {
    *out = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(stream->native));
    return MORIEP_SUCCESS;
}

moriep_status streamSynchronize(moriep_stream* stream) {
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(StreamSynchronize, stream->native);
    return MORIEP_SUCCESS;
}

moriep_status streamExpectWait(moriep_stream*, int32_t) { return MORIEP_SUCCESS; }

moriep_status streamQuery(moriep_stream* stream) {
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(StreamQuery, stream->native);
    return MORIEP_SUCCESS;
}

moriep_status streamWaitEvent(moriep_stream* stream, moriep_event* event) {
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(StreamWaitEvent, stream->native, event->native, 0);
    return MORIEP_SUCCESS;
}

moriep_status streamCallback(moriep_stream* stream, void (*function)(void*), void* context) {
    GPU_USE_DEVICE(stream->device);
    return check(callHost(stream->native, function, context), kCallHost);
}

moriep_status eventCreate(int32_t device, int32_t timed, moriep_event** out) {
    GPU_USE_DEVICE(device);
    // A thread that waits for an event sleeps, as it would for a file: the cores are the caller's.
    unsigned flags = GPU(EventBlockingSync);
    if (timed == 0) flags |= GPU(EventDisableTiming);
    NativeEvent native = nullptr;
    GPU_TRY(EventCreateWithFlags, &native, flags);
    *out = new moriep_event{device, native};
    liveEvents += 1;
    return MORIEP_SUCCESS;
}

moriep_status eventDestroy(moriep_event* event) {
    GPU_USE_DEVICE(event->device);
    GPU_TRY(EventDestroy, event->native);
    delete event;
    liveEvents -= 1;
    return MORIEP_SUCCESS;
}

moriep_status eventRecord(moriep_event* event, moriep_stream* stream) {
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(EventRecord, event->native, stream->native);
    return MORIEP_SUCCESS;
}

moriep_status eventSynchronize(moriep_event* event) {
    GPU_USE_DEVICE(event->device);
    GPU_TRY(EventSynchronize, event->native);
    return MORIEP_SUCCESS;
}

moriep_status eventQuery(moriep_event* event) {
    GPU_USE_DEVICE(event->device);
    GPU_TRY(EventQuery, event->native);
    return MORIEP_SUCCESS;
}

moriep_status eventElapsed(moriep_event* start, moriep_event* stop, int64_t* out) {
    GPU_USE_DEVICE(start->device);
    float milliseconds = 0;
    GPU_TRY(EventElapsedTime, &milliseconds, start->native, stop->native);
    *out = std::llround(static_cast<double>(milliseconds) * 1e6);
    return MORIEP_SUCCESS;
}

void countStreams(moriep_live_counts* out) {
    out->streams = liveStreams;
    out->events = liveEvents;
}

}  // namespace mori::gpu

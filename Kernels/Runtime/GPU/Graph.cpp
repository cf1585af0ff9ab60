// Captured launches, to be replayed as often as wanted.
#include <atomic>

#include "Runtime/GPU/Status.h"
#include "Runtime/GPU/Stream.h"

namespace mori::gpu {
namespace {

std::atomic<int64_t> liveGraphs{0};

}  // namespace

moriep_status captureBegin(moriep_stream* stream) {
    GPU_USE_DEVICE(stream->device);
    // Relaxed: a Swift task may end the capture on another thread than it began on, and other
    // threads may allocate or query events meanwhile.
    GPU_TRY(StreamBeginCapture, stream->native, GPU(StreamCaptureModeRelaxed));
    return MORIEP_SUCCESS;
}

moriep_status captureEnd(moriep_stream* stream, moriep_graph** out) {
    GPU_USE_DEVICE(stream->device);
    NativeGraph recorded = nullptr;
    GPU_TRY(StreamEndCapture, stream->native, &recorded);
    NativeGraphExec native = nullptr;
    const moriep_status instantiated = check(GPU(GraphInstantiateWithFlags)(&native, recorded, 0),
                                             GPU_PREFIX "GraphInstantiateWithFlags");
    // The recording is done with; of two failures, the first is the one to tell.
    if (instantiated != MORIEP_SUCCESS) {
        (void)GPU(GraphDestroy)(recorded);
        return instantiated;
    }
    const moriep_status destroyed = check(GPU(GraphDestroy)(recorded), GPU_PREFIX "GraphDestroy");
    if (destroyed != MORIEP_SUCCESS) {
        (void)GPU(GraphExecDestroy)(native);
        return destroyed;
    }
    *out = new moriep_graph{stream->device, native};
    liveGraphs += 1;
    return MORIEP_SUCCESS;
}

moriep_status captureActive(moriep_stream* stream, int32_t* out) {
    GPU_USE_DEVICE(stream->device);
    GPU(StreamCaptureStatus) status = GPU(StreamCaptureStatusNone);
    GPU_TRY(StreamIsCapturing, stream->native, &status);
    // One that was invalidated still has to be ended.
    *out = status == GPU(StreamCaptureStatusNone) ? 0 : 1;
    return MORIEP_SUCCESS;
}

moriep_status graphLaunch(moriep_graph* graph, moriep_stream* stream) {
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(GraphLaunch, graph->native, stream->native);
    return MORIEP_SUCCESS;
}

moriep_status graphDestroy(moriep_graph* graph) {
    GPU_USE_DEVICE(graph->device);
    GPU_TRY(GraphExecDestroy, graph->native);
    delete graph;
    liveGraphs -= 1;
    return MORIEP_SUCCESS;
}

void countGraphs(moriep_live_counts* out) { out->graphs = liveGraphs; }

}  // namespace mori::gpu

// Graphs: the work that a stream was given while it was captured.
#include <atomic>

#include "HIP/Stream.h"

namespace {

std::atomic<int64_t> graphs{0};
std::atomic<int64_t> executables{0};

}  // namespace

namespace standin {

int64_t liveGraphs() { return graphs; }
int64_t liveExecutables() { return executables; }

}  // namespace standin

extern "C" {

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode) {
    STANDIN_ENTER(hipStreamBeginCapture);
    if (stream == nullptr) return standin::remember(hipErrorStreamCaptureUnsupported);
    return standin::remember(stream->beginCapture());
}

hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* out) {
    // One that fails has ended the capture as well.
    std::vector<standin::Work> work;
    const hipError_t error = standin::streamOf(stream).endCapture(&work);
    STANDIN_ENTER(hipStreamEndCapture);
    if (error != hipSuccess) return standin::remember(error);
    *out = new ihipGraph{std::move(work)};
    graphs += 1;
    return hipSuccess;
}

hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus* status) {
    STANDIN_ENTER(hipStreamIsCapturing);
    *status = standin::streamOf(stream).isCapturing() ? hipStreamCaptureStatusActive
                                                      : hipStreamCaptureStatusNone;
    return hipSuccess;
}

hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* out, hipGraph_t graph, unsigned long long) {
    STANDIN_ENTER(hipGraphInstantiateWithFlags);
    *out = new hipGraphExec{graph->work};
    executables += 1;
    return hipSuccess;
}

hipError_t hipGraphLaunch(hipGraphExec_t graph, hipStream_t stream) {
    STANDIN_ENTER(hipGraphLaunch);
    for (const standin::Work& work : graph->work) {
        const hipError_t error = standin::enqueue(stream, work);
        if (error != hipSuccess) return standin::remember(error);
    }
    return hipSuccess;
}

hipError_t hipGraphDestroy(hipGraph_t graph) {
    STANDIN_ENTER(hipGraphDestroy);
    delete graph;
    graphs -= 1;
    return hipSuccess;
}

hipError_t hipGraphExecDestroy(hipGraphExec_t graph) {
    STANDIN_ENTER(hipGraphExecDestroy);
    delete graph;
    executables -= 1;
    return hipSuccess;
}

}  // extern "C"

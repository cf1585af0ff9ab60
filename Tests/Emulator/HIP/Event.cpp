// Events: moments of streams.
#include <atomic>

#include "HIP/Stream.h"

namespace standin {

void Moment::reach() {
    std::lock_guard lock(mutex_);
    isReached_ = true;
    time_ = std::chrono::steady_clock::now();
    changed_.notify_all();
}

void Moment::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return isReached_; });
}

bool Moment::isReached() {
    std::lock_guard lock(mutex_);
    return isReached_;
}

std::chrono::steady_clock::time_point Moment::time() {
    std::lock_guard lock(mutex_);
    return time_;
}

namespace {

std::atomic<int64_t> events{0};

/// What an event was last recorded as; null: it was not.
std::shared_ptr<Moment> momentOf(hipEvent_t event) {
    std::lock_guard lock(event->mutex);
    return event->moment;
}

}  // namespace

int64_t liveEvents() { return events; }

}  // namespace standin

using standin::Moment;
using standin::momentOf;

extern "C" {

hipError_t hipEventCreateWithFlags(hipEvent_t* out, unsigned flags) {
    STANDIN_ENTER(hipEventCreateWithFlags);
    *out = new ihipEvent_t;
    (*out)->isTimed = (flags & hipEventDisableTiming) == 0;
    standin::events += 1;
    return hipSuccess;
}

hipError_t hipEventDestroy(hipEvent_t event) {
    STANDIN_ENTER(hipEventDestroy);
    delete event;
    standin::events -= 1;
    return hipSuccess;
}

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
    STANDIN_ENTER(hipEventRecord);
    const bool isCaptured = standin::streamOf(stream).isCapturing();
    std::lock_guard lock(event->mutex);
    event->isCaptured = isCaptured;
    // Inside a graph the order of the work says all.
    if (isCaptured) return hipSuccess;
    event->moment = std::make_shared<Moment>();
    return standin::remember(standin::enqueue(stream, [moment = event->moment] {
        moment->reach();
        return hipSuccess;
    }));
}

hipError_t hipEventSynchronize(hipEvent_t event) {
    STANDIN_ENTER(hipEventSynchronize);
    if (const std::shared_ptr<Moment> moment = momentOf(event)) moment->wait();
    return hipSuccess;
}

hipError_t hipEventQuery(hipEvent_t event) {
    STANDIN_ENTER(hipEventQuery);
    const std::shared_ptr<Moment> moment = momentOf(event);
    return moment == nullptr || moment->isReached() ? hipSuccess
                                                    : standin::remember(hipErrorNotReady);
}

hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start, hipEvent_t stop) {
    STANDIN_ENTER(hipEventElapsedTime);
    const std::shared_ptr<Moment> first = momentOf(start);
    const std::shared_ptr<Moment> last = momentOf(stop);
    if (first == nullptr || last == nullptr || !start->isTimed || !stop->isTimed) {
        return standin::remember(hipErrorInvalidHandle);
    }
    if (!first->isReached() || !last->isReached()) return standin::remember(hipErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(last->time() - first->time()).count();
    return hipSuccess;
}

hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned) {
    STANDIN_ENTER(hipStreamWaitEvent);
    bool isCaptured = false;
    {
        std::lock_guard lock(event->mutex);
        isCaptured = event->isCaptured;
    }
    if (isCaptured) {
        // One stream a graph: what others would add to it is not emulated.
        const bool isCapturing = standin::streamOf(stream).isCapturing();
        return isCapturing ? hipSuccess : standin::remember(hipErrorStreamCaptureIsolation);
    }
    const std::shared_ptr<Moment> moment = momentOf(event);
    if (moment == nullptr) return hipSuccess;
    return standin::remember(standin::enqueue(stream, [moment] {
        moment->wait();
        return hipSuccess;
    }));
}

}  // extern "C"

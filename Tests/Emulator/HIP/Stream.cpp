#include "HIP/Stream.h"

#include <atomic>

namespace {

std::atomic<int64_t> streams{0};

}  // namespace

ihipStream_t::ihipStream_t() : thread_([this] { run(); }) { streams += 1; }

ihipStream_t::~ihipStream_t() {
    {
        std::lock_guard lock(mutex_);
        isEnding_ = true;
        changed_.notify_all();
    }
    thread_.join();
    streams -= 1;
}

void ihipStream_t::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return !queue_.empty() || isEnding_; });
        if (queue_.empty()) return;
        const standin::Work work = std::move(queue_.front());
        queue_.pop_front();
        isBusy_ = true;
        lock.unlock();
        const hipError_t error = work();
        lock.lock();
        if (failure_ == hipSuccess) failure_ = error;
        isBusy_ = false;
        changed_.notify_all();
    }
}

hipError_t ihipStream_t::enqueue(standin::Work work) {
    std::lock_guard lock(mutex_);
    if (capture_ != nullptr) {
        capture_->push_back(std::move(work));
        return hipSuccess;
    }
    queue_.push_back(std::move(work));
    changed_.notify_all();
    return hipSuccess;
}

hipError_t ihipStream_t::synchronize() {
    std::unique_lock lock(mutex_);
    if (capture_ != nullptr) return hipErrorStreamCaptureUnsupported;
    changed_.wait(lock, [&] { return queue_.empty() && !isBusy_; });
    return failure_;
}

hipError_t ihipStream_t::query() {
    std::lock_guard lock(mutex_);
    if (capture_ != nullptr) return hipErrorStreamCaptureUnsupported;
    return queue_.empty() && !isBusy_ ? failure_ : hipErrorNotReady;
}

hipError_t ihipStream_t::beginCapture() {
    std::lock_guard lock(mutex_);
    if (capture_ != nullptr) return hipErrorInvalidValue;
    capture_ = std::make_unique<std::vector<standin::Work>>();
    return hipSuccess;
}

hipError_t ihipStream_t::endCapture(std::vector<standin::Work>* out) {
    std::lock_guard lock(mutex_);
    if (capture_ == nullptr) return hipErrorStreamCaptureUnmatched;
    *out = std::move(*capture_);
    capture_.reset();
    return hipSuccess;
}

bool ihipStream_t::isCapturing() {
    std::lock_guard lock(mutex_);
    return capture_ != nullptr;
}

namespace standin {

ihipStream_t& streamOf(hipStream_t stream) {
    if (stream != nullptr) return *stream;
    static ihipStream_t* standard = [] {
        auto* made = new ihipStream_t;  // outlives static destruction, as its thread does
        streams -= 1;                   // nobody created it
        return made;
    }();
    return *standard;
}

hipError_t enqueue(hipStream_t stream, std::function<hipError_t()> work) {
    return streamOf(stream).enqueue(std::move(work));
}

int64_t liveStreams() { return streams; }

}  // namespace standin

extern "C" {

hipError_t hipStreamCreateWithFlags(hipStream_t* out, unsigned flags) {
    STANDIN_ENTER(hipStreamCreateWithFlags);
    if (flags != hipStreamNonBlocking) return standin::remember(hipErrorInvalidValue);
    *out = new ihipStream_t;
    return hipSuccess;
}

hipError_t hipStreamDestroy(hipStream_t stream) {
    STANDIN_ENTER(hipStreamDestroy);
    if (stream == nullptr) return standin::remember(hipErrorInvalidHandle);
    delete stream;
    return hipSuccess;
}

hipError_t hipStreamSynchronize(hipStream_t stream) {
    STANDIN_ENTER(hipStreamSynchronize);
    return standin::remember(standin::streamOf(stream).synchronize());
}

hipError_t hipStreamQuery(hipStream_t stream) {
    STANDIN_ENTER(hipStreamQuery);
    return standin::remember(standin::streamOf(stream).query());
}

hipError_t hipStreamAddCallback(hipStream_t stream,
                                hipStreamCallback_t callback,
                                void* context,
                                unsigned) {
    STANDIN_ENTER(hipStreamAddCallback);
    return standin::remember(standin::enqueue(stream, [=] {
        callback(stream, hipSuccess, context);
        return hipSuccess;
    }));
}

hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void* context) {
    STANDIN_ENTER(hipLaunchHostFunc);
    return standin::remember(standin::enqueue(stream, [=] {
        function(context);
        return hipSuccess;
    }));
}

}  // extern "C"

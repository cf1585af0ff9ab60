// Streams, events and graphs: what the handles of the runtime point to.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "HIP/Standin.h"

namespace standin {

using Work = std::function<hipError_t()>;

/// One recording of an event.
class Moment {
public:
    void reach();
    void wait();
    bool isReached();
    std::chrono::steady_clock::time_point time();

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool isReached_ = false;
    std::chrono::steady_clock::time_point time_;
};

}  // namespace standin

/// A stream: a thread that does one piece of work after the other.
struct ihipStream_t {
    ihipStream_t();
    ~ihipStream_t();

    /// Puts work at the end, or into the capture.
    hipError_t enqueue(standin::Work work);
    hipError_t synchronize();
    hipError_t query();

    hipError_t beginCapture();
    hipError_t endCapture(std::vector<standin::Work>* out);
    bool isCapturing();

private:
    void run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<standin::Work> queue_;
    bool isBusy_ = false;
    bool isEnding_ = false;
    hipError_t failure_ = hipSuccess;  ///< of work that was done; stays, as a GPU's does
    std::unique_ptr<std::vector<standin::Work>> capture_;
    std::thread thread_;
};

struct ihipEvent_t {
    std::mutex mutex;
    std::shared_ptr<standin::Moment> moment;  ///< null: never recorded
    bool isCaptured = false;
    bool isTimed = true;
};

struct ihipGraph {
    std::vector<standin::Work> work;
};

struct hipGraphExec {
    std::vector<standin::Work> work;
};

namespace standin {

/// The stream of a handle; null stands for the default stream.
ihipStream_t& streamOf(hipStream_t stream);

}  // namespace standin

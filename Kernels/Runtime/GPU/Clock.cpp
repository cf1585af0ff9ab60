#include "Runtime/GPU/Clock.h"

#include <atomic>
#include <ctime>
#include <thread>

#include "Runtime/GPU/Device.h"
#include "Runtime/GPU/Kernels.h"
#include "Runtime/GPU/Status.h"
#include "Runtime/GPU/Stream.h"

namespace mori::gpu {
namespace {

[[maybe_unused]] uint64_t hostTime() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1000000000u + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

moriep_status readClock(moriep_stream* stream,
                        uint64_t address,
                        uint64_t timeout,
                        moriep_clock_reading* out) {
    if constexpr (!kHasTracedKernels) {
        return notTraced();
    } else {
        GPU_USE_DEVICE(stream->device);
        auto* word = reinterpret_cast<uint64_t*>(static_cast<uintptr_t>(address));
        const std::atomic_ref<uint64_t> answer(*word);
        answer.store(0, std::memory_order_relaxed);
        void* parameters[] = {&word};
        out->before_ns = hostTime();
        GPU_TRY(LaunchKernel,
                clockKernelAddress(),
                dim3(1),
                dim3(static_cast<unsigned>(lanesPerWarp())),
                parameters,
                0,
                stream->native);
        // The launch's own store ends this, which comes long before its end is known.
        for (;;) {
            out->device_ns = answer.load(std::memory_order_relaxed);
            out->after_ns = hostTime();
            if (out->device_ns != 0) return MORIEP_SUCCESS;
            if (out->after_ns - out->before_ns > timeout) break;
            std::this_thread::yield();
        }
        // Or the device has failed.
        GPU_TRY(StreamQuery, stream->native);
        return fail(MORIEP_NOT_READY, 0, "the device has not told its time");
    }
}

}  // namespace mori::gpu

// What the threads of one block share: a barrier and the block's memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "Runtime/Host/Threads/Parking.h"

namespace mori::host {

/// Block memory, as much as a GPU's block has, so that what fits here fits there.
constexpr size_t kSharedBytes = 64 * 1024;

/// A barrier that can be used again at once: the last to arrive opens the next generation.
class Barrier {
public:
    void arriveAndWait(int threads) {
        if (threads == 1) return;
        const uint32_t generation = generation_.load(std::memory_order_acquire);
        // acq_rel chains all arrivals; the release of the generation hands them to everyone.
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 ==
            static_cast<uint32_t>(threads)) {
            arrived_.store(0, std::memory_order_relaxed);
            generation_.store(generation + 1, std::memory_order_release);
            wake32(address());
            return;
        }
        // Pairs with the store of the last to arrive, a thread of this launch that runs: every
        // wait for something outside the launch is bounded, so this one ends too.
        for (int turn = 0; generation_.load(std::memory_order_acquire) == generation; ++turn) {
            relax32(turn, address(), generation);
        }
    }

private:
    const uint32_t* address() const { return reinterpret_cast<const uint32_t*>(&generation_); }

    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
};

struct BlockState {
    Barrier barrier;
    int warps = 1;
    std::byte* memory = nullptr;

    /// The bytes from `begin` on; up to `end` must fit.
    std::byte* shared(size_t begin, size_t end) {
        if (end > kSharedBytes) __builtin_trap();  // the launch checked; a kernel of ours is wrong
        return memory + begin;
    }
};

}  // namespace mori::host

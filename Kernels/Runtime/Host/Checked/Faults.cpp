#include "Runtime/Host/Checked/Faults.h"

#if MORI_EP_CHECKED

#include <atomic>
#include <cstdint>

#include "Runtime/Host/Checked/Clock.h"
#include "Runtime/include/moriep_checked.h"

namespace mori::host {
namespace {

/// The place of the allocation that fails among those to come; 0: none does.
std::atomic<int64_t> failing{0};
std::atomic<const char*> failedSite{nullptr};
thread_local bool nextLaunchFails = false;

std::atomic<uint64_t> pauseSeed{0};
std::atomic<uint64_t> longestPause{0};  ///< nanoseconds; 0: none
thread_local uint64_t pauseState = 0;
/// One in so many places pauses.
constexpr uint64_t kPlacesPerPause = 4;

/// splitmix64.
uint64_t nextRandom(uint64_t& state) {
    uint64_t mixed = state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return mixed ^ (mixed >> 31);
}

}  // namespace

bool allocationFails(const char* site) {
    if (failing.load(std::memory_order_relaxed) <= 0) return false;
    if (failing.fetch_sub(1, std::memory_order_relaxed) != 1) return false;
    failedSite.store(site);
    return true;
}

bool launchFails() {
    const bool fails = nextLaunchFails;
    nextLaunchFails = false;
    return fails;
}

void beginWarp(int rank, int block, int warp) {
    if (longestPause.load(std::memory_order_relaxed) == 0) return;
    const uint64_t place =
        uint64_t(uint32_t(rank)) << 40 | uint64_t(uint32_t(block)) << 20 | uint64_t(uint32_t(warp));
    // What the thread did before goes in, so that launches differ.
    pauseState = pauseState * 31 + (pauseSeed.load(std::memory_order_relaxed) ^ place);
}

void mayPause() {
    const uint64_t longest = longestPause.load(std::memory_order_relaxed);
    if (longest == 0 || virtualNow() == 0) return;
    const uint64_t number = nextRandom(pauseState);
    if (number % kPlacesPerPause != 0) return;
    sleepVirtually(nullptr, 0, static_cast<int64_t>((number >> 8) % longest));
}

}  // namespace mori::host

void moriep_fail_allocation(int64_t number) {
    mori::host::failedSite.store(nullptr);
    mori::host::failing.store(number);
}
const char* moriep_failed_allocation(void) { return mori::host::failedSite.load(); }
void moriep_fail_next_launch(void) { mori::host::nextLaunchFails = true; }
void moriep_pause_warps(uint64_t seed, uint64_t nanoseconds) {
    mori::host::pauseSeed.store(seed);
    mori::host::longestPause.store(nanoseconds);
}

#endif

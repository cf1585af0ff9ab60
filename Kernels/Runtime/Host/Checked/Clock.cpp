#include "Runtime/Host/Checked/Clock.h"

#if MORI_EP_CHECKED

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "Runtime/include/moriep_checked.h"

namespace mori::host {
namespace {

constexpr uint64_t kNever = UINT64_MAX;

/// A member that sleeps.
struct Sleeper {
    const uint32_t* word;
    uint64_t until;
    bool isWoken;
    std::condition_variable woken;
};

/// What all members share.
struct Clock {
    std::mutex mutex;
    std::atomic<uint64_t> now{0};  ///< 0: off
    int members = 0;
    std::vector<Sleeper*> sleepers;
};

Clock& sharedClock() {
    static Clock* shared = new Clock;  // outlives every thread
    return *shared;
}

thread_local bool isMember = false;

/// Wakes the sleepers that `isDue` names. They count as awake from here on, not from when the
/// system lets them run.
template <class F>
void wakeSleepers(Clock& clock, F&& isDue) {
    const auto first = std::partition(clock.sleepers.begin(),
                                      clock.sleepers.end(),
                                      [&](const Sleeper* sleeper) { return !isDue(*sleeper); });
    for (auto at = first; at != clock.sleepers.end(); ++at) {
        (*at)->isWoken = true;
        (*at)->woken.notify_one();
    }
    clock.sleepers.erase(first, clock.sleepers.end());
}

/// Lets time pass if nobody has anything to do before it does.
void passTime(Clock& clock) {
    if (static_cast<int>(clock.sleepers.size()) < clock.members) return;
    uint64_t next = kNever;
    for (const Sleeper* sleeper : clock.sleepers) next = std::min(next, sleeper->until);
    const uint64_t now = clock.now.load(std::memory_order_relaxed);
    if (next == kNever || now == 0) return;
    clock.now.store(std::max(now, next), std::memory_order_release);
    wakeSleepers(clock, [&](const Sleeper& sleeper) { return sleeper.until <= next; });
}

void addMembers(int count) {
    std::lock_guard lock(sharedClock().mutex);
    sharedClock().members += count;
    if (count < 0) passTime(sharedClock());
}

}  // namespace

void announceThread() { addMembers(1); }
void beginThread() { isMember = true; }
void endThread() {
    isMember = false;
    addMembers(-1);
}

uint64_t virtualNow() { return sharedClock().now.load(std::memory_order_acquire); }

bool sleepVirtually(const uint32_t* word, uint32_t seen, int64_t nanoseconds) {
    if (!isMember || virtualNow() == 0) return false;
    Clock& shared = sharedClock();
    std::unique_lock lock(shared.mutex);
    // Whoever changed the word since the caller's look may have woken it before it slept.
    if (word != nullptr && __atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return true;
    Sleeper sleeper{word, kNever, false, {}};
    if (nanoseconds >= 0) {
        sleeper.until =
            shared.now.load(std::memory_order_relaxed) + static_cast<uint64_t>(nanoseconds);
    }
    shared.sleepers.push_back(&sleeper);
    passTime(shared);
    sleeper.woken.wait(lock, [&] { return sleeper.isWoken; });
    return true;
}

void wakeVirtually(const uint32_t* word) {
    if (virtualNow() == 0) return;
    std::lock_guard lock(sharedClock().mutex);
    wakeSleepers(sharedClock(), [&](const Sleeper& sleeper) { return sleeper.word == word; });
}

}  // namespace mori::host

using namespace mori::host;

void moriep_start_virtual_clock(void) {
    Clock& shared = sharedClock();
    std::lock_guard lock(shared.mutex);
    if (shared.now.load() == 0) shared.now.store(1'000'000'000);
}

uint64_t moriep_virtual_now(void) { return virtualNow(); }
void moriep_announce_thread(void) { announceThread(); }
void moriep_begin_thread(void) { beginThread(); }
void moriep_end_thread(void) { endThread(); }
void moriep_hold_time(void) { addMembers(1); }
void moriep_release_time(void) { addMembers(-1); }

int32_t moriep_sleep_on(const uint32_t* word, uint32_t seen, int64_t nanoseconds) {
    return sleepVirtually(word, seen, nanoseconds) ? 1 : 0;
}
void moriep_wake(const uint32_t* word) { wakeVirtually(word); }

void moriep_sleep_virtually(uint64_t nanoseconds) {
    sleepVirtually(nullptr, 0, static_cast<int64_t>(nanoseconds));
}

#endif

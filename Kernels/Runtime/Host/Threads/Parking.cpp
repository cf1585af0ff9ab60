#include "Runtime/Host/Threads/Parking.h"

#include "Runtime/Host/Checked/Clock.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace mori::host {
namespace {

constexpr long kSleepNanoseconds = 10'000'000;
constexpr long kNapNanoseconds = 50'000;

/// The half of a signal word that holds the epoch; futexes are 32 bits wide.
const uint32_t* epochHalf(const uint64_t* word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return reinterpret_cast<const uint32_t*>(word) + 1;
#else
    return reinterpret_cast<const uint32_t*>(word);
#endif
}

/// `reach`: 0 for words in memory that processes share, FUTEX_PRIVATE_FLAG for those of one.
void sleepUntilChanged(const uint32_t* word, uint32_t seen, int reach) {
    const timespec limit{0, kSleepNanoseconds};
    syscall(SYS_futex, word, FUTEX_WAIT | reach, seen, &limit, nullptr, 0);
}

void wakeSleepers(const uint32_t* word, int reach) {
    syscall(SYS_futex, word, FUTEX_WAKE | reach, INT_MAX, nullptr, nullptr, 0);
}

void pauseCore() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// Whether this turn has been spent spinning or yielding.
bool stillAwake(int turn, int yieldTurns) {
    if (turn < kSpinTurns) {
        pauseCore();
        return true;
    }
    if (turn < kSpinTurns + yieldTurns && virtualNow() == 0) {
        sched_yield();
        return true;
    }
    return false;
}

}  // namespace

uint64_t now() {
    if (const uint64_t time = virtualNow(); time != 0) return time;
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<uint64_t>(time.tv_nsec);
}

void relax(int turn, const uint64_t* word, uint64_t seen) {
    if (stillAwake(turn, kYieldTurns)) return;
    const uint32_t epoch = static_cast<uint32_t>(seen >> 32);
    if (sleepVirtually(epochHalf(word), epoch, kSleepNanoseconds)) return;
    sleepUntilChanged(epochHalf(word), epoch, 0);
}

void nap(int turn) {
    if (stillAwake(turn, kYieldTurns) || sleepVirtually(nullptr, 0, kNapNanoseconds)) return;
    const timespec time{0, kNapNanoseconds};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

void ringDoorbell(uint64_t* doorbell) {
    // Orders the descriptor's store before this look, as the proxy orders its store of the low
    // half before its last look at the rings: one of the two sees the other. A read-modify-write
    // and no fence, which ThreadSanitizer would not see.
    if (static_cast<uint32_t>(__atomic_fetch_add(doorbell, 0, __ATOMIC_SEQ_CST)) == 0) return;
    __atomic_fetch_add(doorbell, uint64_t(1) << 32, __ATOMIC_SEQ_CST);
    wake(doorbell);
}

void wake(const uint64_t* word) {
    wakeVirtually(epochHalf(word));
    wakeSleepers(epochHalf(word), 0);
}

void relax32(int turn, const uint32_t* word, uint32_t seen) {
    if (stillAwake(turn, kIdleYieldTurns) || sleepVirtually(word, seen, -1)) return;
    sleepUntilChanged(word, seen, FUTEX_PRIVATE_FLAG);
}

void wake32(const uint32_t* word) {
    wakeVirtually(word);
    wakeSleepers(word, FUTEX_PRIVATE_FLAG);
}

}  // namespace mori::host

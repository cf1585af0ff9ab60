// Threads that sleep on words of shared memory, and where threads run.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "CMoriSystem.h"

// Futexes are 32 bits wide. A doorbell's low half says that the proxy sleeps; a word's upper half
// is what waiting threads sleep on.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { kLowHalf = 0, kUpperHalf = 1 };
#else
enum { kLowHalf = 1, kUpperHalf = 0 };
#endif

// Clocks, waits and wakes of a checked build may be virtual (Kernels/Runtime/Host/Checked).
#if MORI_EP_CHECKED
uint64_t moriep_virtual_now(void);
void moriep_announce_thread(void);
void moriep_begin_thread(void);
void moriep_end_thread(void);
int32_t moriep_sleep_on(const uint32_t* word, uint32_t seen, int64_t nanoseconds);
void moriep_wake(const uint32_t* word);
#else
static uint64_t moriep_virtual_now(void) { return 0; }
static void moriep_announce_thread(void) {}
static void moriep_begin_thread(void) {}
static void moriep_end_thread(void) {}
static int32_t moriep_sleep_on(const uint32_t* word, uint32_t seen, int64_t nanoseconds) {
    (void)word, (void)seen, (void)nanoseconds;
    return 0;
}
static void moriep_wake(const uint32_t* word) { (void)word; }
#endif

static uint32_t* half(const uint64_t* word, int which) { return (uint32_t*)word + which; }

// Not FUTEX_PRIVATE: ranks may be processes that share the word's memory.
static void wakeSleepers(const uint64_t* word) {
    moriep_wake(half(word, kUpperHalf));
    syscall(SYS_futex, half(word, kUpperHalf), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void mori_wake_word(const uint64_t* word) { wakeSleepers(word); }

uint32_t mori_doorbell_arm(uint64_t* doorbell) {
    // The count is read before the flag is raised, and the rings are looked at after both: whoever
    // stored a descriptor too late for that look sees the flag, and counts up before the sleep or
    // wakes it. Pairs with the fence in mori_doorbell_ring and in the kernels' ring.
    const uint32_t seen = __atomic_load_n(half(doorbell, kUpperHalf), __ATOMIC_ACQUIRE);
    __atomic_store_n(half(doorbell, kLowHalf), 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return seen;
}

void mori_doorbell_sleep(const uint64_t* doorbell, uint32_t seen, int64_t nanoseconds) {
    if (moriep_sleep_on(half(doorbell, kUpperHalf), seen, nanoseconds)) return;
    const struct timespec limit = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    syscall(SYS_futex, half(doorbell, kUpperHalf), FUTEX_WAIT, seen, &limit, NULL, 0);
}

void mori_doorbell_disarm(uint64_t* doorbell) {
    __atomic_store_n(half(doorbell, kLowHalf), 0, __ATOMIC_RELEASE);
}

void mori_doorbell_ring(uint64_t* doorbell) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(half(doorbell, kLowHalf), __ATOMIC_RELAXED) == 0) return;
    __atomic_fetch_add(half(doorbell, kUpperHalf), 1, __ATOMIC_RELEASE);
    wakeSleepers(doorbell);
}

int64_t mori_monotonic_nanoseconds(void) {
    const uint64_t now = moriep_virtual_now();
    if (now != 0) return (int64_t)now;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void mori_announce_thread(void) { moriep_announce_thread(); }
void mori_begin_thread(void) { moriep_begin_thread(); }
void mori_end_thread(void) { moriep_end_thread(); }

void mori_prepare_thread(const char* name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
    prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
}

int32_t mori_pin_thread(const int32_t* processors, int32_t count) {
    int32_t end = 1;
    for (int32_t index = 0; index < count; ++index) {
        if (processors[index] < 0) return EINVAL;
        if (processors[index] >= end) end = processors[index] + 1;
    }
    cpu_set_t* set = CPU_ALLOC((size_t)end);
    if (set == NULL) return ENOMEM;
    const size_t size = CPU_ALLOC_SIZE((size_t)end);
    CPU_ZERO_S(size, set);
    for (int32_t index = 0; index < count; ++index) CPU_SET_S((size_t)processors[index], size, set);
    const int32_t status = sched_setaffinity(0, size, set) == 0 ? 0 : errno;
    CPU_FREE(set);
    return status;
}

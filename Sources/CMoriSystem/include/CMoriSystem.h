// What Swift's Glibc lacks. One function a need, each with its reason.
#ifndef CMORISYSTEM_H
#define CMORISYSTEM_H

#include <stdint.h>

/// Stores a word that device code polls. Swift's Atomic owns its storage; this word lies in memory
/// that the device's runtime allocated.
static inline void mori_store_release_u64(uint64_t* word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/// Reads a word that device code stores with release.
static inline uint32_t mori_load_acquire_u32(const uint32_t* word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/// Reads a word that device code stores with release.
static inline uint64_t mori_load_acquire_u64(const uint64_t* word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/// Reads a word of a statistic, which announces nothing.
static inline uint64_t mori_load_relaxed_u64(const uint64_t* word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/// Stores a word of a statistic, which has one writer at a time.
static inline void mori_store_relaxed_u64(uint64_t* word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/// Tells the core that this thread spins.
static inline void mori_pause_core(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// Wakes the threads, of any process, that sleep on the upper half of this word, where host kernels
/// wait for signal words and count words. Swift's Glibc has no futex.
void mori_wake_word(const uint64_t* word);

/// The proxy is about to sleep: raises the low half of its doorbell and returns the count in the
/// upper half. The proxy then looks at its rings once more before it sleeps.
uint32_t mori_doorbell_arm(uint64_t* doorbell);

/// Sleeps until somebody rings, `seen` being what `mori_doorbell_arm` returned, and no longer than
/// these nanoseconds.
void mori_doorbell_sleep(const uint64_t* doorbell, uint32_t seen, int64_t nanoseconds);

/// The proxy is awake again: lowers the low half.
void mori_doorbell_disarm(uint64_t* doorbell);

/// Wakes the proxy if it sleeps or is about to. Comes after the store that it is to see.
void mori_doorbell_ring(uint64_t* doorbell);

/// Nanoseconds of the monotonic clock, by which the device's kernels wait too.
int64_t mori_monotonic_nanoseconds(void);

/// A thread that sleeps on a doorbell is announced by whoever starts it, and begins and ends by
/// itself: a virtual clock has to know of it. Nothing outside of checked builds.
void mori_announce_thread(void);
void mori_begin_thread(void);
void mori_end_thread(void);

/// Names the calling thread for debuggers, at most 15 bytes, and lets it sleep as short as it asks
/// for: a thread's timers are 50 microseconds late by default.
void mori_prepare_thread(const char* name);

/// Keeps the calling thread on these processors, and returns 0 or an errno.
int32_t mori_pin_thread(const int32_t* processors, int32_t count);

/// The descriptor by which a spawned program sees its launcher's end.
#define MORI_LIFELINE_DESCRIPTOR 3

/// What a program starts with.
typedef struct mori_spawn_request {
    /// The program's file.
    const char* path;
    /// Its arguments, the name first, ended by NULL.
    const char* const* arguments;
    /// Its environment, ended by NULL.
    const char* const* environment;
    /// What become descriptors 0, 1 and 2.
    int32_t input;
    int32_t output;
    int32_t error;
    /// What becomes MORI_LIFELINE_DESCRIPTOR; below 0: nothing.
    int32_t lifeline;
} mori_spawn_request;

/// Starts a program with these descriptors and no others, and returns 0 or an errno, exec's
/// included. The kernel kills the program when the calling thread ends, which therefore waits for
/// it; posix_spawn cannot ask for that.
int32_t mori_spawn(const mori_spawn_request* request, int32_t* pid);

/// From now on SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 are only noted. Those that
/// this process ignores, as under nohup, stay ignored.
void mori_catch_signals(void);

/// Returns the signals that were noted since the last call, bit s for signal s. A handler written
/// in Swift could call what is not safe in one.
uint64_t mori_take_signals(void);

/// Whether a child has ended; it is not reaped, so that its number stays its own.
int32_t mori_has_ended(int32_t pid);

/// Makes orphans of this process's descendants its own children, and returns 0 or an errno.
int32_t mori_adopt_orphans(void);

/// Makes a pipe that programs do not inherit, its read end first, and returns 0 or an errno.
int32_t mori_pipe(int32_t* ends);

/// Returns a port of 127.0.0.1 that nobody listens on now, or a negative errno.
int32_t mori_free_port(void);

#endif

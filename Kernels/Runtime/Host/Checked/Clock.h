// A virtual clock for the host device's threads: time passes only when none of them has anything
// to do, so deadlines are exact however busy the machine is. Only in a checked build.
//
// Every thread that may wait is a member: streams, warps of the pool, the proxy's thread, and for
// as long as it says so whoever enqueues. A member sleeps on a word, as on a futex, or for a time.
// When all members sleep the clock goes to the first moment that one of them waits for: whatever
// takes any time at all happens after everything that takes none.
#pragma once

#include <cstdint>

namespace mori::host {

#if MORI_EP_CHECKED

/// Another thread is about to become a member; said by whoever starts it.
void announceThread();
/// The calling thread is one that was announced.
void beginThread();
/// It ends.
void endThread();
/// The virtual clock's time; 0 while it is off.
uint64_t virtualNow();
/// Whether the calling thread slept by the virtual clock: until `word` is woken, unless it differs
/// from `seen` already, or so many nanoseconds. Null: on no word. Negative: for as long as it
/// takes.
bool sleepVirtually(const uint32_t* word, uint32_t seen, int64_t nanoseconds);
/// Wakes whoever sleeps on a word.
void wakeVirtually(const uint32_t* word);

#else

inline void announceThread() {}
inline void beginThread() {}
inline void endThread() {}
inline uint64_t virtualNow() { return 0; }
inline bool sleepVirtually(const uint32_t*, uint32_t, int64_t) { return false; }
inline void wakeVirtually(const uint32_t*) {}

#endif

}  // namespace mori::host

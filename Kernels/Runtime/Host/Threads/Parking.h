// How a thread of the host device waits for a word: spins, then yields, then sleeps on a futex.
#pragma once

#include <cstdint>

namespace mori::host {

/// Looks at a word before a waiting thread gives its core away: about a microsecond.
constexpr int kSpinTurns = 20;
/// Looks with a yield between them before it sleeps, at what a peer stores: it will come soon, and
/// an idle core of a virtual machine is late to wake.
constexpr int kYieldTurns = 100;
/// The same at what a thread of this process stores: it may be long until there is work.
constexpr int kIdleYieldTurns = 16;

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
uint64_t now();

/// Between two looks at `word`, which read `seen` in turn `turn`. Sleeps 10 ms at most, so that
/// deadlines and abort words are seen.
void relax(int turn, const uint64_t* word, uint64_t seen);

/// Between two looks at a word whose writer wakes nobody: sleeps 50 microseconds at a time.
void nap(int turn);

/// Wakes the proxy if it sleeps on its doorbell: low half 1 while it sleeps, upper half a count.
void ringDoorbell(uint64_t* doorbell);

/// Wakes the threads, of any process, that sleep in `relax` on this word.
void wake(const uint64_t* word);

/// The same for a 32-bit word of one process.
void relax32(int turn, const uint32_t* word, uint32_t seen);
void wake32(const uint32_t* word);

}  // namespace mori::host

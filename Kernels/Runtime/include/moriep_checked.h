// What only a checked build of the host device has: the package trait Checked, which nothing but
// this package's own tests turns on.
#ifndef MORIEP_CHECKED_H
#define MORIEP_CHECKED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Seeded mistakes in the kernels (Kernels/Device/Mutants.h), numbered from 1.
int32_t moriep_mutant_count(void);
/// A mutant's name, and what it does wrong; null for a number that is none.
const char* moriep_mutant_name(int32_t number);
const char* moriep_mutant_words(int32_t number);
/// Switches one on for all kernels that begin from now on; 0: none.
void moriep_use_mutant(int32_t number);

/// From now on the host device's threads wait by a virtual clock (Host/Checked/Clock.h), which
/// begins at one second.
void moriep_start_virtual_clock(void);
/// Its time in nanoseconds; 0: it was not started.
uint64_t moriep_virtual_now(void);
/// No time passes from now on, until it was released as often as it was held. Whoever enqueues
/// work holds it, and whoever waits for the work does not.
void moriep_hold_time(void);
void moriep_release_time(void);
/// On one of the clock's threads, a stream's for one: returns so much later.
void moriep_sleep_virtually(uint64_t nanoseconds);

/// Of the allocations, mappings and threads that the host device takes from now on, the one with
/// this number finds none, 1 being the next; 0: none does.
void moriep_fail_allocation(int64_t number);
/// Which place that was; null: none has failed since.
const char* moriep_failed_allocation(void);
/// On a stream's thread: its next launch finds no memory.
void moriep_fail_next_launch(void);
/// From now on warps pause before some of their copies, words and additions, so long at most by the
/// virtual clock; 0: none does.
void moriep_pause_warps(uint64_t seed, uint64_t nanoseconds);

/// From now on every access of symmetric memory is held against all others
/// (Host/Checked/Races.h), everything before being ordered; 0: no more.
void moriep_check_races(int32_t on);
/// How many races were found since, 50 at most, and what each is about.
int32_t moriep_race_count(void);
const char* moriep_race(int32_t index);
/// Whether rows are stored past the caches, whatever their number.
void moriep_stream_always(int32_t on);
/// The calling thread works for this proxy of a rank; null: for none any more.
void moriep_race_become(const void* proxy, int32_t rank);
/// The proxy takes a descriptor, by its first word; stores a count word.
void moriep_race_take(const void* word, uint64_t value);
void moriep_race_tell(const void* word, uint64_t value);
/// The proxy posts to a queue. Later the queue reads and writes a payload, at the moment of its
/// that is returned, stores a word, and has completed what it did up to a moment.
void moriep_race_post(const void* queue);
uint32_t moriep_race_payload(const void* queue,
                             void* destination,
                             const void* source,
                             uint64_t bytes);
void moriep_race_word(const void* queue, const void* word, uint64_t value);
void moriep_race_complete(const void* queue, uint32_t moment);

/// For other threads that wait: announced by whoever starts one, then begun and ended by itself.
void moriep_announce_thread(void);
void moriep_begin_thread(void);
void moriep_end_thread(void);
/// Sleeps by the virtual clock until `word` is woken, unless it differs from `seen`, or so many
/// nanoseconds; 0: the clock is off, or the thread is not one of its own.
int32_t moriep_sleep_on(const uint32_t* word, uint32_t seen, int64_t nanoseconds);
/// Wakes those of its threads that sleep on a word.
void moriep_wake(const uint32_t* word);

#ifdef __cplusplus
}
#endif

#endif

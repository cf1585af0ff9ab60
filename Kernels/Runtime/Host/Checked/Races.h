// Whether everything that ranks access in symmetric memory is ordered, by the rules of GPUs. Only
// in a checked build.
//
// An access is ordered after another one if the warp that makes it knows of the other. What a warp
// knows, and what it may tell:
//
//   its block's barrier   tells the block's warps what each knows; nobody beyond the block
//   publish               lets the own accesses so far be told to everyone
//   a word                tells what may be told: the own accesses, and what was learned itself
//   a poll                has learned it only once the warp acquires
//   a launch              begins knowing what its stream does, and its end publishes and acquires
//   a queue of a NIC      knows what its posts knew; a word tells what went by the same queue
//
// So a barrier in place of a publish, a word without an acquire, or a word that overtakes payload
// leaves accesses unordered, whatever the host's processor makes of them. Vector clocks say who
// knows what; shadow memory says who accessed each four bytes last (Shadow.h); the compiler says
// who accesses what (Instrumentation.cpp).
#pragma once

#include <cstdint>

namespace mori::host::races {

#if MORI_EP_CHECKED

/// A launch of so many blocks, so many bytes apart, begins on a stream.
void beginLaunch(const void* stream, const void* firstBlock, uint64_t distance, int blocks);
/// The calling thread is one of its warps from here to the end.
void beginWarp(const void* stream, const void* block, int warp);
void endWarp(const void* stream);
/// Before and after a barrier of the block.
void arrive();
void leave();
/// A fence that makes the own stores visible to the system; not streaming stores, if there are
/// any that were not fenced as such.
void publish();
void noteStreaming(void* destination, const void* source, uint64_t bytes);
void finishStreaming();
/// Makes what was polled known.
void acquire();
/// A word of one writer, before its store, and a look at it, after its load.
void tell(const void* word, uint64_t value);
void poll(const void* word, uint64_t value);
/// A word that many add to or exchange: before that it tells what may be told, but for the warp's
/// own accesses since its last publish; after it the warp has polled what was told before.
void tellSum(const void* word);
void pollSum(const void* word);
/// Names what lies in the symmetric memory of an operator.
void nameMemory(const void* operatorFields);
/// Symmetric memory came or went.
void addMemory(uint64_t address, uint64_t bytes);
void removeMemory(uint64_t address);
/// Whether rows are stored past the caches whatever their number.
bool streamsAlways();

#else

inline void beginLaunch(const void*, const void*, uint64_t, int) {}
inline void beginWarp(const void*, const void*, int) {}
inline void endWarp(const void*) {}
inline void arrive() {}
inline void leave() {}
inline void publish() {}
inline void noteStreaming(void*, const void*, uint64_t) {}
inline void finishStreaming() {}
inline void acquire() {}
inline void tell(const void*, uint64_t) {}
inline void poll(const void*, uint64_t) {}
inline void tellSum(const void*) {}
inline void pollSum(const void*) {}
inline void nameMemory(const void*) {}
inline void addMemory(uint64_t, uint64_t) {}
inline void removeMemory(uint64_t) {}
inline bool streamsAlways() { return false; }

#endif

}  // namespace mori::host::races

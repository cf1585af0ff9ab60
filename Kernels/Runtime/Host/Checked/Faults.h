// Allocations and launches of the host device that fail on command, and warps that pause where
// they would not. Only in a checked build.
#pragma once

#include <cstdint>
#include <new>

namespace mori::host {

#if MORI_EP_CHECKED
/// Asked at every place that takes memory, threads or mappings from the system: whether it is to
/// find none. `site` names the place.
bool allocationFails(const char* site);
/// Asked when a launch begins, on its stream's thread.
bool launchFails();
/// A warp of a launch begins: its pauses depend on this and on the seed alone.
void beginWarp(int rank, int block, int warp);
/// Asked before copies, words and additions: pauses now and then, if so commanded.
void mayPause();
#else
inline bool allocationFails(const char*) { return false; }
inline bool launchFails() { return false; }
inline void beginWarp(int, int, int) {}
inline void mayPause() {}
#endif

/// The same where a lack of memory is an exception.
inline void mayThrow(const char* site) {
    if (allocationFails(site)) throw std::bad_alloc();
}

}  // namespace mori::host

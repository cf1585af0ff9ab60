// What the machine runs itself instead of by translated functions.
#pragma once

#include "Machine/Wave.h"

namespace emulator {

/// FLAT, GLOBAL and SCRATCH: loads, stores and atomics on host memory. False: unknown.
bool runAccess(Wave& wave, const uint32_t* words);

/// s_waitcnt: waits for vector memory.
void runWait(Wave& wave, uint32_t word);

/// s_memtime and s_memrealtime, which read `ticks`.
void runTime(Wave& wave, uint32_t word, uint64_t ticks);

/// Jumps through registers, the program counter and the apertures' addresses. False: unknown.
bool runControl(Wave& wave, uint32_t word);

/// ds_swizzle, ds_permute and ds_bpermute. False: unknown.
bool runPermute(Wave& wave, const uint32_t* words);

}  // namespace emulator

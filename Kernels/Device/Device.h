// The kernel language: one interface, three machines.
//
// A kernel body is ordinary code that every warp of a block runs with the same values; lanes appear
// only inside the primitives of Warp. What each machine's file defines:
//
//   class Warp        index(), lanes, elect, each, any, sum, combineBits, sync, broadcast,
//                     copy, copyToMany, accumulate, fill
//   class BlockWarp   a Warp that alone works for its block: elect and each hand out a BlockOnce
//   class Block       index(), count(), warps(), warp(), once, sync, publish, shared
//   machine::         loads, stores and atomics of words with their scope, clock, relax
//
// and what all machines share, on top of that: signal words and bounded waits (Shmem/Signal.h).
#pragma once

#include "Device/Element.h"
#include "Device/Machine.h"
#include "Device/Types.h"

#if MORI_MACHINE_AMD
#include "Device/AMD.h"
#include "Device/WireLanes.h"
#elif MORI_MACHINE_NVIDIA
#include "Device/NVIDIA.h"
#include "Device/WireLanes.h"
#else
#include "Device/Host.h"
#include "Device/WireHost.h"
#endif

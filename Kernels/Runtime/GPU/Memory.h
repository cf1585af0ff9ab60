// Memory of a GPU: its own, symmetric memory for peers, and pinned host memory.
#pragma once

#include "moriep.h"

namespace mori::gpu {

moriep_status memoryAllocate(int32_t device, int32_t kind, uint64_t bytes, uint64_t* out);
moriep_status memoryFree(int32_t device, int32_t kind, uint64_t address);
moriep_status memoryCopy(moriep_stream* stream,
                         uint64_t destination,
                         uint64_t source,
                         uint64_t bytes);
moriep_status memoryFill(moriep_stream* stream, uint64_t address, uint8_t byte, uint64_t bytes);

/// Bytes of the allocation of this kind that begins at an address; 0: there is none.
uint64_t allocatedBytes(uint64_t address, int32_t kind);

/// Fills in allocations and allocated_bytes.
void countAllocations(moriep_live_counts* out);

}  // namespace mori::gpu

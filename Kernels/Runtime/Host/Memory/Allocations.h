// Memory of the host device: anonymous for itself, memfd for what peers map.
#pragma once

#include "moriep.h"

namespace mori::host {

moriep_status memoryAllocate(int32_t device, int32_t kind, uint64_t bytes, uint64_t* out);
moriep_status memoryFree(int32_t device, int32_t kind, uint64_t address);
moriep_status memoryExport(int32_t device, uint64_t address, moriep_memory_handle* out);
moriep_status memoryImport(int32_t device, const moriep_memory_handle* handle, uint64_t* out);
moriep_status memoryRelease(int32_t device, const moriep_memory_handle* handle, uint64_t address);
moriep_status memoryExportDMABuf(
    int32_t device, uint64_t address, uint64_t bytes, int32_t* descriptor, uint64_t* offset);

/// Fills in allocations, allocated_bytes and imports.
void countMemory(moriep_live_counts* out);

}  // namespace mori::host

// Symmetric memory across processes, devices and NICs: handles, peer access, DMA-BUF.
#pragma once

#include "moriep.h"

namespace mori::gpu {

moriep_status canAccessPeer(int32_t device, int32_t peer, int32_t* out);
moriep_status memoryExport(int32_t device, uint64_t address, moriep_memory_handle* out);
moriep_status memoryImport(int32_t device, const moriep_memory_handle* handle, uint64_t* out);
moriep_status memoryRelease(int32_t device, const moriep_memory_handle* handle, uint64_t address);
moriep_status memoryExportDMABuf(
    int32_t device, uint64_t address, uint64_t bytes, int32_t* descriptor, uint64_t* offset);

/// Fills in imports.
void countImports(moriep_live_counts* out);

}  // namespace mori::gpu

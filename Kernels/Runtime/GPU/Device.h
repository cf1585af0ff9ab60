// Devices: how many, what they are, and what fits on them.
#pragma once

#include "Runtime/GPU/Kernels.h"
#include "moriep.h"

namespace mori::gpu {

/// Block memory that a launch may ask for: what every supported GPU has.
constexpr uint64_t kMaxSharedBytes = 64 * 1024;

moriep_status deviceCount(int32_t* count);
moriep_status deviceProperties(int32_t device, moriep_device_properties* out);
moriep_status maxResidentBlocks(int32_t device,
                                int32_t kernelType,
                                int32_t verb,
                                int32_t warpsPerBlock,
                                int32_t traced,
                                int32_t* out);

/// What is said of a traced launch where the kernels for it were left out.
moriep_status notTraced();

/// Loads every kernel onto a device, which is current, at its first use: the runtimes load lazily,
/// and loading synchronizes with kernels that may be waiting for a peer (protocol rule P19).
moriep_status loadKernels(int32_t device);

/// Blocks of a verb's grid that are resident at once with this block memory, of the kernels that
/// leave traces or of the others; the device is current.
moriep_status residentBlocks(int32_t device,
                             int32_t kernelType,
                             int32_t verb,
                             int32_t warpsPerBlock,
                             bool traced,
                             uint64_t shared,
                             int32_t* out);

}  // namespace mori::gpu

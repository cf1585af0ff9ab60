#include "Runtime/GPU/Device.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "Runtime/GPU/Status.h"

namespace mori::gpu {
namespace {

/// What was asked of the runtime once and does not change.
struct Registry {
    std::mutex mutex;
    std::set<int32_t> loaded;
    /// Device, kernel type, verb, warps of a block, traced, bytes of block memory; to blocks.
    std::map<std::tuple<int32_t, int32_t, int32_t, int32_t, bool, uint64_t>, int32_t> resident;
};

Registry& registry() {
    static Registry* shared = new Registry;  // outlives static destruction
    return *shared;
}

/// Block memory for the most demanding of usual shapes: a full node of 64 ranks. Where an answer is
/// needed before there is a shape, it holds for every shape that asks for less.
uint64_t usualSharedBytes(int32_t kernelType, int32_t verb, int32_t warpsPerBlock) {
    moriep_shape shape{};
    shape.kernel_type = kernelType;
    shape.world_size = 64;
    shape.node_ranks = 8;
    shape.top_k = 64;
    return std::min(sharedBytes(verb, shape, warpsPerBlock), kMaxSharedBytes);
}

moriep_status computeUnits(int32_t device, int32_t* out) {
    int units = 0;
#if defined(__HIP_PLATFORM_AMD__)
    GPU_TRY(DeviceGetAttribute, &units, hipDeviceAttributeMultiprocessorCount, device);
#else
    GPU_TRY(DeviceGetAttribute, &units, cudaDevAttrMultiProcessorCount, device);
#endif
    *out = units;
    return MORIEP_SUCCESS;
}

/// Refuses a driver whose interfaces are older than those that this library was compiled with.
moriep_status checkDriver() {
    int version = 0;
    GPU_TRY(DriverGetVersion, &version);
    if (version / kVersionsOfMajor >= kRuntimeVersion / kVersionsOfMajor) return MORIEP_SUCCESS;
    return fail(MORIEP_NOT_SUPPORTED,
                0,
                "the driver is of version %d, and this library was built for %d: update the "
                "driver, or build the library with the driver's toolkit",
                version,
                kRuntimeVersion);
}

}  // namespace

moriep_status deviceCount(int32_t* count) {
    *count = 0;
    int found = 0;
    GPU_TRY(GetDeviceCount, &found);
    // Where there is no device there may be no driver.
    if (found > 0) MORI_TRY(checkDriver());
    *count = found;
    return MORIEP_SUCCESS;
}

moriep_status deviceProperties(int32_t device, moriep_device_properties* out) {
    GPU_USE_DEVICE(device);
    MORI_TRY(loadKernels(device));
    Properties properties{};
    GPU_TRY(GetDeviceProperties, &properties, device);
    *out = moriep_device_properties{};
    std::snprintf(out->name,
                  sizeof out->name,
                  "%.*s",
                  static_cast<int>(sizeof out->name - 1),
                  properties.name);
#if defined(__HIP_PLATFORM_AMD__)
    std::snprintf(out->architecture,
                  sizeof out->architecture,
                  "%.*s",
                  static_cast<int>(sizeof out->architecture - 1),
                  properties.gcnArchName);
#else
    std::snprintf(
        out->architecture, sizeof out->architecture, "sm_%d%d", properties.major, properties.minor);
#endif
    out->kind = kKind;
    out->lanes_per_warp = lanesPerWarp();
    out->compute_units = properties.multiProcessorCount;
    out->max_warps_per_block = maxWarpsPerBlock();
    out->memory_is_host_memory = kMemoryIsHostMemory ? 1 : 0;
    out->memory_bytes = properties.totalGlobalMem;
    out->shared_bytes_per_block = kMaxSharedBytes;
    // The most that any block size makes resident, of the verb that fits worse.
    out->max_resident_warps = INT32_MAX;
    for (const int32_t verb : {MORIEP_VERB_DISPATCH, MORIEP_VERB_COMBINE}) {
        int32_t most = 0;
        for (int32_t warps = 1; warps <= maxWarpsPerBlock(); ++warps) {
            int32_t blocks = 0;
            MORI_TRY(maxResidentBlocks(device, MORIEP_INTRANODE, verb, warps, 0, &blocks));
            most = std::max(most, blocks * warps);
        }
        out->max_resident_warps = std::min(out->max_resident_warps, most);
    }
    return MORIEP_SUCCESS;
}

moriep_status maxResidentBlocks(int32_t device,
                                int32_t kernelType,
                                int32_t verb,
                                int32_t warpsPerBlock,
                                int32_t traced,
                                int32_t* out) {
    if (!isKernelType(kernelType)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "kernel type %d", kernelType);
    }
    if (verb < MORIEP_VERB_DISPATCH || verb > MORIEP_VERB_RECEIVED) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "verb %d", verb);
    }
    if (warpsPerBlock < 1 || warpsPerBlock > maxWarpsPerBlock()) {
        return fail(MORIEP_INVALID_ARGUMENT,
                    0,
                    "%d warps a block; 1 to %d are possible",
                    warpsPerBlock,
                    maxWarpsPerBlock());
    }
    if (traced != 0 && !kHasTracedKernels) return notTraced();
    GPU_USE_DEVICE(device);
    MORI_TRY(loadKernels(device));
    const uint64_t shared = usualSharedBytes(kernelType, verb, warpsPerBlock);
    return residentBlocks(device, kernelType, verb, warpsPerBlock, traced != 0, shared, out);
}

moriep_status notTraced() {
    return fail(MORIEP_NOT_SUPPORTED,
                0,
                "this library was built without the kernels that leave traces: build it without "
                "MORI_EP_TRACES=0");
}

moriep_status loadKernels(int32_t device) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    if (known.loaded.count(device) != 0) return MORIEP_SUCCESS;
    // Those that leave traces too: a trace begins while kernels wait.
    for (const bool traced : {false, true}) {
        if (traced && !kHasTracedKernels) continue;
        for (int number = 0; number < static_cast<int>(Kernel::count); ++number) {
            const void* kernel = kernelAddress(static_cast<Kernel>(number), traced);
            GPU(FuncAttributes) attributes{};
            GPU_TRY(FuncGetAttributes, &attributes, kernel);
#if !defined(__HIP_PLATFORM_AMD__)
            // CUDA gives 48 KiB of block memory to a kernel that does not ask for more.
            GPU_TRY(FuncSetAttribute,
                    kernel,
                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                    static_cast<int>(kMaxSharedBytes));
#endif
        }
    }
    if constexpr (kHasTracedKernels) {
        GPU(FuncAttributes) attributes{};
        GPU_TRY(FuncGetAttributes, &attributes, clockKernelAddress());
    }
    known.loaded.insert(device);
    return MORIEP_SUCCESS;
}

moriep_status residentBlocks(int32_t device,
                             int32_t kernelType,
                             int32_t verb,
                             int32_t warpsPerBlock,
                             bool traced,
                             uint64_t shared,
                             int32_t* out) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const std::tuple key{device, kernelType, verb, warpsPerBlock, traced, shared};
    const auto found = known.resident.find(key);
    if (found != known.resident.end()) {
        *out = found->second;
        return MORIEP_SUCCESS;
    }
    int32_t units = 0;
    MORI_TRY(computeUnits(device, &units));
    int32_t least = INT32_MAX;
    constexpr LaunchChoice kChoices[] = {{}, {true, false}, {false, true}, {true, true}};
    for (const LaunchChoice& choice : kChoices) {
        const Launches all = launchesOf(kernelType, verb, choice);
        for (int number = 0; number < all.count; ++number) {
            const Launch& step = all.launches[number];
            if (step.size == LaunchSize::oneWarp) continue;
            for (int32_t variant = 0; variant < step.variantCount(); ++variant) {
                int blocks = 0;
                GPU_TRY(OccupancyMaxActiveBlocksPerMultiprocessor,
                        &blocks,
                        kernelAddress(step.variant(variant), traced),
                        warpsPerBlock * lanesPerWarp(),
                        shared);
                least = std::min(least, blocks * units);
            }
        }
    }
    known.resident[key] = least;
    *out = least;
    return MORIEP_SUCCESS;
}

}  // namespace mori::gpu

// One set of names for HIP and CUDA: what both call alike but for the prefix is GPU(name), and the
// few calls that differ are functions here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "moriep.h"

#if defined(__HIP_PLATFORM_AMD__)
#include <hip/hip_runtime_api.h>
#define GPU(name) hip##name
#define GPU_PREFIX "hip"
#else
#include <cuda_runtime_api.h>
#define GPU(name) cuda##name
#define GPU_PREFIX "cuda"
#endif

/// A call of the runtime whose failure ends the calling function with the status for it.
#define GPU_TRY(name, ...)                                                \
    do {                                                                  \
        const moriep_status gpuStatus =                                   \
            ::mori::gpu::check(GPU(name)(__VA_ARGS__), GPU_PREFIX #name); \
        if (gpuStatus != MORIEP_SUCCESS) return gpuStatus;                \
    } while (false)

/// Any function of this runtime that returns a status, likewise.
#define MORI_TRY(call)                                       \
    do {                                                     \
        const moriep_status callStatus = (call);             \
        if (callStatus != MORIEP_SUCCESS) return callStatus; \
    } while (false)

namespace mori::gpu {

using Error = GPU(Error_t);
using NativeStream = GPU(Stream_t);
using NativeEvent = GPU(Event_t);
using NativeGraph = GPU(Graph_t);
using NativeGraphExec = GPU(GraphExec_t);
using IPCHandle = GPU(IpcMemHandle_t);

// The GPUs that there is code for; what builds the library says it.
#if !defined(MORI_EP_ARCHITECTURES)
#define MORI_EP_ARCHITECTURES "the GPUs that it was built for"
#endif

/// The status for an error of the runtime; its words and number become this thread's last message.
moriep_status check(Error error, const char* call);

#if defined(__HIP_PLATFORM_AMD__)

using Properties = hipDeviceProp_t;
/// The version that this was compiled with, as DriverGetVersion counts, and its major number.
constexpr int kRuntimeVersion = HIP_VERSION;
constexpr int kVersionsOfMajor = 10000000;
#if defined(MORI_EMULATED)
/// The same runtime over the stand-in of HIP and the emulator in Tests/Emulator.
constexpr int32_t kKind = MORIEP_DEVICE_EMULATED;
constexpr bool kMemoryIsHostMemory = true;
#else
constexpr int32_t kKind = MORIEP_DEVICE_AMD;
constexpr bool kMemoryIsHostMemory = false;
#endif

constexpr Error kErrorOutOfMemory = hipErrorOutOfMemory;
constexpr Error kErrorNotInitialized = hipErrorNotInitialized;
constexpr Error kErrorInvalidHandle = hipErrorInvalidHandle;
constexpr Error kErrorNoCodeForDevice = hipErrorNoBinaryForGpu;

/// Memory that peers write and read while kernels run: uncached where the runtime has that, else
/// fine-grained, which is coherent as well.
inline Error allocateSymmetric(void** out, size_t bytes) {
#if defined(hipDeviceMallocUncached)
    return hipExtMallocWithFlags(out, bytes, hipDeviceMallocUncached);
#else
    return hipExtMallocWithFlags(out, bytes, hipDeviceMallocFinegrained);
#endif
}
constexpr const char* kAllocateSymmetric = "hipExtMallocWithFlags";

inline Error allocatePinned(void** out, size_t bytes) {
    return hipHostMalloc(
        out, bytes, hipHostMallocMapped | hipHostMallocPortable | hipHostMallocCoherent);
}
inline Error freePinned(void* address) { return hipHostFree(address); }
constexpr const char* kAllocatePinned = "hipHostMalloc";
constexpr const char* kFreePinned = "hipHostFree";

#if HIP_VERSION >= 50300000
inline Error callHost(NativeStream stream, void (*function)(void*), void* context) {
    return hipLaunchHostFunc(stream, function, context);
}
constexpr const char* kCallHost = "hipLaunchHostFunc";
#else
/// Older libraries declare hipLaunchHostFunc and lack it.
inline Error callHost(NativeStream stream, void (*function)(void*), void* context) {
    struct Call {
        void (*function)(void*);
        void* context;
    };
    Call* call = new Call{function, context};
    const auto run = [](hipStream_t, hipError_t, void* data) {
        const Call copy = *static_cast<Call*>(data);
        delete static_cast<Call*>(data);
        copy.function(copy.context);
    };
    const Error error = hipStreamAddCallback(stream, run, call, 0);
    if (error != hipSuccess) delete call;
    return error;
}
constexpr const char* kCallHost = "hipStreamAddCallback";
#endif

#else

using Properties = cudaDeviceProp;
constexpr int kRuntimeVersion = CUDART_VERSION;
constexpr int kVersionsOfMajor = 1000;
constexpr int32_t kKind = MORIEP_DEVICE_NVIDIA;
constexpr bool kMemoryIsHostMemory = false;

constexpr Error kErrorOutOfMemory = cudaErrorMemoryAllocation;
constexpr Error kErrorNotInitialized = cudaErrorInitializationError;
constexpr Error kErrorInvalidHandle = cudaErrorInvalidResourceHandle;
constexpr Error kErrorNoCodeForDevice = cudaErrorNoKernelImageForDevice;

/// Memory that peers write and read while kernels run: NVIDIA's device memory is coherent at its
/// second-level cache, which peers go through.
inline Error allocateSymmetric(void** out, size_t bytes) { return cudaMalloc(out, bytes); }
constexpr const char* kAllocateSymmetric = "cudaMalloc";

inline Error allocatePinned(void** out, size_t bytes) {
    return cudaHostAlloc(out, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
}
inline Error freePinned(void* address) { return cudaFreeHost(address); }
inline Error callHost(NativeStream stream, void (*function)(void*), void* context) {
    return cudaLaunchHostFunc(stream, function, context);
}
constexpr const char* kAllocatePinned = "cudaHostAlloc";
constexpr const char* kFreePinned = "cudaFreeHost";
constexpr const char* kCallHost = "cudaLaunchHostFunc";

#endif

}  // namespace mori::gpu

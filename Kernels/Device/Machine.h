// Which machine this translation unit is compiled for. The only place that asks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "moriep.h"

#if defined(__HIP__) || defined(__HIPCC__)
#define MORI_MACHINE_AMD 1
#include <hip/hip_runtime.h>
#define MORI_DEVICE __device__ __forceinline__
#elif defined(__CUDACC__)
#define MORI_MACHINE_NVIDIA 1
#include <cuda_runtime.h>
#define MORI_DEVICE __device__ __forceinline__
#else
#define MORI_MACHINE_HOST 1
#define MORI_DEVICE inline
#endif

// Code that hosts and devices share: layouts, conversions.
#if MORI_MACHINE_HOST
#define MORI_SHARED inline
#else
#define MORI_SHARED __host__ __device__ __forceinline__
#endif

// The kernels are compiled twice: `mori` leaves no traces, and `mori::traced` does (Shmem/Trace.h).
// What is no kernel, the machine and the layouts, is in `mori` and the same for both.
#if MORI_TRACED
#define MORI_KERNELS mori::traced
#else
#define MORI_KERNELS mori
#endif

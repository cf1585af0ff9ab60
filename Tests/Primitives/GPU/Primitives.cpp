// The primitives as kernels of AMD's and NVIDIA's GPUs.
#include "Primitives.h"

#if MORI_MACHINE_NVIDIA
#define MORI_ARGUMENTS const __grid_constant__
#else
#define MORI_ARGUMENTS const
#endif

extern "C" __global__
__launch_bounds__(mori::machine::kMaxWarpsPerBlock* mori::machine::kLanes) void primitives(
    MORI_ARGUMENTS primitives_arguments arguments) {
    mori::Block block;
    mori::primitives::run(block, mori::machine::reread(arguments));
}

extern "C" __global__ __launch_bounds__(mori::machine::kLanes) void primitives_push(
    MORI_ARGUMENTS moriep_dispatch_arguments arguments) {
    mori::Block block;
    mori::primitives::push(block, mori::machine::reread(arguments));
}

#if !defined(PRIMITIVES_DEVICE_ONLY)

#include "Runtime/GPU/Alias.h"

extern "C" __attribute__((visibility("default"))) int32_t
primitives_run_on_gpu(const primitives_arguments* arguments, int32_t blocks, int32_t warps) {
    void* parameters[] = {const_cast<primitives_arguments*>(arguments)};
    const auto launched =
        GPU(LaunchKernel)(reinterpret_cast<const void*>(&primitives),
                          dim3(static_cast<unsigned>(blocks)),
                          dim3(static_cast<unsigned>(warps * mori::machine::kLanes)),
                          parameters,
                          PRIMITIVES_SHARED_BYTES,
                          nullptr);
    if (launched != GPU(Success)) return static_cast<int32_t>(launched);
    return static_cast<int32_t>(GPU(DeviceSynchronize)());
}

#endif

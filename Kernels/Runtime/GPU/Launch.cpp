#include "Runtime/GPU/Launch.h"

#include "Runtime/GPU/Device.h"
#include "Runtime/GPU/Kernels.h"
#include "Runtime/GPU/Status.h"
#include "Runtime/GPU/Stream.h"

namespace mori::gpu {
namespace {

/// Whether the launch can run here: kernel type, grid and block memory; gives the block memory.
moriep_status checkLaunch(int32_t device,
                          int32_t verb,
                          const moriep_operator& op,
                          const moriep_launch& launch,
                          uint64_t* shared) {
    if (!isKernelType(op.shape.kernel_type)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "kernel type %d", op.shape.kernel_type);
    }
    if (launch.blocks < 1 || launch.warps_per_block < 1 ||
        launch.warps_per_block > maxWarpsPerBlock()) {
        return fail(MORIEP_INVALID_ARGUMENT,
                    0,
                    "a grid of %d blocks of %d warps; a block has 1 to %d",
                    launch.blocks,
                    launch.warps_per_block,
                    maxWarpsPerBlock());
    }
    *shared = sharedBytes(verb, op.shape, launch.warps_per_block);
    if (*shared > kMaxSharedBytes) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%llu bytes of block memory for %d warps a block; a block has %llu",
                    static_cast<unsigned long long>(*shared),
                    launch.warps_per_block,
                    static_cast<unsigned long long>(kMaxSharedBytes));
    }
    int32_t most = 0;
    MORI_TRY(residentBlocks(device,
                            op.shape.kernel_type,
                            verb,
                            launch.warps_per_block,
                            launch.traced != 0,
                            *shared,
                            &most));
    if (launch.blocks > most) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%d blocks of %d warps; the device holds %d such blocks at once%s",
                    launch.blocks,
                    launch.warps_per_block,
                    most,
                    launch.traced != 0 ? ", of kernels that leave traces" : "");
    }
    return MORIEP_SUCCESS;
}

template <class Arguments>
moriep_status launchKernel(moriep_stream* stream,
                           Kernel kernel,
                           int32_t blocks,
                           int32_t warpsPerBlock,
                           uint64_t shared,
                           const Arguments& arguments) {
    const bool traced = arguments.launch.traced != 0;
    // The runtime copies the arguments before it returns.
    void* parameters[] = {const_cast<Arguments*>(&arguments)};
    GPU_TRY(LaunchKernel,
            kernelAddress(kernel, traced),
            dim3(static_cast<unsigned>(blocks)),
            dim3(static_cast<unsigned>(warpsPerBlock * lanesPerWarp())),
            parameters,
            shared,
            stream->native);
    return MORIEP_SUCCESS;
}

/// The launches of a verb's halves that were asked for, in order.
template <class Arguments>
moriep_status launchVerb(moriep_stream* stream,
                         int32_t verb,
                         LaunchChoice choice,
                         const Arguments& arguments) {
    GPU_USE_DEVICE(stream->device);
    const moriep_launch& launch = arguments.launch;
    if (launch.traced != 0 && !kHasTracedKernels) return notTraced();
    uint64_t shared = 0;
    MORI_TRY(checkLaunch(stream->device, verb, arguments.op, launch, &shared));
    const Launches all = launchesOf(arguments.op.shape.kernel_type, verb, choice);
    for (int number = 0; number < all.count; ++number) {
        const Launch& step = all.launches[number];
        if ((step.half & arguments.half) == 0) continue;
        const bool isGrid = step.size != LaunchSize::oneWarp;
        const bool isRDMA = step.size == LaunchSize::rdmaGrid && launch.rdma_blocks > 0;
        const int32_t blocks = isRDMA ? launch.rdma_blocks : launch.blocks;
        MORI_TRY(
            launchKernel(stream,
                         step.kernelFor(arguments.call.element_type, arguments.call.quantization),
                         isGrid ? blocks : 1,
                         isGrid ? launch.warps_per_block : 1,
                         isGrid ? shared : 0,
                         arguments));
    }
    return MORIEP_SUCCESS;
}

}  // namespace

moriep_status dispatch(moriep_stream* stream, const moriep_dispatch_arguments* arguments) {
    const int32_t type = arguments->call.element_type;
    const bool quantizes = arguments->call.quantization != MORIEP_QUANTIZATION_NONE;
    if (quantizes && castOf(type) < 0) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "a dispatch that quantizes to type %d", type);
    }
    // A replayed round has its order already.
    const bool isOrdered = arguments->op.shape.is_ordered != 0 && arguments->call.replays == 0;
    return launchVerb(stream, MORIEP_VERB_DISPATCH, {isOrdered, quantizes}, *arguments);
}

moriep_status combine(moriep_stream* stream, const moriep_combine_arguments* arguments) {
    const int32_t type = arguments->call.element_type;
    if (!isElementType(type)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", type);
    }
    if (!isQuantization(arguments->call.quantization, type)) {
        return fail(MORIEP_NOT_SUPPORTED,
                    0,
                    "quantization %d of element type %d",
                    arguments->call.quantization,
                    type);
    }
    const bool quantizes = arguments->call.quantization != MORIEP_QUANTIZATION_NONE;
    return launchVerb(stream, MORIEP_VERB_COMBINE, {false, quantizes}, *arguments);
}

moriep_status received(moriep_stream* stream, const moriep_received_arguments* arguments) {
    GPU_USE_DEVICE(stream->device);
    if (!isElementType(arguments->element_type)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", arguments->element_type);
    }
    const moriep_launch& launch = arguments->launch;
    if (launch.traced != 0 && !kHasTracedKernels) return notTraced();
    uint64_t shared = 0;
    MORI_TRY(checkLaunch(stream->device, MORIEP_VERB_RECEIVED, arguments->op, launch, &shared));
    const Launches all = launchesOf(arguments->op.shape.kernel_type, MORIEP_VERB_RECEIVED, {});
    if (arguments->work < 0 || arguments->work >= all.count) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "work %d", arguments->work);
    }
    return launchKernel(
        stream,
        all.launches[arguments->work].kernelFor(arguments->element_type, MORIEP_QUANTIZATION_NONE),
        launch.blocks,
        launch.warps_per_block,
        shared,
        *arguments);
}

}  // namespace mori::gpu

// The kernels as the host sees them. Kernels.cpp, the one file compiled for the device, defines
// what is declared here; everything else of the runtime is plain C++.
#pragma once

#include <cstdint>

#include "Runtime/KernelTypes.h"

// Every kernel: one(enumerator, entry, verb, function) of one warp, many(...) of a grid. The rows
// that `acquires` read were covered by words that an earlier launch awaited, on another compute
// unit: they acquire themselves (protocol rule P10).
#define MORI_KERNELS(one, many, acquires)                                                        \
    one(dispatchBegin, dispatch_begin, dispatch, dispatchBegin)                                  \
    one(dispatchReceive, dispatch_receive, dispatch, dispatchReceive)                            \
    many(intraNodeDispatchSend, intranode_dispatch_send, dispatch, intranode::dispatchSend)      \
    acquires(intraNodeCombineSend, intranode_combine_send, combine, intranode::combineSend)      \
    one(intraNodeCombineWait, intranode_combine_wait, combine, intranode::combineWait)           \
    acquires(intraNodeCombineReduceBFloat16, intranode_combine_reduce_bfloat16, combine,         \
             intranode::combineReduce<BFloat16>)                                                 \
    acquires(intraNodeCombineReduceFloat32, intranode_combine_reduce_float32, combine,           \
             intranode::combineReduce<Float32>)                                                  \
    many(v1DispatchSend, internodev1_dispatch_send, dispatch, internodev1::dispatchSend)         \
    many(v1DispatchPlace, internodev1_dispatch_place, dispatch, internodev1::dispatchPlace)      \
    many(v1DispatchForward, internodev1_dispatch_forward, dispatch,                              \
         internodev1::dispatchForward)                                                           \
    acquires(v1CombineSend, internodev1_combine_send, combine, internodev1::combineSend)         \
    one(v1CombineWait, internodev1_combine_wait, combine, internodev1::combineWait)              \
    acquires(v1CombineForwardBFloat16, internodev1_combine_forward_bfloat16, combine,            \
             internodev1::combineForward<BFloat16>)                                              \
    acquires(v1CombineForwardFloat32, internodev1_combine_forward_float32, combine,              \
             internodev1::combineForward<Float32>)                                               \
    acquires(v1CombineOwnBFloat16, internodev1_combine_own_bfloat16, combine,                    \
             internodev1::combineOwn<BFloat16>)                                                  \
    acquires(v1CombineOwnFloat32, internodev1_combine_own_float32, combine,                      \
             internodev1::combineOwn<Float32>)                                                   \
    one(v1CombineReceive, internodev1_combine_receive, combine, internodev1::combineReceive)     \
    acquires(v1CombineReduceBFloat16, internodev1_combine_reduce_bfloat16, combine,              \
             internodev1::combineReduce<BFloat16>)                                               \
    acquires(v1CombineReduceFloat32, internodev1_combine_reduce_float32, combine,                \
             internodev1::combineReduce<Float32>)                                                \
    many(interNodeDispatchSend, internode_dispatch_send, dispatch, internode::dispatchSend)      \
    one(interNodeDispatchReceive, internode_dispatch_receive, dispatch,                          \
        internode::dispatchReceive)                                                              \
    acquires(interNodeDispatchUnpack, internode_dispatch_unpack, dispatch,                       \
             internode::dispatchUnpack)                                                          \
    acquires(interNodeCombineSend, internode_combine_send, combine, internode::combineSend)      \
    one(interNodeCombineReceive, internode_combine_receive, combine, internode::combineReceive)  \
    acquires(interNodeCombineReduceBFloat16, internode_combine_reduce_bfloat16, combine,         \
             internode::combineReduce<BFloat16>)                                                 \
    acquires(interNodeCombineReduceFloat32, internode_combine_reduce_float32, combine,           \
             internode::combineReduce<Float32>)

namespace mori::gpu {

#define MORI_ENUMERATOR(name, entry, verb, ...) name,
enum class Kernel : int32_t {
    MORI_KERNELS(MORI_ENUMERATOR, MORI_ENUMERATOR, MORI_ENUMERATOR) count,
};
#undef MORI_ENUMERATOR

/// How large a launch is.
enum class LaunchSize {
    oneWarp,
    grid,      ///< as the caller asks
    rdmaGrid,  ///< as many blocks as were asked for the network, where that was said
};

/// One launch of a verb.
struct Launch {
    Kernel kernel;
    LaunchSize size;
    int32_t half;  ///< moriep_half
};

/// The launches of a verb, in order.
struct Launches {
    const Launch* launches;
    int count;
};
Launches launchesOf(int32_t kernelType, int32_t verb, int32_t elementType);

/// The runtime's name for a kernel.
const void* kernelAddress(Kernel kernel);

/// Bytes of block memory that a verb's kernels ask for.
uint64_t sharedBytes(int32_t verb, const moriep_shape& shape, int32_t warpsPerBlock);

int32_t lanesPerWarp();
int32_t maxWarpsPerBlock();

}  // namespace mori::gpu

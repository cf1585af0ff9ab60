// Every kernel's entry, for the two files that are compiled for the device: those that leave no
// traces, and with MORI_TRACED those that do.
#pragma once

#include "InterNode/Combine.h"
#include "InterNode/Dispatch.h"
#include "InterNodeV1/Combine.h"
#include "InterNodeV1/Forward.h"
#include "IntraNode/Combine.h"
#include "IntraNode/Dispatch.h"
#include "IntraNode/Ordered.h"
#include "Runtime/GPU/Kernels.h"
#include "StandardMoE/Experts.h"

#if MORI_MACHINE_NVIDIA
#define MORI_ARGUMENTS(verb) const __grid_constant__ moriep_##verb##_arguments arguments
#else
#define MORI_ARGUMENTS(verb) const moriep_##verb##_arguments arguments
#endif

#if MORI_TRACED
#define MORI_SYMBOL(name) moriep_traced_##name
#define MORI_ADDRESSES tracedKernelAddress
// Arguments are read again for each part: a kernel has no scalar registers to keep them in.
#define MORI_RUN(phase, ...)                                               \
    trace::begin<MORIEP_TRACE_##phase>(block, machine::reread(arguments)); \
    __VA_ARGS__(block, machine::reread(arguments));                        \
    trace::end<MORIEP_TRACE_##phase>(block, machine::reread(arguments))
#else
#define MORI_SYMBOL(name) moriep_##name
#define MORI_ADDRESSES kernelAddress
#define MORI_RUN(phase, ...) __VA_ARGS__(block, machine::reread(arguments))
#endif

#define MORI_ENTRY(name, verb, most, first, phase, ...)                                       \
    extern "C" __global__ __launch_bounds__((most) * mori::machine::kLanes) void MORI_SYMBOL( \
        name)(MORI_ARGUMENTS(verb)) {                                                         \
        using namespace MORI_KERNELS;                                                         \
        using namespace mori;                                                                 \
        first;                                                                                \
        Block block;                                                                          \
        MORI_RUN(phase, __VA_ARGS__);                                                         \
    }
#define MORI_ONE_WARP(name, verb, phase, function) MORI_ENTRY(name, verb, 1, , phase, function)
#define MORI_GRID(name, verb, phase, function) \
    MORI_ENTRY(name, verb, mori::machine::kMaxWarpsPerBlock, , phase, function)
#define MORI_READING_GRID(name, verb, phase, ...) \
    MORI_ENTRY(name,                              \
               verb,                              \
               mori::machine::kMaxWarpsPerBlock,  \
               machine::acquireSystem(),          \
               phase,                             \
               __VA_ARGS__)
#define MORI_SUM(type, Element, number, name, verb, phase, function) \
    MORI_READING_GRID(name##_##type, verb, phase, function<Element>)
#define MORI_SUMMING_GRID(name, verb, phase, function) \
    MORI_FOR_ELEMENTS(MORI_SUM, name, verb, phase, function)
#define MORI_WIRE(type, Wire, name, verb, phase, ...) \
    MORI_READING_GRID(name##_##type, verb, phase, MORI_WITH_WIRE(Wire, __VA_ARGS__))
// function<Wire>, or function<BFloat16, Wire> where the line names an element type.
#define MORI_WITH_WIRE(Wire, function, ...) function<__VA_ARGS__ __VA_OPT__(, ) Wire>
#define MORI_WIRE_GRID(name, verb, phase, ...) \
    MORI_FOR_WIRES(MORI_WIRE, name, verb, phase, __VA_ARGS__)
#define MORI_CAST(type, Wire, number, name, verb, phase, function) \
    MORI_GRID(name##_##type, verb, phase, function<Wire>)
#define MORI_CAST_GRID(name, verb, phase, function) \
    MORI_FOR_CASTS(MORI_CAST, name, verb, phase, function)
#include "Runtime/GPU/Kernels.inc"

namespace mori::gpu {

const void* MORI_ADDRESSES(Kernel kernel) {
    switch (kernel) {
#define MORI_ADDRESS(name) \
    case Kernel::name:     \
        return reinterpret_cast<const void*>(&MORI_SYMBOL(name));
#define MORI_ONE_WARP(name, ...) MORI_ADDRESS(name)
#define MORI_GRID(name, ...) MORI_ADDRESS(name)
#define MORI_READING_GRID(name, ...) MORI_ADDRESS(name)
#define MORI_SUM_ADDRESS(type, Element, number, name) MORI_ADDRESS(name##_##type)
#define MORI_SUMMING_GRID(name, ...) MORI_FOR_ELEMENTS(MORI_SUM_ADDRESS, name)
#define MORI_WIRE_ADDRESS(type, Wire, name) MORI_ADDRESS(name##_##type)
#define MORI_WIRE_GRID(name, ...) MORI_FOR_WIRES(MORI_WIRE_ADDRESS, name)
#define MORI_CAST_GRID(name, ...) MORI_FOR_CASTS(MORI_SUM_ADDRESS, name)
#include "Runtime/GPU/Kernels.inc"
        case Kernel::count:
            break;
    }
    return nullptr;
}

}  // namespace mori::gpu

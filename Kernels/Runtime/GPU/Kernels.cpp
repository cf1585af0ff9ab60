// Every kernel's entry: the only file that is compiled for the device.
#include "Runtime/GPU/Kernels.h"

#include "Runtime/BlockMemory.h"

#if MORI_MACHINE_NVIDIA
#define MORI_ARGUMENTS(verb) const __grid_constant__ moriep_##verb##_arguments arguments
#else
#define MORI_ARGUMENTS(verb) const moriep_##verb##_arguments arguments
#endif

#define MORI_ENTRY(name, verb, most, begin, ...)                                                \
    extern "C" __global__ __launch_bounds__((most) * mori::machine::kLanes) void moriep_##name( \
        MORI_ARGUMENTS(verb)) {                                                                 \
        using namespace mori;                                                                   \
        begin;                                                                                  \
        Block block;                                                                            \
        __VA_ARGS__(block, machine::reread(arguments));                                         \
    }
#define MORI_ONE_WARP(name, verb, function) MORI_ENTRY(name, verb, 1, , function)
#define MORI_GRID(name, verb, function) \
    MORI_ENTRY(name, verb, mori::machine::kMaxWarpsPerBlock, , function)
#define MORI_READING_GRID(name, verb, ...) \
    MORI_ENTRY(name, verb, mori::machine::kMaxWarpsPerBlock, machine::acquireSystem(), __VA_ARGS__)
#define MORI_SUM(type, Element, number, name, verb, function) \
    MORI_READING_GRID(name##_##type, verb, function<Element>)
#define MORI_SUMMING_GRID(name, verb, function) MORI_FOR_ELEMENTS(MORI_SUM, name, verb, function)
#define MORI_WIRE(type, Wire, name, verb, ...) \
    MORI_READING_GRID(name##_##type, verb, MORI_WITH_WIRE(Wire, __VA_ARGS__))
// function<Wire>, or function<BFloat16, Wire> where the line names an element type.
#define MORI_WITH_WIRE(Wire, function, ...) function<__VA_ARGS__ __VA_OPT__(, ) Wire>
#define MORI_WIRE_GRID(name, verb, ...) MORI_FOR_WIRES(MORI_WIRE, name, verb, __VA_ARGS__)
#define MORI_CAST(type, Wire, number, name, verb, function) \
    MORI_GRID(name##_##type, verb, function<Wire>)
#define MORI_CAST_GRID(name, verb, function) MORI_FOR_CASTS(MORI_CAST, name, verb, function)
#include "Runtime/GPU/Kernels.inc"

namespace mori::gpu {
namespace {

constexpr int32_t kSend = MORIEP_HALF_SEND;
constexpr int32_t kReceive = MORIEP_HALF_RECEIVE;

constexpr LaunchSize kOneWarp = LaunchSize::oneWarp;
constexpr LaunchSize kGrid = LaunchSize::grid;
constexpr LaunchSize kRDMAGrid = LaunchSize::rdmaGrid;

constexpr Launch one(Kernel kernel, int32_t half) { return {kernel, kOneWarp, half}; }
constexpr Launch grid(Kernel kernel, int32_t half, LaunchSize size = kGrid) {
    return {kernel, size, half};
}
/// `kernel` is that of the first element type.
constexpr Launch sums(Kernel kernel, int32_t half, LaunchSize size = kGrid) {
    return {kernel, size, half, Variants::elements};
}
/// `kernel` is that of the first type that rows are quantized to.
constexpr Launch wires(Kernel kernel, int32_t half, LaunchSize size = kGrid) {
    return {kernel, size, half, Variants::wires};
}

constexpr Launch kIntraNodeDispatch[] = {
    one(Kernel::dispatch_begin, kSend),
    grid(Kernel::intranode_dispatch_send, kSend),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kIntraNodeDispatchOrdered[] = {
    one(Kernel::dispatch_begin, kSend),
    grid(Kernel::intranode_dispatch_count, kSend),
    one(Kernel::intranode_dispatch_order, kSend),
    grid(Kernel::intranode_dispatch_send_ordered, kSend),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kIntraNodeCombine[] = {
    grid(Kernel::intranode_combine_send, kSend),
    one(Kernel::intranode_combine_wait, kReceive),
    sums(Kernel::intranode_combine_reduce_bfloat16, kReceive),
};
constexpr Launch kV1Dispatch[] = {
    one(Kernel::dispatch_begin, kSend),
    grid(Kernel::internodev1_dispatch_send, kSend, kRDMAGrid),
    grid(Kernel::internodev1_dispatch_place, kSend),
    grid(Kernel::internodev1_dispatch_forward, kReceive),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kV1Combine[] = {
    grid(Kernel::internodev1_combine_send, kSend),
    one(Kernel::internodev1_combine_wait, kReceive),
    sums(Kernel::internodev1_combine_forward_bfloat16, kReceive, kRDMAGrid),
    sums(Kernel::internodev1_combine_own_bfloat16, kReceive),
    one(Kernel::internodev1_combine_receive, kReceive),
    sums(Kernel::internodev1_combine_reduce_bfloat16, kReceive),
};
constexpr Launch kInterNodeDispatch[] = {
    one(Kernel::dispatch_begin, kSend),
    grid(Kernel::internode_dispatch_send, kSend),
    one(Kernel::internode_dispatch_receive, kReceive),
    grid(Kernel::internode_dispatch_unpack, kReceive),
};
constexpr Launch kInterNodeCombine[] = {
    grid(Kernel::internode_combine_send, kSend),
    one(Kernel::internode_combine_receive, kReceive),
    sums(Kernel::internode_combine_reduce_bfloat16, kReceive),
};

/// `kernel` is that of the first type that dispatch quantizes to.
constexpr Launch casts(Kernel kernel, int32_t half, LaunchSize size = kGrid) {
    return {kernel, size, half, Variants::casts};
}
constexpr Launch kIntraNodeDispatchQuantized[] = {
    one(Kernel::dispatch_begin, kSend),
    casts(Kernel::intranode_dispatch_send_quantized_float8_e4m3, kSend),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kIntraNodeDispatchOrderedQuantized[] = {
    one(Kernel::dispatch_begin, kSend),
    grid(Kernel::intranode_dispatch_count, kSend),
    one(Kernel::intranode_dispatch_order, kSend),
    casts(Kernel::intranode_dispatch_send_ordered_quantized_float8_e4m3, kSend),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kV1DispatchQuantized[] = {
    one(Kernel::dispatch_begin, kSend),
    casts(Kernel::internodev1_dispatch_send_quantized_float8_e4m3, kSend, kRDMAGrid),
    casts(Kernel::internodev1_dispatch_place_quantized_float8_e4m3, kSend),
    grid(Kernel::internodev1_dispatch_forward, kReceive),
    one(Kernel::dispatch_receive, kReceive),
};
constexpr Launch kInterNodeDispatchQuantized[] = {
    one(Kernel::dispatch_begin, kSend),
    casts(Kernel::internode_dispatch_send_quantized_float8_e4m3, kSend),
    one(Kernel::internode_dispatch_receive, kReceive),
    grid(Kernel::internode_dispatch_unpack, kReceive),
};

constexpr Launch kIntraNodeCombineQuantized[] = {
    wires(Kernel::intranode_combine_send_quantized_float8_e4m3, kSend),
    one(Kernel::intranode_combine_wait, kReceive),
    wires(Kernel::intranode_combine_reduce_quantized_float8_e4m3, kReceive),
};
constexpr Launch kV1CombineQuantized[] = {
    grid(Kernel::internodev1_combine_send, kSend),
    one(Kernel::internodev1_combine_wait, kReceive),
    wires(Kernel::internodev1_combine_forward_quantized_float8_e4m3, kReceive, kRDMAGrid),
    grid(Kernel::internodev1_combine_own_bfloat16, kReceive),
    one(Kernel::internodev1_combine_receive, kReceive),
    wires(Kernel::internodev1_combine_reduce_quantized_float8_e4m3, kReceive),
};
constexpr Launch kInterNodeCombineQuantized[] = {
    wires(Kernel::internode_combine_send_quantized_float8_e4m3, kSend),
    one(Kernel::internode_combine_receive, kReceive),
    wires(Kernel::internode_combine_reduce_quantized_float8_e4m3, kReceive),
};

constexpr Launch kReceived[] = {
    grid(Kernel::standardmoe_count_experts, kSend),
    grid(Kernel::standardmoe_pack_experts, kSend),
    sums(Kernel::standardmoe_sum_experts_bfloat16, kSend),
};

template <int count>
constexpr Launches all(const Launch (&launches)[count]) {
    return {launches, count};
}

}  // namespace

Launches launchesOf(int32_t kernelType, int32_t verb, LaunchChoice choice) {
    if (verb == MORIEP_VERB_RECEIVED) return all(kReceived);
    moriep_shape shape{};
    shape.kernel_type = kernelType;
    const bool quantizes = choice.isQuantized;
    if (verb == MORIEP_VERB_DISPATCH) {
        if (isV1(shape)) return quantizes ? all(kV1DispatchQuantized) : all(kV1Dispatch);
        if (hasRankSections(shape)) {
            return quantizes ? all(kInterNodeDispatchQuantized) : all(kInterNodeDispatch);
        }
        if (choice.isOrdered) {
            return quantizes ? all(kIntraNodeDispatchOrderedQuantized)
                             : all(kIntraNodeDispatchOrdered);
        }
        return quantizes ? all(kIntraNodeDispatchQuantized) : all(kIntraNodeDispatch);
    }
    if (isV1(shape)) return quantizes ? all(kV1CombineQuantized) : all(kV1Combine);
    if (hasRankSections(shape)) {
        return quantizes ? all(kInterNodeCombineQuantized) : all(kInterNodeCombine);
    }
    return quantizes ? all(kIntraNodeCombineQuantized) : all(kIntraNodeCombine);
}

const void* kernelAddress(Kernel kernel) {
    switch (kernel) {
#define MORI_ADDRESS(name) \
    case Kernel::name:     \
        return reinterpret_cast<const void*>(&moriep_##name);
#define MORI_ONE_WARP(name, verb, function) MORI_ADDRESS(name)
#define MORI_GRID(name, verb, function) MORI_ADDRESS(name)
#define MORI_READING_GRID(name, verb, function) MORI_ADDRESS(name)
#define MORI_SUM_ADDRESS(type, Element, number, name) MORI_ADDRESS(name##_##type)
#define MORI_SUMMING_GRID(name, verb, function) MORI_FOR_ELEMENTS(MORI_SUM_ADDRESS, name)
#define MORI_WIRE_ADDRESS(type, Wire, name) MORI_ADDRESS(name##_##type)
#define MORI_WIRE_GRID(name, verb, ...) MORI_FOR_WIRES(MORI_WIRE_ADDRESS, name)
#define MORI_CAST_GRID(name, verb, function) MORI_FOR_CASTS(MORI_SUM_ADDRESS, name)
#include "Runtime/GPU/Kernels.inc"
        case Kernel::count:
            break;
    }
    return nullptr;
}

uint64_t sharedBytes(int32_t verb, const moriep_shape& shape, int32_t warpsPerBlock) {
    return blockMemoryBytes(verb, shape, warpsPerBlock);
}

int32_t lanesPerWarp() { return machine::kLanes; }
int32_t maxWarpsPerBlock() { return machine::kMaxWarpsPerBlock; }

}  // namespace mori::gpu

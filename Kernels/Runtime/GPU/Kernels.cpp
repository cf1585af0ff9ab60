// The kernels that leave no traces, and which of them each verb launches.
#include "Runtime/BlockMemory.h"
#include "Runtime/GPU/Entries.h"

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

uint64_t sharedBytes(int32_t verb, const moriep_shape& shape, int32_t warpsPerBlock) {
    return blockMemoryBytes(verb, shape, warpsPerBlock);
}

int32_t lanesPerWarp() { return machine::kLanes; }
int32_t maxWarpsPerBlock() { return machine::kMaxWarpsPerBlock; }

}  // namespace mori::gpu

#include "Runtime/Host/Stream/Launch.h"

#include <exception>

#include "Device/ElementList.h"
#include "Runtime/BlockMemory.h"
#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Memory/Copy.h"

namespace mori::host {
namespace {

moriep_status checkLaunch(const moriep_operator& op, const moriep_launch& launch, int verb) {
    if (!isKernelType(op.shape.kernel_type)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "kernel type %d", op.shape.kernel_type);
    }
    if (launch.blocks < 1 || launch.warps_per_block < 1) {
        return fail(MORIEP_INVALID_ARGUMENT,
                    0,
                    "a grid of %d blocks of %d warps",
                    launch.blocks,
                    launch.warps_per_block);
    }
    if (int64_t(launch.blocks) * launch.warps_per_block > kMaxResidentWarps) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%d blocks of %d warps; the host device holds %d warps at once",
                    launch.blocks,
                    launch.warps_per_block,
                    kMaxResidentWarps);
    }
    const uint64_t bytes = blockMemoryBytes(verb, op.shape, launch.warps_per_block);
    if (bytes > kSharedBytes) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%llu bytes of block memory for %d warps a block; a block has %zu",
                    static_cast<unsigned long long>(bytes),
                    launch.warps_per_block,
                    kSharedBytes);
    }
    return MORIEP_SUCCESS;
}

/// Rows that together outgrow the last-level cache are stored past it. All ranks of a node share
/// that cache, so the world's rows count.
bool outgrowsCache(const moriep_shape& shape, int64_t rows, int64_t rowBytes) {
    const int64_t copies = maxDestinations(shape);
    return races::streamsAlways() || rows * copies * rowBytes * shape.world_size >
                                         static_cast<int64_t>(lastLevelCacheBytes());
}

/// What one warp of a launch runs.
template <class Arguments, class Kernel>
void runWarp(Block& block, const Arguments& arguments, const Kernel& kernel) {
    beginWarp(arguments.op.rank, block.index(), block.warp().index());
    races::nameMemory(&arguments.op);
    kernel(block, arguments);
}

/// The launches of one call, in order.
template <class Arguments>
class Launches {
public:
    Launches(GridRunner& grid, const Arguments& arguments, bool streaming)
        : grid_(grid), arguments_(arguments), streaming_(streaming) {}

    /// Kernels of one warp, on the stream's own thread: they may wait for peers.
    template <class... Kernels>
    void oneWarp(Kernels... kernels) {
        (grid_.run(1, 1, false, [&](Block& block) { runWarp(block, arguments_, kernels); }), ...);
    }
    template <class Kernel>
    void grid(Kernel kernel) {
        run(arguments_.launch.blocks, kernel);
    }
    /// A grid that serves the network: as many blocks as were asked for that.
    template <class Kernel>
    void rdmaGrid(Kernel kernel) {
        const moriep_launch& launch = arguments_.launch;
        run(launch.rdma_blocks > 0 ? launch.rdma_blocks : launch.blocks, kernel);
    }
    bool has(moriep_half half) const { return (arguments_.half & half) != 0; }
    /// Whether rows are received in a fixed order; a replayed round has its order already.
    bool isOrdered() const {
        return arguments_.op.shape.is_ordered != 0 && arguments_.call.replays == 0;
    }
    /// Whether a grid runs on the stream's own thread.
    bool isOneWarp() const {
        return arguments_.launch.blocks == 1 && arguments_.launch.warps_per_block == 1;
    }

private:
    template <class Kernel>
    void run(int blocks, Kernel kernel) {
        const int warps = arguments_.launch.warps_per_block;
        grid_.run(
            blocks, warps, streaming_, [&](Block& block) { runWarp(block, arguments_, kernel); });
    }

    GridRunner& grid_;
    const Arguments& arguments_;
    bool streaming_;
};

using DispatchLaunches = Launches<moriep_dispatch_arguments>;
using CombineLaunches = Launches<moriep_combine_arguments>;

template <class Wire>
void dispatchIntraNode(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp(dispatchBegin);
        if (launches.isOrdered()) {
            launches.grid(intranode::dispatchCount);
            launches.oneWarp(intranode::dispatchOrder);
            launches.grid(intranode::dispatchSendOrdered<Wire>);
        } else {
            launches.grid(intranode::dispatchSend<Wire>);
        }
    }
    if (launches.has(MORIEP_HALF_RECEIVE)) launches.oneWarp(dispatchReceive);
}

template <class Wire>
void dispatchInterNodeV1(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp(dispatchBegin);
        launches.rdmaGrid(internodev1::dispatchSend<Wire>);
        launches.grid(internodev1::dispatchPlace<Wire>);
    }
    if (!launches.has(MORIEP_HALF_RECEIVE)) return;
    // Launches on the pool end by themselves: what dispatchForward awaits has come before. A grid
    // of one warp is no launch on the pool and waits chunk by chunk, as GPUs do.
    if (!launches.isOneWarp()) launches.oneWarp(internodev1::dispatchAwait);
    launches.grid(internodev1::dispatchForward);
    launches.oneWarp(dispatchReceive);
}

template <class Wire>
void dispatchInterNode(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp(dispatchBegin);
        launches.grid(internode::dispatchSend<Wire>);
    }
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp(internode::dispatchReceive);
        launches.grid(internode::dispatchUnpack);
    }
}

template <class Wire>
void dispatchTokens(DispatchLaunches& launches, const moriep_shape& shape) {
    if (isV1(shape)) {
        dispatchInterNodeV1<Wire>(launches);
    } else if (hasRankSections(shape)) {
        dispatchInterNode<Wire>(launches);
    } else {
        dispatchIntraNode<Wire>(launches);
    }
}

template <class Element, class Wire>
void combineIntraNode(CombineLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) launches.grid(intranode::combineSend<Wire>);
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp(intranode::combineWait);
        launches.grid(intranode::combineReduce<Element, Wire>);
    }
}

template <class Element, class Wire>
void combineInterNodeV1(CombineLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) launches.grid(internodev1::combineSend);
    if (!launches.has(MORIEP_HALF_RECEIVE)) return;
    launches.oneWarp(internodev1::combineWait);
    launches.rdmaGrid(internodev1::combineForward<Element, Wire>);
    launches.grid(internodev1::combineOwn<Element>);
    launches.oneWarp(internodev1::combineReceive);
    launches.grid(internodev1::combineReduce<Element, Wire>);
}

template <class Element, class Wire>
void combineInterNode(CombineLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) launches.grid(internode::combineSend<Wire>);
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp(internode::combineReceive);
        launches.grid(internode::combineReduce<Element, Wire>);
    }
}

template <class Element, class Wire>
void combineRows(CombineLaunches& launches, const moriep_shape& shape) {
    if (isV1(shape)) {
        combineInterNodeV1<Element, Wire>(launches);
    } else if (hasRankSections(shape)) {
        combineInterNode<Element, Wire>(launches);
    } else {
        combineIntraNode<Element, Wire>(launches);
    }
}

template <class Kernel>
void runGrid(GridRunner& grid, const moriep_received_arguments& arguments, Kernel kernel) {
    grid.run(arguments.launch.blocks, arguments.launch.warps_per_block, false, [&](Block& block) {
        runWarp(block, arguments, kernel);
    });
}

/// A launch for which memory or threads were missing leaves a void round, not a dead process. It is
/// found before any warp runs. The launches that would have told the caller's buffers so are not
/// run either, hence `leave`.
template <class F>
void failForResources(const moriep_operator& fields, int phase, F&& leave) {
    Block::runAlone([&](const BlockWarp& warp) {
        const Operator op(fields);
        const Verdict verdict{MORIEP_FAILURE_RESOURCES, op.rank(), -1, 0, 0, 0, 0};
        warp.elect([&](const BlockOnce& once) {
            failRound(op, phase, op.control()->epoch, verdict, nullptr, nullptr, once);
        });
        leave(warp, op);
    });
}

/// A dispatch without launches received nothing.
void leaveNothingReceived(const BlockWarp&, const Operator& op) {
    op.control()->received_count = 0;
}

/// A combine without launches fills what it was to sum with NaN, as combineReduce would.
template <class Element>
void fillVoidSums(const BlockWarp& warp,
                  const Operator& op,
                  const moriep_combine_arguments& arguments) {
    const int64_t tokens = op.control()->token_count;
    fillVoid<Element>(warp,
                      pointer<typename Element::Storage>(op.local(op.layout().combine_output)),
                      {0, tokens * arguments.row_bytes / static_cast<int64_t>(Element::kBytes)});
    if (arguments.call.has_weights == 0) return;
    fillVoid<Float32>(warp,
                      pointer<float>(op.local(op.layout().combine_output_weights)),
                      {0, tokens * op.shape().top_k});
}
void leaveVoidSums(const BlockWarp& warp,
                   const Operator& op,
                   const moriep_combine_arguments& arguments) {
    if (arguments.call.quantization != MORIEP_QUANTIZATION_NONE) {
        return fillVoidSums<BFloat16>(warp, op, arguments);
    }
    switch (arguments.call.element_type) {
#define MORI_VOID(type, Element, number, ...) \
    case number:                              \
        return fillVoidSums<Element>(warp, op, arguments);
        MORI_FOR_ELEMENTS(MORI_VOID)
#undef MORI_VOID
    }
}

}  // namespace

moriep_status checkDispatch(const moriep_dispatch_arguments& arguments) {
    const int32_t type = arguments.call.element_type;
    if (arguments.call.quantization != MORIEP_QUANTIZATION_NONE && castOf(type) < 0) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "a dispatch that quantizes to type %d", type);
    }
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_DISPATCH);
}

moriep_status checkCombine(const moriep_combine_arguments& arguments) {
    const int32_t type = arguments.call.element_type;
    if (!isElementType(type)) return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", type);
    if (!isQuantization(arguments.call.quantization, type)) {
        return fail(MORIEP_NOT_SUPPORTED,
                    0,
                    "quantization %d of element type %d",
                    arguments.call.quantization,
                    type);
    }
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_COMBINE);
}

moriep_status checkReceived(const moriep_received_arguments& arguments) {
    const int32_t type = arguments.element_type;
    if (!isElementType(type)) return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", type);
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_RECEIVED);
}

void runReceived(GridRunner& grid, const moriep_received_arguments& arguments) try {
    if (arguments.work == MORIEP_COUNT_EXPERTS) {
        return runGrid(grid, arguments, standardmoe::countExperts);
    }
    if (arguments.work == MORIEP_PACK_EXPERTS) {
        return runGrid(grid, arguments, standardmoe::packExperts);
    }
    switch (arguments.element_type) {
#define MORI_SUM(type, Element, number, ...) \
    case number:                             \
        return runGrid(grid, arguments, standardmoe::sumExperts<Element>);
        MORI_FOR_ELEMENTS(MORI_SUM)
#undef MORI_SUM
    }
} catch (const std::exception&) {
    failForResources(
        arguments.op, MORIEP_PHASE_DISPATCH_RECEIVE, [](const BlockWarp&, const Operator&) {});
}

void runDispatch(GridRunner& grid, const moriep_dispatch_arguments& arguments) try {
    const moriep_shape& shape = arguments.op.shape;
    DispatchLaunches launches(
        grid, arguments, outgrowsCache(shape, arguments.token_count, arguments.row_bytes));
    if (arguments.call.quantization == MORIEP_QUANTIZATION_NONE) {
        return dispatchTokens<Plain>(launches, shape);
    }
    switch (arguments.call.element_type) {
#define MORI_DISPATCH(type, Wire, number, ...) \
    case number:                               \
        return dispatchTokens<Wire>(launches, shape);
        MORI_FOR_CASTS(MORI_DISPATCH)
#undef MORI_DISPATCH
    }
} catch (const std::exception&) {
    failForResources(arguments.op, MORIEP_PHASE_DISPATCH_RECEIVE, leaveNothingReceived);
}

void runCombine(GridRunner& grid, const moriep_combine_arguments& arguments) try {
    const moriep_shape& shape = arguments.op.shape;
    const int64_t tokens = Operator(arguments.op).control()->token_count;
    CombineLaunches launches(grid, arguments, outgrowsCache(shape, tokens, arguments.row_bytes));
    if (arguments.call.quantization == MORIEP_QUANTIZATION_FP4_BLOCKWISE) {
        return combineRows<BFloat16, Float4E2M1>(launches, shape);
    }
    if (arguments.call.quantization != MORIEP_QUANTIZATION_NONE) {
        return combineRows<BFloat16, Float8E4M3>(launches, shape);
    }
    switch (arguments.call.element_type) {
#define MORI_COMBINE(type, Element, number, ...) \
    case number:                                 \
        return combineRows<Element, Plain>(launches, shape);
        MORI_FOR_ELEMENTS(MORI_COMBINE)
#undef MORI_COMBINE
    }
} catch (const std::exception&) {
    failForResources(
        arguments.op, MORIEP_PHASE_COMBINE_READY, [&](const BlockWarp& warp, const Operator& op) {
            leaveVoidSums(warp, op, arguments);
        });
}

}  // namespace mori::host

// The launches of each verb on the host device, in order: of the kernels that leave traces, or of
// the others, as the file that includes this one says by MORI_TRACED.
#pragma once

#include "Device/ElementList.h"
#include "InterNode/Combine.h"
#include "InterNode/Dispatch.h"
#include "InterNodeV1/Combine.h"
#include "InterNodeV1/Forward.h"
#include "IntraNode/Combine.h"
#include "IntraNode/Dispatch.h"
#include "IntraNode/Ordered.h"
#include "Runtime/Host/Threads/Grid.h"
#include "StandardMoE/Experts.h"

namespace MORI_KERNELS::verbs {

/// What one warp of a launch runs; `phase` is a moriep_trace_phase.
template <int phase, class Arguments, class Kernel>
void runWarp(Block& block, const Arguments& arguments, const Kernel& kernel) {
    host::beginWarp(arguments.op.rank, block.index(), block.warp().index());
    host::races::nameMemory(&arguments.op);
    if constexpr (kTraced) {
        host::tracedWarp = {block.index(), block.warp().index()};
        trace::run<phase>(block, arguments, kernel);
    } else {
        kernel(block, arguments);
    }
}

/// The launches of one call, in order.
template <class Arguments>
class Launches {
public:
    Launches(host::GridRunner& grid, const Arguments& arguments, bool streaming)
        : grid_(grid), arguments_(arguments), streaming_(streaming) {}

    /// A kernel of one warp, on the stream's own thread: it may wait for peers.
    template <int phase, class Kernel>
    void oneWarp(Kernel kernel) {
        grid_.run(1, 1, false, [&](Block& block) { runWarp<phase>(block, arguments_, kernel); });
    }
    template <int phase, class Kernel>
    void grid(Kernel kernel) {
        run<phase>(arguments_.launch.blocks, kernel);
    }
    /// A grid that serves the network: as many blocks as were asked for that.
    template <int phase, class Kernel>
    void rdmaGrid(Kernel kernel) {
        const moriep_launch& launch = arguments_.launch;
        run<phase>(launch.rdma_blocks > 0 ? launch.rdma_blocks : launch.blocks, kernel);
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
    template <int phase, class Kernel>
    void run(int blocks, Kernel kernel) {
        const int warps = arguments_.launch.warps_per_block;
        grid_.run(blocks, warps, streaming_, [&](Block& block) {
            runWarp<phase>(block, arguments_, kernel);
        });
    }

    host::GridRunner& grid_;
    const Arguments& arguments_;
    bool streaming_;
};

using DispatchLaunches = Launches<moriep_dispatch_arguments>;
using CombineLaunches = Launches<moriep_combine_arguments>;

template <class Wire>
void dispatchIntraNode(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp<MORIEP_TRACE_DISPATCH_BEGIN>(dispatchBegin);
        if (launches.isOrdered()) {
            launches.grid<MORIEP_TRACE_DISPATCH_COUNT>(intranode::dispatchCount);
            launches.oneWarp<MORIEP_TRACE_DISPATCH_ORDER>(intranode::dispatchOrder);
            launches.grid<MORIEP_TRACE_DISPATCH_SEND>(intranode::dispatchSendOrdered<Wire>);
        } else {
            launches.grid<MORIEP_TRACE_DISPATCH_SEND>(intranode::dispatchSend<Wire>);
        }
    }
    if (launches.has(MORIEP_HALF_RECEIVE))
        launches.oneWarp<MORIEP_TRACE_DISPATCH_RECEIVE>(dispatchReceive);
}

template <class Wire>
void dispatchInterNodeV1(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp<MORIEP_TRACE_DISPATCH_BEGIN>(dispatchBegin);
        launches.rdmaGrid<MORIEP_TRACE_DISPATCH_SEND>(internodev1::dispatchSend<Wire>);
        launches.grid<MORIEP_TRACE_DISPATCH_PLACE>(internodev1::dispatchPlace<Wire>);
    }
    if (!launches.has(MORIEP_HALF_RECEIVE)) return;
    // Launches on the pool end by themselves: what dispatchForward awaits has come before. A grid
    // of one warp is no launch on the pool and waits chunk by chunk, as GPUs do.
    if (!launches.isOneWarp())
        launches.oneWarp<MORIEP_TRACE_DISPATCH_AWAIT>(internodev1::dispatchAwait);
    launches.grid<MORIEP_TRACE_DISPATCH_FORWARD>(internodev1::dispatchForward);
    launches.oneWarp<MORIEP_TRACE_DISPATCH_RECEIVE>(dispatchReceive);
}

template <class Wire>
void dispatchInterNode(DispatchLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND)) {
        launches.oneWarp<MORIEP_TRACE_DISPATCH_BEGIN>(dispatchBegin);
        launches.grid<MORIEP_TRACE_DISPATCH_SEND>(internode::dispatchSend<Wire>);
    }
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp<MORIEP_TRACE_DISPATCH_RECEIVE>(internode::dispatchReceive);
        launches.grid<MORIEP_TRACE_DISPATCH_UNPACK>(internode::dispatchUnpack);
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
    if (launches.has(MORIEP_HALF_SEND))
        launches.grid<MORIEP_TRACE_COMBINE_SEND>(intranode::combineSend<Wire>);
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp<MORIEP_TRACE_COMBINE_WAIT>(intranode::combineWait);
        launches.grid<MORIEP_TRACE_COMBINE_REDUCE>(intranode::combineReduce<Element, Wire>);
    }
}

template <class Element, class Wire>
void combineInterNodeV1(CombineLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND))
        launches.grid<MORIEP_TRACE_COMBINE_SEND>(internodev1::combineSend);
    if (!launches.has(MORIEP_HALF_RECEIVE)) return;
    launches.oneWarp<MORIEP_TRACE_COMBINE_WAIT>(internodev1::combineWait);
    launches.rdmaGrid<MORIEP_TRACE_COMBINE_FORWARD>(internodev1::combineForward<Element, Wire>);
    launches.grid<MORIEP_TRACE_COMBINE_OWN>(internodev1::combineOwn<Element>);
    launches.oneWarp<MORIEP_TRACE_COMBINE_RECEIVE>(internodev1::combineReceive);
    launches.grid<MORIEP_TRACE_COMBINE_REDUCE>(internodev1::combineReduce<Element, Wire>);
}

template <class Element, class Wire>
void combineInterNode(CombineLaunches& launches) {
    if (launches.has(MORIEP_HALF_SEND))
        launches.grid<MORIEP_TRACE_COMBINE_SEND>(internode::combineSend<Wire>);
    if (launches.has(MORIEP_HALF_RECEIVE)) {
        launches.oneWarp<MORIEP_TRACE_COMBINE_RECEIVE>(internode::combineReceive);
        launches.grid<MORIEP_TRACE_COMBINE_REDUCE>(internode::combineReduce<Element, Wire>);
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

template <int phase, class Kernel>
void runGrid(host::GridRunner& grid, const moriep_received_arguments& arguments, Kernel kernel) {
    grid.run(arguments.launch.blocks, arguments.launch.warps_per_block, false, [&](Block& block) {
        runWarp<phase>(block, arguments, kernel);
    });
}

inline void received(host::GridRunner& grid, const moriep_received_arguments& arguments) {
    if (arguments.work == MORIEP_COUNT_EXPERTS) {
        return runGrid<MORIEP_TRACE_COUNT_EXPERTS>(grid, arguments, standardmoe::countExperts);
    }
    if (arguments.work == MORIEP_PACK_EXPERTS) {
        return runGrid<MORIEP_TRACE_PACK_EXPERTS>(grid, arguments, standardmoe::packExperts);
    }
    switch (arguments.element_type) {
#define MORI_SUM(type, Element, number, ...) \
    case number:                             \
        return runGrid<MORIEP_TRACE_SUM_EXPERTS>(grid, arguments, standardmoe::sumExperts<Element>);
        MORI_FOR_ELEMENTS(MORI_SUM)
#undef MORI_SUM
    }
}

inline void dispatch(host::GridRunner& grid,
                     const moriep_dispatch_arguments& arguments,
                     bool streams) {
    const moriep_shape& shape = arguments.op.shape;
    DispatchLaunches launches(grid, arguments, streams);
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
}

inline void combine(host::GridRunner& grid,
                    const moriep_combine_arguments& arguments,
                    bool streams) {
    const moriep_shape& shape = arguments.op.shape;
    CombineLaunches launches(grid, arguments, streams);
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
}

}  // namespace MORI_KERNELS::verbs

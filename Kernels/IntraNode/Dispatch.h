// IntraNode dispatch: every token once to each rank that hosts one of its experts.
//
// Three launches on one stream, which orders them:
//   1. dispatchBegin    one warp    a new round; a barrier first if the last was not combined (P4)
//   2. dispatchSend     the grid    count, reserve, route, copy; the last block signals
//   3. dispatchReceive  one warp    awaits every rank's signal, sums what came
//
// Rows are written straight into the peers' receive buffers. That needs no handshake: a rank comes
// here only after it combined, and combine waits for every peer (P2).
// Only the one-warp launches wait for peers; blocks of the grid finish and count (P19).
#pragma once

#include "Shmem/Placement.h"
#include "Shmem/Round.h"

namespace MORI_KERNELS::intranode {

/// Bytes of block memory that dispatchSend asks for.
MORI_SHARED uint64_t dispatchSharedBytes(const moriep_shape& shape, int warps) {
    return placementSharedBytes(shape, warps);
}

/// Launch 2: sends this rank's tokens.
template <class Wire>
MORI_DEVICE void dispatchSend(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    moriep_control* control = op.control();
    if (control->failed != 0) return;
    const uint32_t epoch = control->epoch;
    const PlacementShared shared = PlacementShared::of(block, op);
    const Range tokens = Range::part(control->token_count, block.index(), block.count());
    placeRows(block, TokensAs<Wire>(arguments), tokens, shared);

    const auto finish = [&] {
        block.once([&](const BlockWarp& first) {
            if (!lastBlock(first, block, &control->dispatch_blocks_finished)) return;
            signalPlaced(first, op, arguments, epoch);
        });
    };
    if (isMutant(Mutant::signalBeforePayload)) return finish();
    // Every warp's rows are visible before the block counts itself done.
    block.publish();
    finish();
}

}  // namespace MORI_KERNELS::intranode

// IntraNode combine: the sum of the rows that a token's ranks give back.
//
// Three launches on one stream, which orders them:
//   1. combineSend    the grid  external input: rows to their source ranks' landing buffers;
//                               registered buffer: only the weights; the last block signals
//   2. combineWait    one warp  awaits every rank's signal, even of ranks that owe nothing: they
//                               may still read what the next dispatch writes (P2)
//   3. combineReduce  the grid  sums in ascending order of ranks, fp32, one rounding (P14)
#pragma once

#include "Shmem/CombineRound.h"

namespace MORI_KERNELS::intranode {

/// Makes one row of the experts' output reachable for its source: an external one lands where its
/// token's rank looks for it, others stay in place; weights go with it.
template <class Wire>
MORI_DEVICE void returnRow(const Warp& warp,
                           const moriep_combine_arguments& arguments,
                           int64_t row) {
    const Operator op(arguments.op);
    const moriep_shape& shape = op.shape();
    const bool external = arguments.input != 0;
    PeerRow place{op.block(op.rank()), row};
    if (external) {
        const int source = op.receivedSources(op.rank())[row];
        const int64_t token = source % shape.max_tokens;
        place = {op.block(source / shape.max_tokens),
                 int64_t(op.rank()) * shape.max_tokens + token};
    }
    if (arguments.weights != 0) {
        const RowBuffer rows{op.layout().combine_input_weights, int64_t(shape.top_k) * 4};
        warp.copy(pointer<char>(rows.address(place)),
                  pointer<const char>(arguments.weights) + row * rows.stride,
                  rows.stride);
    }
    if (!external) return;
    const RowBuffer rows{op.layout().combine_input, wireRowOf(arguments).bytes};
    sendRow<Wire>(warp,
                  machine::reread(arguments),
                  rows.address(place),
                  arguments.input + static_cast<uint64_t>(row * arguments.row_bytes));
}

/// Launch 1: makes this rank's expert output reachable for its sources.
template <class Wire>
MORI_DEVICE void combineSend(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const moriep_layout& layout = op.layout();
    moriep_control* control = op.control();
    if (control->failed != 0) return;
    const uint32_t epoch = control->epoch;
    const bool hasRows = arguments.input != 0 || arguments.weights != 0;
    const bool tooFew = control->received_count > arguments.input_rows;
    const int64_t rows = tooFew || !hasRows ? 0 : control->received_count;
    const Range range = Range::part(rows, block.index(), block.count());
    for (int64_t row = range.begin + block.warp().index(); row < range.end; row += block.warps()) {
        returnRow<Wire>(block.warp(), machine::reread(arguments), row);
    }

    block.publish();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->combine_blocks_finished)) return;
        first.elect([&](const BlockOnce& once) { recordCombine(op, arguments, tooFew, once); });
        first.sync();
        if (tooFew) return;
        // Pairs with awaitRanks in the peers' combineWait.
        signalRanks<MORIEP_PHASE_COMBINE_READY>(first,
                                                op,
                                                op.everyRank(),
                                                layout.combine_signals,
                                                Signal{epoch, arguments.signature, 0},
                                                [](int) { return 0u; });
    });
}

/// Whether any of this rank's tokens went to a rank. Only the mutant of P2 asks.
MORI_DEVICE bool sentRowsTo(const Operator& op, int rank) {
    for (int token = 0; token < op.control()->token_count; ++token) {
        if (routeOfToken(op, token).set[rank / 64] >> (rank % 64) & 1) return true;
    }
    return false;
}

/// Launch 2: waits until every rank's rows can be read and every rank is done with its own.
MORI_DEVICE void combineWait(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (control->failed != 0) return;
        const uint32_t epoch = control->epoch;
        // Pairs with signalRanks in every rank's combineSend.
        const bool came = awaitSignals(
            warp,
            op,
            op.worldSize(),
            MORIEP_PHASE_COMBINE_READY,
            MORIEP_VERB_COMBINE,
            Signal{epoch, arguments.signature, 0},
            arguments.timeout_ns,
            Waking::yes,
            [&](int peer) -> const uint64_t* {
                if (!op.isActive(peer)) return nullptr;
                if (isMutant(Mutant::combineSparesPeers) && !sentRowsTo(op, peer)) return nullptr;
                return op.signal(op.layout().combine_signals, epoch, op.rank(), peer);
            },
            [&](int peer) { return peer; });
        if (!came) return;
        warp.elect([&](const BlockOnce&) { control->combined_epoch = epoch; });
    });
}

/// Bytes of block memory that combineReduce asks for.
MORI_SHARED uint64_t combineSharedBytes(const moriep_shape& shape, int warps) {
    return static_cast<uint64_t>(warps) * maxDestinations(shape) * sizeof(PeerRow) + 16;
}

/// The rows that a token's ranks have for it: in their own memory, or landed here.
class ReturnedRows : public AllAlike {
public:
    MORI_DEVICE ReturnedRows(const Operator& op, const moriep_combine_arguments& arguments)
        : op_(op), arguments_(arguments) {}

    MORI_DEVICE int of(const Warp& warp, int64_t token, PeerRow* table) const {
        const bool external = arguments_.call.external_input != 0;
        const int64_t maxTokens = op_.shape().max_tokens;
        return rowsOfRoute(warp, routeOfToken(op_, token), table, [&](int rank, int slot) {
            if (!external) return PeerRow{op_.block(rank), slot};
            return PeerRow{op_.block(op_.rank()), rank * maxTokens + token};
        });
    }
    MORI_DEVICE RowBuffer rows() const {
        return {op_.layout().combine_input, wireRowOf(arguments_).bytes};
    }
    MORI_DEVICE RowBuffer weights() const {
        return {op_.layout().combine_input_weights, int64_t(op_.shape().top_k) * 4};
    }

private:
    const Operator& op_;
    const moriep_combine_arguments& arguments_;
};

/// Launch 3: sums what came back for each own token.
template <class Element, class Wire = Plain>
MORI_DEVICE void combineReduce(Block& block, const moriep_combine_arguments& arguments) {
    const int most = maxDestinations(arguments.op.shape);
    PeerRow* table =
        block.shared<PeerRow>(int64_t(block.warps()) * most) + block.warp().index() * most;
    reduceTokens<Element, ReturnedRows, Wire>(block, arguments, table);
}

}  // namespace MORI_KERNELS::intranode

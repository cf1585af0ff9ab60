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

namespace mori::intranode {

/// Launch 1: makes this rank's expert output reachable for its sources.
MORI_DEVICE void combineSend(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const moriep_shape& shape = op.shape();
    const moriep_layout& layout = op.layout();
    moriep_control* control = op.control();
    const Warp& warp = block.warp();
    if (control->failed != 0) return;
    const uint32_t epoch = control->epoch;
    const bool external = arguments.input != 0;
    const RowBuffer inputRows{layout.combine_input, arguments.row_bytes};
    const RowBuffer weightRows{layout.combine_input_weights, int64_t(shape.top_k) * 4};
    const int* sources = op.receivedSources(op.rank());

    const bool hasRows = external || arguments.weights != 0;
    const bool tooFew = control->received_count > arguments.input_rows;
    const int64_t rows = tooFew || !hasRows ? 0 : control->received_count;
    const Range range = Range::part(rows, block.index(), block.count());
    for (int64_t row = range.begin + warp.index(); row < range.end; row += block.warps()) {
        // External rows land where their token's rank looks for them; others stay in place.
        PeerRow place{op.block(op.rank()), row};
        if (external) {
            const int source = sources[row];
            const int rank = source / shape.max_tokens;
            const int64_t token = source % shape.max_tokens;
            place = {op.block(rank), int64_t(op.rank()) * shape.max_tokens + token};
            warp.copy(pointer<char>(inputRows.address(place)),
                      pointer<const char>(arguments.input) + row * inputRows.stride,
                      inputRows.stride);
        }
        if (arguments.weights != 0) {
            warp.copy(pointer<char>(weightRows.address(place)),
                      pointer<const char>(arguments.weights) + row * weightRows.stride,
                      weightRows.stride);
        }
    }

    block.publish();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->combine_blocks_finished)) return;
        first.elect([&](const BlockOnce& once) { recordCombine(op, arguments, tooFew, once); });
        first.sync();
        if (tooFew) return;
        // Pairs with awaitRanks in the peers' combineWait.
        signalRanks(first,
                    op,
                    op.everyRank(),
                    layout.combine_signals,
                    Signal{epoch, arguments.signature, 0},
                    [](int) { return 0u; });
    });
}

/// Launch 2: waits until every rank's rows can be read and every rank is done with its own.
MORI_DEVICE void combineWait(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (control->failed != 0) return;
        const uint32_t epoch = control->epoch;
        // Pairs with signalRanks in every rank's combineSend.
        const bool came = awaitRanks(warp,
                                     op,
                                     op.everyRank(),
                                     op.layout().combine_signals,
                                     MORIEP_PHASE_COMBINE_READY,
                                     MORIEP_VERB_COMBINE,
                                     Signal{epoch, arguments.signature, 0},
                                     arguments.timeout_ns);
        if (!came) return;
        warp.elect([&](const BlockOnce&) { control->combined_epoch = epoch; });
    });
}

/// Bytes of block memory that combineReduce asks for.
MORI_SHARED uint64_t combineSharedBytes(const moriep_shape& shape, int warps) {
    return static_cast<uint64_t>(warps) * maxDestinations(shape) * sizeof(PeerRow) + 16;
}

/// Launch 3: sums what came back for each own token.
template <class Element>
MORI_DEVICE void combineReduce(Block& block, const moriep_combine_arguments& arguments) {
    using Storage = typename Element::Storage;
    const Operator op(arguments.op);
    const moriep_shape& shape = op.shape();
    const moriep_layout& layout = op.layout();
    const moriep_control* control = op.control();
    const Warp& warp = block.warp();
    const int64_t hidden = arguments.call.hidden;
    const bool external = arguments.input != 0;
    const int tokens = control->token_count;
    const bool failed = control->failed != 0;
    const RowBuffer inputRows{layout.combine_input, arguments.row_bytes};
    const RowBuffer weightRows{layout.combine_input_weights, int64_t(shape.top_k) * 4};
    Storage* output = pointer<Storage>(op.local(layout.combine_output));
    float* outputWeights = pointer<float>(op.local(layout.combine_output_weights));
    PeerRow* rows = block.shared<PeerRow>(int64_t(block.warps()) * maxDestinations(shape)) +
                    warp.index() * maxDestinations(shape);

    const int warps = block.count() * block.warps();
    const RowParts parts = RowParts::of(tokens, arguments.row_bytes, warps);
    for (int item = block.index() * block.warps() + warp.index(); item < tokens * parts.parts;
         item += warps) {
        const int64_t token = item / parts.parts;
        const int part = item % parts.parts;
        const Range range = parts.range(hidden, Element::kBytes, part);
        if (failed) {
            fillVoid<Element>(warp, output + token * hidden, range);
            if (part == 0 && arguments.weights != 0) {
                fillVoid<Float32>(
                    warp, outputWeights + token * shape.top_k, {0, int64_t(shape.top_k)});
            }
            continue;
        }
        // Named, because nvcc 13.5 fails on it as a temporary inside a template.
        const auto place = [&](int rank, int slot) {
            if (!external) return PeerRow{op.block(rank), slot};
            return PeerRow{op.block(op.rank()), int64_t(rank) * shape.max_tokens + token};
        };
        const int count = rowsOfRoute(warp, routeOfToken(op, token), rows, place);
        warp.template accumulate<Element>(
            output + token * hidden, rows, count, inputRows, range.begin, range.end - range.begin);
        if (part == 0 && arguments.weights != 0) {
            warp.template accumulate<Float32>(
                outputWeights + token * shape.top_k, rows, count, weightRows, 0, shape.top_k);
        }
    }
}

}  // namespace mori::intranode

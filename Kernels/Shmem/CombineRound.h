// What the combines of all kernel types have in common.
#pragma once

#include "Shmem/Rows.h"
#include "Shmem/Signal.h"

namespace MORI_KERNELS {

/// Records this rank's call for its peers; if the input has fewer rows than were received, the
/// round is void.
MORI_DEVICE void recordCombine(const Operator& op,
                               const moriep_combine_arguments& arguments,
                               bool tooFew,
                               const BlockOnce& once) {
    const moriep_control* control = op.control();
    const uint32_t epoch = control->epoch;
    moriep_call* call = op.callRecord(MORIEP_VERB_COMBINE, epoch, op.rank());
    *call = arguments.call;
    call->epoch = epoch;
    if (!tooFew) return;
    Verdict verdict{MORIEP_FAILURE_INPUT_ROWS, op.rank(), -1, 0, 0, 0, 0};
    verdict.expected = static_cast<uint64_t>(control->received_count);
    verdict.found = static_cast<uint64_t>(arguments.input_rows);
    failRound(op, MORIEP_PHASE_COMBINE_READY, epoch, verdict, call, nullptr, once);
}

/// Fills elements with NaN: a void round never looks like a result.
template <class Element, class T>
MORI_DEVICE void fillVoid(const Warp& warp, T* row, Range range) {
    static_assert(sizeof(T) == Element::kBytes);
    using Storage = typename Element::Storage;
    warp.fill(
        reinterpret_cast<Storage*>(row) + range.begin, Element::kNaN, range.end - range.begin);
}

/// Stores one row of the experts' output where it is sent from, or to: as it is, or quantized.
template <class Wire>
MORI_DEVICE void sendRow(const Warp& warp,
                         const moriep_combine_arguments& arguments,
                         uint64_t to,
                         uint64_t from) {
    if constexpr (kQuantizes<Wire>) {
        const WireFormat format = wireFormatOf(arguments);
        quantizeRow<Wire>(warp, to, from, RowParts{1}.units(format, 0), format);
    } else {
        warp.copy(pointer<char>(to), pointer<const char>(from), arguments.row_bytes);
    }
}

/// Sums one part of one token of this rank from the rows that `Rows` names:
///   Rows(op, arguments)              what they are
///   int of(warp, token, PeerRow*)    fills the table in the order of the sum; -1: it is finished
///   RowBuffer rows(), weights()      where rows and weights lie from an entry's base on
///   int plainAt(token)               the entry that is bf16 where others are quantized; -1: none
///   RowBuffer plain()                where its row lies
///   PeerRow plainWeights(token)      the entry that stands for it among `weights()`
template <class Element, class Rows, class Wire>
MORI_DEVICE void reduceToken(const Warp& warp,
                             const moriep_combine_arguments& arguments,
                             int64_t token,
                             const RowParts& parts,
                             int part,
                             PeerRow* table) {
    using Storage = typename Element::Storage;
    const Operator op(arguments.op);
    const int topK = op.shape().top_k;
    const int64_t entries = arguments.row_bytes / Element::kBytes;
    const Range range = parts.range(entries, Element::kBytes, part);
    const bool sumsWeights = part == 0 && arguments.call.has_weights != 0;
    Storage* output = pointer<Storage>(op.local(op.layout().combine_output)) + token * entries;
    float* weights = pointer<float>(op.local(op.layout().combine_output_weights)) + token * topK;
    if (op.control()->failed != 0) {
        if (isMutant(Mutant::voidRoundKeepsRows)) return;
        fillVoid<Element>(warp, output, range);
        if (sumsWeights) fillVoid<Float32>(warp, weights, {0, topK});
        return;
    }
    const Rows rows(op, arguments);
    const int count = rows.of(warp, token, table);
    if (count < 0) return;
    if constexpr (kQuantizes<Wire>) {
        const WireFormat format = wireFormatOf(arguments);
        const int plainAt = rows.plainAt(token);
        sumWire<Wire>(warp,
                      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(output)),
                      table,
                      count,
                      rows.rows(),
                      plainAt,
                      rows.plain(),
                      parts.units(format, part),
                      format);
        if (sumsWeights && plainAt >= 0) {
            warp.sync();  // the lanes are done with the row
            warp.elect([&](const WarpOnce&) { table[plainAt] = rows.plainWeights(token); });
            warp.sync();
        }
    } else {
        warp.template accumulate<Element>(
            output, table, count, rows.rows(), range.begin, range.end - range.begin);
    }
    if (sumsWeights) {
        warp.template accumulate<Float32>(weights, table, count, rows.weights(), 0, topK);
    }
}

/// Sums what came back for each token of this rank. `table` is this warp's.
template <class Element, class Rows, class Wire>
MORI_DEVICE void reduceTokens(Block& block,
                              const moriep_combine_arguments& arguments,
                              PeerRow* table) {
    const Warp& warp = block.warp();
    const int tokens = Operator(arguments.op).control()->token_count;
    const int warps = block.count() * block.warps();
    const RowParts parts = RowParts::of(tokens, arguments.row_bytes, warps);
    for (int item = block.index() * block.warps() + warp.index(); item < tokens * parts.parts;
         item += warps) {
        reduceToken<Element, Rows, Wire>(
            warp, machine::reread(arguments), item / parts.parts, parts, item % parts.parts, table);
    }
}

/// What `Rows` of reduceToken says where all rows are alike.
struct AllAlike {
    MORI_DEVICE int plainAt(int64_t) const { return -1; }
    MORI_DEVICE RowBuffer plain() const { return {0, 0}; }
    MORI_DEVICE PeerRow plainWeights(int64_t) const { return {0, 0}; }
};

}  // namespace MORI_KERNELS

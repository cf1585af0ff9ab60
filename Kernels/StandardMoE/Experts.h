// Received rows by expert: what is done on the rank that received them, without any other.
//
//   countExperts   pairs of a row and one of this rank's experts, by expert
//   packExperts    rows grouped by expert, [experts][capacity][row], in the order of rows
//   sumExperts     back: for each row the weighted sum over its experts, in the order of its ids
//
// No slot depends on the grid: a block counts the rows before its own by itself.
#pragma once

#include "Shmem/Rows.h"

namespace MORI_KERNELS::standardmoe {

/// What one call is about.
class Received {
public:
    explicit MORI_DEVICE Received(const moriep_received_arguments& arguments)
        : arguments_(arguments), op_(arguments.op) {}

    MORI_DEVICE const Operator& op() const { return op_; }
    MORI_DEVICE int topK() const { return op_.shape().top_k; }
    MORI_DEVICE int experts() const { return op_.shape().experts_per_rank; }
    MORI_DEVICE int rows() const { return op_.control()->received_count; }

    /// The place among this rank's experts of pair `pair` of rows and ids; -1: another rank's.
    MORI_DEVICE int placeOfPair(int64_t pair) const {
        return op_.placeOfExpert(pointer<const int>(arguments_.indices)[pair]);
    }
    /// The row of the packed layout that a pair has; -1: none.
    MORI_DEVICE int* slotOfPair(int64_t pair) const {
        return pointer<int>(op_.local(op_.layout().standard_slots)) + pair;
    }

private:
    const moriep_received_arguments& arguments_;
    Operator op_;
};

/// Block memory of the three launches, at most.
MORI_SHARED uint64_t sharedBytes(const moriep_shape& shape, int warps) {
    const uint64_t rows = static_cast<uint64_t>(warps) * static_cast<uint64_t>(shape.top_k);
    return static_cast<uint64_t>(shape.experts_per_rank) * 4 + rows * (sizeof(PeerRow) + 4) + 64;
}

/// Adds the pairs of a range to the counters of their experts; every warp of the block calls this.
MORI_DEVICE void countPairs(Block& block, const Received& received, Range pairs, uint32_t* counts) {
    const Warp& warp = block.warp();
    const Range part = Range::part(pairs.end - pairs.begin, warp.index(), block.warps());
    warp.each(static_cast<int>(part.end - part.begin), [&](int i, const WarpOnce& once) {
        const int expert = received.placeOfPair(pairs.begin + part.begin + i);
        if (expert >= 0) machine::addShared(&counts[expert], 1, once);
    });
}

MORI_DEVICE uint32_t* zeroedCounts(Block& block, int experts) {
    uint32_t* counts = block.shared<uint32_t>(experts);
    block.once([&](const BlockWarp& first) {
        first.lanes(experts, [&](int64_t expert) { counts[expert] = 0; });
    });
    block.sync();
    return counts;
}

/// Each block counts all pairs and stores the counts of some experts: nothing to add up, and
/// nothing that had to be zero before.
MORI_DEVICE void countExperts(Block& block, const moriep_received_arguments& arguments) {
    const Received received(arguments);
    const Range mine = Range::part(received.experts(), block.index(), block.count());
    if (mine.begin == mine.end) return;
    uint32_t* counts = zeroedCounts(block, received.experts());
    countPairs(block, received, {0, int64_t(received.rows()) * received.topK()}, counts);
    block.sync();
    block.once([&](const BlockWarp& first) {
        first.lanes(mine.end - mine.begin, [&](int64_t i) {
            pointer<int>(arguments.counts)[mine.begin + i] =
                static_cast<int>(counts[mine.begin + i]);
        });
    });
}

/// A row of the packed layout for each pair of a range, in the order of pairs: one lane an expert.
/// The last block knows how many there are in all.
MORI_DEVICE void numberPairs(const BlockWarp& first,
                             const moriep_received_arguments& arguments,
                             Range pairs,
                             bool isLast,
                             const uint32_t* before) {
    const Received received(arguments);
    first.lanes(received.experts(), [&](int64_t expert) {
        const int begin = static_cast<int>(expert) * arguments.capacity;
        int count = static_cast<int>(before[expert]);
        for (int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
            if (received.placeOfPair(pair) != expert) continue;
            *received.slotOfPair(pair) = count < arguments.capacity ? begin + count : -1;
            ++count;
        }
        if (!isLast) return;
        const int kept = smaller(count, arguments.capacity);
        pointer<int>(arguments.counts)[expert] = kept;
        pointer<int>(arguments.overflow)[expert] = count - kept;
    });
}

/// Copies one received row to all its places; it is read once.
MORI_DEVICE void packRow(const Warp& warp,
                         const moriep_received_arguments& arguments,
                         int64_t row,
                         PeerRow* table) {
    const Received received(arguments);
    const int topK = received.topK();
    const int source = received.op().receivedSources(received.op().rank())[row];
    warp.sync();  // the lanes are done with the table of the row before
    warp.lanes(topK, [&](int64_t k) {
        const int slot = *received.slotOfPair(row * topK + k);
        table[k] = slot < 0 ? PeerRow{0, 0} : PeerRow{arguments.packed, slot};
        if (slot >= 0) pointer<int>(arguments.packed_sources)[slot] = source;
    });
    warp.sync();
    const RowBuffer rows{0, arguments.row_bytes};
    warp.copyToMany(table,
                    topK,
                    0,
                    rows,
                    pointer<const char>(arguments.tokens) + row * arguments.row_bytes,
                    0,
                    arguments.row_bytes);
    if (arguments.scale_bytes == 0) return;
    warp.copyToMany(table,
                    topK,
                    0,
                    {arguments.packed_scales - arguments.packed, arguments.scale_bytes},
                    pointer<const char>(arguments.scales) + row * arguments.scale_bytes,
                    0,
                    arguments.scale_bytes);
}

MORI_DEVICE void packExperts(Block& block, const moriep_received_arguments& arguments) {
    const Received received(arguments);
    const Warp& warp = block.warp();
    const int topK = received.topK();
    const Range rows = Range::part(received.rows(), block.index(), block.count());
    const Range pairs{rows.begin * topK, rows.end * topK};
    uint32_t* before = zeroedCounts(block, received.experts());
    PeerRow* table = block.shared<PeerRow>(int64_t(block.warps()) * topK) + warp.index() * topK;
    countPairs(block, received, {0, pairs.begin}, before);
    block.once([&](const BlockWarp& first) {
        first.lanes(pairs.end - pairs.begin, [&](int64_t i) {
            if (received.placeOfPair(pairs.begin + i) < 0) {
                *received.slotOfPair(pairs.begin + i) = -1;
            }
        });
    });
    block.sync();
    block.once([&](const BlockWarp& first) {
        const bool isLast = block.index() == block.count() - 1;
        numberPairs(first, machine::reread(arguments), pairs, isLast, before);
    });
    block.sync();
    for (int64_t row = rows.begin + warp.index(); row < rows.end; row += block.warps()) {
        packRow(warp, machine::reread(arguments), row, table);
    }
}

/// Sums one part of one row over its experts.
template <class Element>
MORI_DEVICE void sumRow(const Warp& warp,
                        const moriep_received_arguments& arguments,
                        int64_t row,
                        const RowParts& parts,
                        int part,
                        PeerRow* table,
                        float* factors) {
    const Received received(arguments);
    const int topK = received.topK();
    const float* weights = pointer<const float>(arguments.weights) + row * topK;
    warp.sync();  // the lanes are done with the table of the row before
    warp.lanes(topK, [&](int64_t k) {
        const int slot = *received.slotOfPair(row * topK + k);
        table[k] = slot < 0 ? PeerRow{0, 0} : PeerRow{arguments.packed, slot};
        factors[k] = weights[k];
    });
    warp.sync();
    const int64_t entries = arguments.row_bytes / Element::kBytes;
    const Range range = parts.range(entries, Element::kBytes, part);
    warp.template accumulateWeighted<Element>(
        pointer<char>(arguments.output) + row * arguments.row_bytes,
        table,
        factors,
        topK,
        {0, arguments.row_bytes},
        range.begin,
        range.end - range.begin);
}

template <class Element>
MORI_DEVICE void sumExperts(Block& block, const moriep_received_arguments& arguments) {
    const Received received(arguments);
    const Warp& warp = block.warp();
    const int topK = received.topK();
    PeerRow* table = block.shared<PeerRow>(int64_t(block.warps()) * topK) + warp.index() * topK;
    float* factors = block.shared<float>(int64_t(block.warps()) * topK) + warp.index() * topK;
    const int rows = received.rows();
    const int warps = block.count() * block.warps();
    const RowParts parts = RowParts::of(rows, arguments.row_bytes, warps);
    for (int item = block.index() * block.warps() + warp.index(); item < rows * parts.parts;
         item += warps) {
        sumRow<Element>(warp,
                        machine::reread(arguments),
                        item / parts.parts,
                        parts,
                        item % parts.parts,
                        table,
                        factors);
    }
}

}  // namespace MORI_KERNELS::standardmoe

// Where a token's copies lie: from the route that dispatch kept to a table of peers' rows.
#pragma once

#include "Shmem/Operator.h"

namespace MORI_KERNELS {

/// Where one token went: a set of ranks, bit 0 the first of `ranks`, and for each of them in
/// ascending order the slot of its copy; -1: dropped.
struct Route {
    Ranks ranks;
    uint64_t* set;
    int* slots;

    MORI_DEVICE int words() const { return rankSetWords(ranks.count); }
    /// Ranks that a word of the set speaks of.
    MORI_DEVICE int ranksOfWord(int word) const { return smaller(ranks.count - word * 64, 64); }
};

/// The route of one of this rank's own tokens.
MORI_DEVICE Route routeOfToken(const Operator& op, int64_t token) {
    return {op.reachable(), op.destinationRanks(token), op.destinationSlots(token)};
}

/// Members of a set's word below a bit.
MORI_DEVICE int membersBelow(uint64_t set, int bit) {
    return __builtin_popcountll(set & ((uint64_t(1) << bit) - 1));
}

/// Fills `rows` with one entry for each rank of a route, in ascending order of ranks, and returns
/// how many. `place(rank, slot)` names the row; a dropped copy has base 0.
/// Every lane of the warp may read the table after this returns.
template <class Place>
MORI_DEVICE int rowsOfRoute(const Warp& warp, const Route& route, PeerRow* rows, Place&& place) {
    int count = 0;
    warp.sync();  // the lanes are done with the table of the token before
    for (int word = 0; word < route.words(); ++word) {
        const uint64_t set = route.set[word];
        warp.lanes(route.ranksOfWord(word), [&](int64_t bit) {
            if ((set >> bit & 1) == 0) return;
            const int at = count + membersBelow(set, static_cast<int>(bit));
            const int rank = route.ranks.first + word * 64 + static_cast<int>(bit);
            rows[at] = route.slots[at] < 0 ? PeerRow{0, 0} : place(rank, route.slots[at]);
        });
        count += __builtin_popcountll(set);
    }
    warp.sync();
    return count;
}

/// A row of this combine as it is sent.
MORI_DEVICE WireRow wireRowOf(const moriep_combine_arguments& arguments) {
    return WireRow::of(
        arguments.row_bytes, arguments.call.quantization, arguments.op.shape.quantization_block);
}
MORI_DEVICE WireFormat wireFormatOf(const moriep_combine_arguments& arguments) {
    return {arguments.call.hidden,
            arguments.op.shape.quantization_block,
            arguments.call.quantization != MORIEP_QUANTIZATION_FP8_DIRECT_CAST,
            static_cast<uint32_t>(wireRowOf(arguments).scales)};
}

/// How a block's warps share rows: whole rows each, or parts of a row when rows are few.
struct RowParts {
    int parts;

    /// Parts of at least `kMinimumBytes`, no more than give each warp one. (32-bit arithmetic: GPUs
    /// divide 64 bits by a long subroutine.)
    static MORI_DEVICE RowParts of(int64_t rows, int64_t rowBytes, int warps) {
        constexpr int64_t kMinimumBytes = 1024;
        if (rows <= 0 || rows >= warps) return {1};
        const int wanted = warps / static_cast<int>(rows);
        const int most = static_cast<int>(rowBytes / kMinimumBytes);
        return {most < 1 ? 1 : smaller(wanted, most)};
    }

    /// Units of one part of a quantized row: whole blocks.
    MORI_DEVICE Units units(const WireFormat& format, int part) const {
        const int perBlock = format.block / kUnitElements;
        const int all = (format.elements + kUnitElements - 1) / kUnitElements;
        const int blocks = format.blocks();
        const int each = blocks / parts;
        const int more = blocks % parts;  // so many parts have one more
        const int begin = (part * each + smaller(part, more)) * perBlock;
        const int end = begin + (each + (part < more ? 1 : 0)) * perBlock;
        return {smaller(begin, all), smaller(end, all)};
    }

    /// Elements of one part: a multiple of 16 bytes' worth, but for the last.
    MORI_DEVICE Range range(int64_t elements, int elementBytes, int part) const {
        const int grain = 16 / elementBytes;
        const int grains = static_cast<int>((elements + grain - 1) / grain);
        const int each = grains / parts;
        const int more = grains % parts;  // so many parts have one more
        const int64_t begin = int64_t(part * each + smaller(part, more)) * grain;
        const int64_t end = begin + int64_t(each + (part < more ? 1 : 0)) * grain;
        return {smaller64(begin, elements), smaller64(end, elements)};
    }

private:
    static MORI_DEVICE int64_t smaller64(int64_t a, int64_t b) { return a < b ? a : b; }
};

/// Counts one of `parts` finished and tells, in every lane, whether it was the last, which then may
/// speak for all of them. The block has published before. `finished` is zero again afterwards.
MORI_DEVICE bool lastPart(const BlockWarp& warp, int parts, uint32_t* finished) {
    const bool last = warp.any(1, [&](int, const BlockOnce& once) {
        const uint32_t count = machine::addDevice(finished, 1, once) + 1;
        if (isMutant(Mutant::lastBlockTooEarly) && parts > 1) {
            if (count == static_cast<uint32_t>(parts)) *finished = 0;
            return count == static_cast<uint32_t>(parts) - 1;
        }
        if (count != static_cast<uint32_t>(parts)) return false;
        *finished = 0;
        return true;
    });
    // What the other blocks published must be visible here before a word covers it (P10).
    if (last && !isMutant(Mutant::lastBlockWithoutAcquire)) machine::acquireSystem();
    return last;
}

/// The same for the blocks of a grid.
MORI_DEVICE bool lastBlock(const BlockWarp& warp, const Block& block, uint32_t* finished) {
    return lastPart(warp, block.count(), finished);
}

/// Whether the round is void, one answer for the whole block. `answer` is one word of its memory.
MORI_DEVICE bool roundFailed(Block& block, const Operator& op, uint32_t* answer) {
    block.once([&](const BlockWarp& first) {
        first.elect([&](const BlockOnce&) { *answer = op.failed() ? 1 : 0; });
    });
    block.sync();
    return *answer != 0;
}

}  // namespace MORI_KERNELS

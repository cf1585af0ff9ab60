// This rank's rows for each destination, numbered in order of tokens, without atomics: a block
// counts the tokens before its own by itself, so that no number depends on the grid.
#pragma once

#include "Shmem/Placement.h"

namespace MORI_KERNELS {

/// Block memory of numberTokens.
struct NumberingShared {
    uint32_t* before;  ///< [world_size] rows of the tokens before this block's
    uint32_t* counts;  ///< [world_size] rows of this block's tokens

    static MORI_DEVICE NumberingShared of(Block& block, const Operator& op) {
        NumberingShared shared{};
        shared.before = block.shared<uint32_t>(op.worldSize());
        shared.counts = block.shared<uint32_t>(op.worldSize());
        return shared;
    }
};

/// The set of ranks of one token, a word of it.
MORI_DEVICE uint64_t ranksOfToken(const Warp& warp,
                                  const Operator& op,
                                  const int* experts,
                                  int word) {
    return warp.combineBits(op.shape().top_k, [&](int k) {
        const int rank = op.rankOfExpert(experts[k]);
        return rank >= 0 && rank / 64 == word ? uint64_t(1) << (rank % 64) : 0;
    });
}

/// Rows of each rank among the tokens before this block's, and the sets of this block's tokens.
MORI_DEVICE void countTokens(const Warp& warp,
                             const Operator& op,
                             const OwnTokens& own,
                             Range tokens,
                             int warps,
                             const NumberingShared& shared) {
    for (int64_t token = warp.index(); token < tokens.end; token += warps) {
        const Route route = own.route(token);
        for (int word = 0; word < route.words(); ++word) {
            const uint64_t set = ranksOfToken(warp, op, own.experts(token), word);
            if (token >= tokens.begin) {
                warp.elect([&](const WarpOnce&) { route.set[word] = set; });
                continue;
            }
            warp.each(route.ranksOfWord(word), [&](int bit, const WarpOnce& once) {
                if (set >> bit & 1) machine::addShared(&shared.before[word * 64 + bit], 1, once);
            });
        }
    }
}

/// A row in each section for each token of this block, in order of tokens: one lane a rank.
MORI_DEVICE void numberRows(const BlockWarp& first,
                            const Operator& op,
                            const OwnTokens& own,
                            Range tokens,
                            const NumberingShared& shared) {
    first.each(op.worldSize(), [&](int rank, const BlockOnce& once) {
        uint32_t row = shared.before[rank];
        for (int64_t token = tokens.begin; token < tokens.end; ++token) {
            const Route route = own.route(token);
            const uint64_t set = route.set[rank / 64];
            if ((set >> (rank % 64) & 1) == 0) continue;
            int at = membersBelow(set, rank % 64);
            for (int word = 0; word < rank / 64; ++word) {
                at += __builtin_popcountll(route.set[word]);
            }
            route.slots[at] = static_cast<int>(row++);
        }
        shared.counts[rank] = row - shared.before[rank];
        if (shared.counts[rank] == 0) return;
        machine::addDevice(op.destinationCounts() + rank, shared.counts[rank], once);
    });
}

/// Stores the route of each of this block's tokens: its ranks, and for each of them the number of
/// its row among this rank's for it. Every warp of the block calls this.
MORI_DEVICE void numberTokens(Block& block,
                              const moriep_dispatch_arguments& arguments,
                              Range tokens,
                              const NumberingShared& shared) {
    const OwnTokens own(arguments);
    const Operator& op = own.op();
    block.once([&](const BlockWarp& first) {
        first.lanes(op.worldSize(), [&](int64_t rank) { shared.before[rank] = 0; });
    });
    block.sync();
    countTokens(block.warp(), op, own, tokens, block.warps(), shared);
    block.sync();
    block.once([&](const BlockWarp& first) { numberRows(first, op, own, tokens, shared); });
    block.sync();
}

}  // namespace MORI_KERNELS

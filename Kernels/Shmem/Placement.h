// Rows into the receive buffers of the ranks that a kernel can store to: what a round's own tokens
// and the packets of other nodes have in common.
//
//   1. count     how many rows this block has for each rank
//   2. reserve   one addition at each rank's slot counter for the whole block
//   3. route     a slot for each row
//   4. copy      each row is read once and stored to all its ranks
//
// `Source` says what is placed, for which arguments(): experts(row), source(row), route(row), and
// the bytes of a row by tokens(row), weights(row), scales(row). Each step begins with
// source.reread(). A replayed round keeps its routes: it skips what finds them.
#pragma once

#include "Shmem/Rows.h"
#include "Shmem/Signal.h"

namespace MORI_KERNELS {

/// Block memory of placeRows.
struct PlacementShared {
    uint32_t* counts;  ///< [reachable ranks] this block's rows for each rank
    uint32_t* taken;   ///< [reachable ranks] of those, how many have their slot
    int64_t* bases;    ///< [reachable ranks] first slot reserved at each rank
    PeerRow* rows;     ///< [max destinations], this warp's

    static MORI_DEVICE PlacementShared of(Block& block, const Operator& op) {
        const int ranks = op.reachable().count;
        const int destinations = maxDestinations(op.shape());
        PlacementShared shared{};
        shared.counts = block.shared<uint32_t>(ranks);
        shared.taken = block.shared<uint32_t>(ranks);
        shared.bases = block.shared<int64_t>(ranks);
        shared.rows = block.shared<PeerRow>(int64_t(block.warps()) * destinations) +
                      block.warp().index() * destinations;
        return shared;
    }
};

/// Bytes of block memory that placeRows asks for.
MORI_SHARED uint64_t placementSharedBytes(const moriep_shape& shape, int warps) {
    const uint64_t ranks = static_cast<uint64_t>(isV1(shape) ? shape.node_ranks : shape.world_size);
    const uint64_t rows = static_cast<uint64_t>(warps) * maxDestinations(shape);
    return ranks * (4 + 4 + 8) + rows * sizeof(PeerRow) + 4 * 16;
}

/// This rank's own tokens as rows to place; quantized to `W` on their way, or as they are.
template <class W>
class TokensAs {
public:
    using Wire = W;

    explicit MORI_DEVICE TokensAs(const moriep_dispatch_arguments& arguments)
        : arguments_(arguments), op_(arguments.op) {}
    MORI_DEVICE TokensAs reread() const { return TokensAs(machine::reread(arguments_)); }

    MORI_DEVICE const moriep_dispatch_arguments& arguments() const { return arguments_; }
    MORI_DEVICE const Operator& op() const { return op_; }
    MORI_DEVICE const int* experts(int64_t token) const {
        return pointer<const int>(arguments_.indices) + token * op_.shape().top_k;
    }
    MORI_DEVICE int source(int64_t token) const {
        return static_cast<int>(int64_t(op_.rank()) * op_.shape().max_tokens + token);
    }
    MORI_DEVICE Route route(int64_t token) const { return routeOfToken(op_, token); }
    MORI_DEVICE const char* tokens(int64_t token) const {
        return pointer<const char>(arguments_.tokens) + token * arguments_.input_row_bytes;
    }
    MORI_DEVICE const char* weights(int64_t token) const {
        return pointer<const char>(arguments_.weights) + token * op_.shape().top_k * 4;
    }
    MORI_DEVICE const char* scales(int64_t token) const {
        return pointer<const char>(arguments_.scales) + token * arguments_.call.scale_bytes;
    }

private:
    const moriep_dispatch_arguments& arguments_;
    Operator op_;
};
using OwnTokens = TokensAs<Plain>;

/// How a dispatch quantizes its tokens; the scales lie in a buffer of their own.
MORI_DEVICE WireFormat wireFormatOf(const moriep_dispatch_arguments& arguments) {
    return {arguments.call.hidden, arguments.op.shape.quantization_block, true, 0};
}

/// Step 1: the set of ranks of each row, and how many rows this block has for each rank.
template <class Source>
MORI_DEVICE void countRows(
    const Warp& warp, const Source& source, Range range, int warps, const PlacementShared& shared) {
    const Operator& op = source.op();
    const bool replays = source.arguments().call.replays != 0;
    for (int64_t row = range.begin + warp.index(); row < range.end; row += warps) {
        const int* experts = source.experts(row);
        const Route route = source.route(row);
        for (int word = 0; word < route.words(); ++word) {
            uint64_t set = route.set[word];
            if (!replays) {
                set = warp.combineBits(op.shape().top_k, [&](int k) {
                    const int rank = op.rankOfExpert(experts[k]);
                    if (rank < 0 || !route.ranks.contains(rank)) return uint64_t(0);
                    const int bit = rank - route.ranks.first;
                    return bit / 64 == word ? uint64_t(1) << (bit % 64) : 0;
                });
            }
            warp.each(route.ranksOfWord(word), [&](int bit, const WarpOnce& once) {
                if (set >> bit & 1) machine::addShared(&shared.counts[word * 64 + bit], 1, once);
            });
            warp.elect([&](const WarpOnce&) { route.set[word] = set; });
        }
    }
}

/// Step 2: one addition at each rank for the whole block.
MORI_DEVICE void reserveSlots(const BlockWarp& first,
                              const Operator& op,
                              uint32_t epoch,
                              bool replays,
                              const PlacementShared& shared) {
    const Ranks ranks = op.reachable();
    first.each(ranks.count, [&](int turn, const BlockOnce& once) {
        const int next = op.rank() - ranks.first + 1 + turn;
        const int place = next < ranks.count ? next : next - ranks.count;
        const int rank = ranks.first + place;
        const uint32_t count = shared.counts[place];
        if (count == 0) return;
        // A replayed round has its slots already.
        if (!replays) {
            const uint32_t reserved = isMutant(Mutant::reusedSlot) ? count - 1 : count;
            shared.bases[place] = static_cast<int64_t>(
                machine::addSystem(op.slotCounter(epoch, rank), reserved, once));
        }
        machine::addDevice(op.destinationCounts() + rank, count, once);
    });
}

/// Step 3: a slot for each row of this block, and the row's source beside it.
template <class Source>
MORI_DEVICE void assignSlots(
    const Warp& warp, const Source& source, Range range, int warps, const PlacementShared& shared) {
    const Operator& op = source.op();
    const bool replays = source.arguments().call.replays != 0;
    for (int64_t row = range.begin + warp.index(); row < range.end; row += warps) {
        const Route route = source.route(row);
        const int from = source.source(row);
        int before = 0;
        for (int word = 0; word < route.words(); ++word) {
            const uint64_t set = route.set[word];
            warp.each(route.ranksOfWord(word), [&](int bit, const WarpOnce& once) {
                if ((set >> bit & 1) == 0) return;
                const int place = word * 64 + bit;
                const int at = before + membersBelow(set, bit);
                const int64_t slot =
                    replays
                        ? int64_t(route.slots[at])
                        : shared.bases[place] + machine::addShared(&shared.taken[place], 1, once);
                if (slot >= 0 && slot < op.shape().max_received) {
                    route.slots[at] = static_cast<int>(slot);
                    op.receivedSources(route.ranks.first + place)[slot] = from;
                } else {
                    route.slots[at] = -1;  // the receiver counts it; never stored past the end
                }
            });
            before += __builtin_popcountll(set);
        }
    }
}

/// Part of a token and its scales, quantized into the receive buffers of a table's ranks.
template <class Source>
MORI_DEVICE void quantizeTokens(const Warp& warp,
                                const Source& source,
                                int64_t row,
                                const PeerRow* rows,
                                int count,
                                const RowParts& parts,
                                int part) {
    const moriep_dispatch_arguments& arguments = source.arguments();
    const moriep_layout& layout = source.op().layout();
    const WireFormat format = wireFormatOf(arguments);
    quantizeToMany<typename Source::Wire>(
        warp,
        rows,
        count,
        {layout.received_tokens, arguments.row_bytes},
        {layout.received_scales, arguments.call.scale_bytes},
        static_cast<uint64_t>(reinterpret_cast<uintptr_t>(source.tokens(row))),
        parts.units(format, part),
        format);
}

/// Step 4: each row is read once and stored to all its ranks. One part of one row.
template <class Source>
MORI_DEVICE void copyRow(const Warp& warp,
                         const Source& source,
                         int64_t row,
                         const RowParts& parts,
                         int part,
                         PeerRow* rows) {
    const moriep_dispatch_arguments& arguments = source.arguments();
    const Operator& op = source.op();
    const moriep_layout& layout = op.layout();
    const int64_t idBytes = int64_t(op.shape().top_k) * 4;
    const int count = rowsOfRoute(warp, source.route(row), rows, [&](int rank, int slot) {
        return PeerRow{op.block(rank), slot};
    });
    if (count == 0) return;
    const int start = op.rank() % count;
    const auto send = [&](uint64_t offset, int64_t stride, const void* from, Range bytes) {
        const int64_t length = bytes.end - bytes.begin;
        warp.copyToMany(rows, count, start, {offset, stride}, from, bytes.begin, length);
    };
    if (part == 0) {
        send(layout.received_indices, idBytes, source.experts(row), {0, idBytes});
        if (arguments.call.has_weights != 0) {
            send(layout.received_weights, idBytes, source.weights(row), {0, idBytes});
        }
        if (arguments.call.scale_bytes != 0 && !kQuantizes<typename Source::Wire>) {
            const int64_t bytes = arguments.call.scale_bytes;
            send(layout.received_scales, bytes, source.scales(row), {0, bytes});
        }
    }
    if constexpr (kQuantizes<typename Source::Wire>) {
        quantizeTokens(warp, source.reread(), row, rows, count, parts, part);
    } else {
        send(layout.received_tokens,
             arguments.row_bytes,
             source.tokens(row),
             parts.range(arguments.row_bytes, 1, part));
    }
}

/// Places the rows of one block; every warp of it calls this.
template <class Source>
MORI_DEVICE void placeRows(Block& block,
                           const Source& source,
                           Range range,
                           const PlacementShared& shared) {
    const Operator& op = source.op();
    const Warp& warp = block.warp();
    block.once([&](const BlockWarp& first) {
        first.lanes(op.reachable().count, [&](int64_t place) {
            shared.counts[place] = 0;
            shared.taken[place] = 0;
        });
    });
    block.sync();
    countRows(warp, source.reread(), range, block.warps(), shared);
    block.sync();
    block.once([&](const BlockWarp& first) {
        const bool replays = source.arguments().call.replays != 0;
        reserveSlots(first, op, op.control()->epoch, replays, shared);
    });
    block.sync();
    assignSlots(warp, source.reread(), range, block.warps(), shared);
    block.sync();
    const int rows = static_cast<int>(range.end - range.begin);
    const RowParts parts = RowParts::of(rows, source.arguments().row_bytes, block.warps());
    for (int item = warp.index(); item < rows * parts.parts; item += block.warps()) {
        const int64_t row = range.begin + item / parts.parts;
        copyRow(warp, source.reread(), row, parts, item % parts.parts, shared.rows);
    }
}

/// The last block of a dispatch tells the reachable ranks how many rows this rank placed at each.
MORI_DEVICE void signalPlaced(const BlockWarp& first,
                              const Operator& op,
                              const moriep_dispatch_arguments& arguments,
                              uint32_t epoch) {
    uint32_t* counts = op.destinationCounts();
    const Ranks ranks = op.reachable();
    // Pairs with the wait in the peers' dispatchReceive.
    signalRanks<MORIEP_PHASE_DISPATCH_RECEIVE>(
        first,
        op,
        ranks,
        op.layout().dispatch_signals,
        Signal{epoch, arguments.signature, 0},
        [&](int peer) { return machine::loadDevice(counts + peer); });
    first.sync();
    first.lanes(ranks.count, [&](int64_t place) { counts[ranks.first + place] = 0; });
}

/// Counts what came, and makes the round void where more than fits shall not be dropped.
MORI_DEVICE void countReceived(const BlockWarp& warp, const Operator& op, int64_t sent) {
    moriep_control* control = op.control();
    const int64_t most = op.shape().max_received;
    warp.elect([&](const BlockOnce& once) {
        control->dropped_count = static_cast<int>(sent < most ? 0 : sent - most);
        trace::value(op, MORIEP_TRACE_RECEIVED_ROWS, sent);
        control->phase = 0;
        if (sent > most && op.shape().overflow_fails != 0) {
            Verdict verdict{MORIEP_FAILURE_OVERFLOW, op.rank(), -1, 0, 0, 0, 0};
            verdict.expected = static_cast<uint64_t>(most);
            verdict.found = static_cast<uint64_t>(sent);
            failWait(
                op,
                MORIEP_PHASE_DISPATCH_RECEIVE,
                MORIEP_VERB_DISPATCH,
                verdict,
                [](auto&&) {},
                once);
            return;  // received_count stays 0
        }
        control->received_count = static_cast<int>(sent < most ? sent : most);
    });
}

/// The last launch of IntraNode's and V1's dispatch: waits until every reachable rank has placed
/// its rows here, and counts them.
MORI_DEVICE void dispatchReceive(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (op.failed()) return;
        const uint32_t epoch = control->epoch;
        const Ranks ranks = op.reachable();
        // Pairs with signalPlaced of every reachable rank.
        const bool came = awaitRanks(warp,
                                     op,
                                     ranks,
                                     op.layout().dispatch_signals,
                                     MORIEP_PHASE_DISPATCH_RECEIVE,
                                     MORIEP_VERB_DISPATCH,
                                     Signal{epoch, arguments.signature, 0},
                                     arguments.timeout_ns);
        if (!came) return;  // received_count stays 0
        const int64_t sent = warp.sum(ranks.count, [&](int place) {
            const uint64_t* word =
                op.signal(op.layout().dispatch_signals, epoch, op.rank(), ranks.first + place);
            return static_cast<int64_t>(Signal::of(machine::pollSystem(word)).count);
        });
        countReceived(warp, op, sent);
        if (isMutant(Mutant::counterZeroedLate)) return;
        warp.elect([&](const BlockOnce&) {
            // All adds of the last round are in: its counter is the next round's, from zero. The
            // peers reserve from it only after this rank's combine or barrier word (P3).
            *op.slotCounter(epoch + 1, op.rank()) = 0;
        });
    });
}

}  // namespace MORI_KERNELS

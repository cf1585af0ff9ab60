// IntraNode dispatch in a fixed order of reception: source rank, then token.
//
//   1. dispatchBegin        one warp  a new round
//   2. dispatchCount        the grid  numbers rows; the last block tells all ranks how many go
//   where
//   3. dispatchOrder        one warp  awaits the counts of lower ranks: where own rows begin
//   4. dispatchSendOrdered  the grid  copy; the last block signals
//   5. dispatchReceive      one warp  awaits every rank's signal, sums what came
//
// One more exchange than dispatch in any order, and no atomics at other ranks. What finds no room
// is the same in every run: the last rows of the last ranks.
#pragma once

#include "Shmem/Numbering.h"

namespace MORI_KERNELS::intranode {

/// Bytes of block memory that the launches of an ordered dispatch ask for, at most.
MORI_SHARED uint64_t orderedSharedBytes(const moriep_shape& shape, int warps) {
    const uint64_t numbers = static_cast<uint64_t>(shape.world_size) * 8 + 2 * 16;
    const uint64_t rows = static_cast<uint64_t>(warps) * maxDestinations(shape) * sizeof(PeerRow);
    return 64 + (numbers > rows ? numbers : rows);
}

/// Launch 2: how many rows go where.
MORI_DEVICE void dispatchCount(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    moriep_control* control = op.control();
    if (control->failed != 0) return;
    const NumberingShared shared = NumberingShared::of(block, op);
    const Range tokens = Range::part(control->token_count, block.index(), block.count());
    numberTokens(block, machine::reread(arguments), tokens, shared);
    block.publish();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->dispatch_blocks_finished)) return;
        const int ranks = op.worldSize();
        first.each(ranks * ranks, [&](int i, const BlockOnce& once) {
            // Every rank starts with the peer after itself, so that links share the load.
            const int peer = (op.rank() + 1 + i / ranks) % ranks;
            const int destination = i % ranks;
            if (!op.isActive(peer)) return;
            const uint32_t rows = machine::loadDevice(op.destinationCounts() + destination);
            const Signal signal{control->epoch, arguments.signature, rows};
            trace::signal<MORIEP_PHASE_DISPATCH_ORDER>(op, peer, destination);
            // Pairs with the wait in the peer's dispatchOrder.
            machine::storeSystem(
                op.countSignal(control->epoch, peer, op.rank(), destination), signal.word(), once);
        });
    });
}

/// Launch 3: this rank's rows come behind those of all lower ranks.
MORI_DEVICE void dispatchOrder(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        if (op.failed()) return;
        const uint32_t epoch = op.control()->epoch;
        const int ranks = op.worldSize();
        // Pairs with dispatchCount of every lower rank.
        const bool came = awaitSignals(
            warp,
            op,
            op.rank() * ranks,
            MORIEP_PHASE_DISPATCH_ORDER,
            MORIEP_VERB_DISPATCH,
            Signal{epoch, arguments.signature, 0},
            arguments.timeout_ns,
            Waking::yes,
            [&](int i) -> const uint64_t* {
                if (!op.isActive(i / ranks)) return nullptr;
                return op.countSignal(epoch, op.rank(), i / ranks, i % ranks);
            },
            [&](int i) { return i / ranks; },
            [&](int i) { return i % ranks; });
        if (!came) return;
        warp.lanes(ranks, [&](int64_t destination) {
            int base = 0;
            for (int source = 0; source < op.rank(); ++source) {
                const uint64_t* word =
                    op.countSignal(epoch, op.rank(), source, static_cast<int>(destination));
                base += static_cast<int>(Signal::of(machine::pollSystem(word)).count);
            }
            op.orderBases()[destination] = base;
        });
    });
}

/// Gives one token's rows their slots at its ranks, and their source.
MORI_DEVICE void orderToken(const Warp& warp, const OwnTokens& own, int64_t token) {
    const Operator& op = own.op();
    const Route route = own.route(token);
    int before = 0;
    for (int word = 0; word < route.words(); ++word) {
        const uint64_t set = route.set[word];
        warp.lanes(route.ranksOfWord(word), [&](int64_t bit) {
            if ((set >> bit & 1) == 0) return;
            const int rank = word * 64 + static_cast<int>(bit);
            int* slot = route.slots + before + membersBelow(set, static_cast<int>(bit));
            const int64_t at = int64_t(*slot) + op.orderBases()[rank];
            const bool hasRoom = at < op.shape().max_received;
            *slot = hasRoom ? static_cast<int>(at) : -1;
            if (hasRoom) op.receivedSources(rank)[at] = own.source(token);
        });
        before += __builtin_popcountll(set);
    }
    warp.sync();
}

/// Launch 4: sends this rank's tokens.
template <class Wire>
MORI_DEVICE void dispatchSendOrdered(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    moriep_control* control = op.control();
    if (control->failed != 0) return;
    const int most = maxDestinations(op.shape());
    const Warp& warp = block.warp();
    PeerRow* table = block.shared<PeerRow>(int64_t(block.warps()) * most) + warp.index() * most;
    const Range tokens = Range::part(control->token_count, block.index(), block.count());
    for (int64_t token = tokens.begin + warp.index(); token < tokens.end; token += block.warps()) {
        orderToken(warp, OwnTokens(machine::reread(arguments)), token);
        copyRow(warp, TokensAs<Wire>(machine::reread(arguments)), token, RowParts{1}, 0, table);
    }
    block.publish();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->dispatch_blocks_finished)) return;
        const moriep_dispatch_arguments& again = machine::reread(arguments);
        signalPlaced(first, Operator(again.op), again, control->epoch);
    });
}

}  // namespace MORI_KERNELS::intranode

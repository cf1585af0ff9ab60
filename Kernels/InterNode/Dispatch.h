// InterNode and AsyncLL dispatch: a packet for each rank that hosts one of a token's experts, into
// the section that this rank has there; the receiver copies them together.
//
//   1. dispatchBegin    one warp  a new round (Shmem/Round.h)
//   2. dispatchSend     the grid  a row in each section, packets, and the words of all edges
//   3. dispatchReceive  one warp  awaits every rank's words
//   4. dispatchUnpack   the grid  sections to the receive buffers, in order of source and token
//
// AsyncLL may run 1 and 2, and 3 and 4, at different times: nothing of the device is held between.
// The rows of a section are numbered in order of tokens (Shmem/Numbering.h), so neither routes nor
// the order of reception depend on the grid.
#pragma once

#include "InterNode/Sections.h"
#include "Shmem/Numbering.h"
#include "Shmem/Round.h"

namespace MORI_KERNELS::internode {

/// Block memory of dispatchSend.
struct SendShared {
    uint32_t* failed;
    NumberingShared numbers;
    PeerRow* rows;  ///< [max destinations], this warp's

    static MORI_DEVICE SendShared of(Block& block, const Operator& op) {
        SendShared shared{};
        const int most = maxDestinations(op.shape());
        shared.failed = block.shared<uint32_t>(1);
        shared.numbers = NumberingShared::of(block, op);
        shared.rows =
            block.shared<PeerRow>(int64_t(block.warps()) * most) + block.warp().index() * most;
        return shared;
    }
};

/// Bytes of block memory that the launches of dispatch ask for, at most.
MORI_SHARED uint64_t dispatchSharedBytes(const moriep_shape& shape, int warps) {
    const uint64_t rows =
        static_cast<uint64_t>(warps) * static_cast<uint64_t>(maxDestinations(shape));
    return 64 + (static_cast<uint64_t>(shape.world_size) + 1) * 8 + rows * sizeof(PeerRow) + 64;
}

MORI_DEVICE Edge dispatchEdge(const Operator& op,
                              const Sections& sections,
                              const moriep_dispatch_arguments& arguments,
                              int peer) {
    return {MORIEP_VERB_DISPATCH,
            peer,
            sections.outgoing(peer),
            sections.landing(op.rank()),
            packetOf(arguments).bytes};
}

/// The last block tells every rank how many rows come.
MORI_DEVICE void tellRanks(const BlockWarp& first, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const Sections sections(op);
    const uint32_t epoch = op.control()->epoch;
    first.each(op.worldSize(), [&](int turn, const BlockOnce& once) {
        // Every rank starts with the peer after itself, so that links share the load.
        const int peer = (op.rank() + 1 + turn) % op.worldSize();
        uint32_t* counted = op.destinationCounts() + peer;
        const int rows = static_cast<int>(machine::loadDevice(counted));
        *counted = 0;
        *sections.sent(peer) = rows;
        if (!op.isActive(peer)) return;
        // Pairs with the wait in the peer's dispatchReceive.
        tellEdge(op,
                 sections,
                 dispatchEdge(op, sections, arguments, peer),
                 rows,
                 Signal{epoch, arguments.signature, 0},
                 arguments.timeout_ns,
                 once,
                 [&](int queue) { return sections.word(epoch, op.rank(), queue); });
    });
}

/// Packs part of one token's row for each rank that it goes to.
template <class Wire>
MORI_DEVICE void packForRanks(const Warp& warp,
                              const moriep_dispatch_arguments& arguments,
                              int64_t token,
                              const RowParts& parts,
                              int part,
                              PeerRow* rows) {
    const Operator op(arguments.op);
    const Sections sections(op);
    const int count = rowsOfRoute(warp, routeOfToken(op, token), rows, [&](int rank, int row) {
        return PeerRow{sections.outgoing(rank), row};
    });
    packToken<Wire>(
        warp, machine::reread(arguments), static_cast<int>(token), rows, count, parts, part);
}

/// Hands this block's rows for other nodes to the network, each by itself.
MORI_DEVICE void pushTokens(const BlockWarp& first,
                            const moriep_dispatch_arguments& arguments,
                            const SendShared& shared) {
    const Operator op(arguments.op);
    const Sections sections(op);
    const QueueRows queues = QueueRows::of(op.shape());
    first.each(op.worldSize(), [&](int rank, const BlockOnce& once) {
        if (!sections.isRemote(rank)) return;
        const Edge edge = dispatchEdge(op, sections, arguments, rank);
        for (int64_t i = 0; i < shared.numbers.counts[rank]; ++i) {
            const int64_t row = shared.numbers.before[rank] + i;
            const Range one{row, row + 1};
            pushRows(op, edge, queues.queueOf(row), one, arguments.timeout_ns, once);
        }
    });
}

/// What a block does once all its packets are written.
MORI_DEVICE void finishSend(Block& block,
                            const moriep_dispatch_arguments& arguments,
                            const SendShared& shared) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& first) {
        if (QueueRows::of(op.shape()).onePutPerRow) pushTokens(first, arguments, shared);
        if (!lastBlock(first, block, &op.control()->dispatch_blocks_finished)) return;
        tellRanks(first, machine::reread(arguments));
    });
}

/// Launch 2: sends this rank's tokens.
template <class Wire>
MORI_DEVICE void dispatchSend(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const SendShared shared = SendShared::of(block, op);
    if (roundFailed(block, op, shared.failed)) return;
    const Warp& warp = block.warp();
    const Range tokens = Range::part(op.control()->token_count, block.index(), block.count());
    numberTokens(block, machine::reread(arguments), tokens, shared.numbers);

    const int count = static_cast<int>(tokens.end - tokens.begin);
    const RowParts parts = RowParts::of(count, arguments.row_bytes, block.warps());
    for (int item = warp.index(); item < count * parts.parts; item += block.warps()) {
        packForRanks<Wire>(warp,
                           machine::reread(arguments),
                           tokens.begin + item / parts.parts,
                           parts,
                           item % parts.parts,
                           shared.rows);
    }

    block.publish();
    finishSend(block, machine::reread(arguments), shared);
}

/// Launch 3: waits until every rank's rows are here, and counts them.
MORI_DEVICE void dispatchReceive(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const Sections sections(op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (op.failed()) return;
        const uint32_t epoch = control->epoch;
        const int queues = op.shape().queue_pairs;
        const auto word = [&](int i) {
            return sections.at(op.rank(), sections.word(epoch, i / queues, i % queues));
        };
        // Pairs with tellRanks of every rank.
        const bool came = awaitSignals(
            warp,
            op,
            op.worldSize() * queues,
            MORIEP_PHASE_DISPATCH_RECEIVE,
            MORIEP_VERB_DISPATCH,
            Signal{epoch, arguments.signature, 0},
            arguments.timeout_ns,
            op.networkWakes() ? Waking::yes : Waking::no,
            [&](int i) -> const uint64_t* { return op.isActive(i / queues) ? word(i) : nullptr; },
            [&](int i) { return i / queues; },
            [&](int i) { return i % queues; });
        if (!came) return;  // received_count stays 0
        const auto rowsFrom = [&](int source) {
            int rows = 0;
            for (int queue = 0; queue < queues; ++queue) {
                const uint64_t found = machine::pollSystem(word(source * queues + queue));
                rows += static_cast<int>(Signal::of(found).count);
            }
            return rows;
        };
        warp.lanes(op.worldSize(),
                   [&](int64_t source) { *sections.came(int(source)) = rowsFrom(int(source)); });
        const int64_t sent =
            warp.sum(op.worldSize(), [&](int source) { return int64_t(rowsFrom(source)); });
        countReceived(warp, op, sent);
    });
}

/// Launch 4: sections to the receive buffers; what finds no room stays behind, the last rows first.
MORI_DEVICE void dispatchUnpack(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const moriep_control* control = op.control();
    if (control->failed != 0) return;
    const Sections sections(op);
    const Warp& warp = block.warp();
    const moriep_layout& layout = op.layout();
    uint32_t* begins = block.shared<uint32_t>(int64_t(op.worldSize()) + 1);
    block.once([&](const BlockWarp& first) {
        first.elect([&](const BlockOnce&) {
            uint32_t begin = 0;
            for (int source = 0; source < op.worldSize(); ++source) {
                begins[source] = begin;
                begin += static_cast<uint32_t>(*sections.came(source));
            }
            begins[op.worldSize()] = begin;
        });
    });
    block.sync();

    const uint64_t own = op.block(op.rank());
    const int64_t idBytes = int64_t(op.shape().top_k) * 4;
    const int64_t warps = int64_t(block.count()) * block.warps();
    const int64_t rows = control->received_count;
    const RowParts parts = RowParts::of(rows, arguments.row_bytes, static_cast<int>(warps));
    const Range items = Range::part(rows * parts.parts, block.index(), block.count());
    int source = 0;
    for (int64_t item = items.begin + warp.index(); item < items.end; item += block.warps()) {
        const int64_t row = item / parts.parts;
        const int part = static_cast<int>(item % parts.parts);
        while (row >= begins[source + 1]) ++source;
        const int64_t at = row - begins[source];
        const Packets packets(arguments, own + sections.landing(source));
        const auto copy = [&](uint64_t to, int64_t stride, const void* from, Range bytes) {
            const RowBuffer buffer{to, stride};
            warp.copy(pointer<char>(buffer.address({own, row})) + bytes.begin,
                      static_cast<const char*>(from) + bytes.begin,
                      bytes.end - bytes.begin);
        };
        if (part == 0) {
            copy(layout.received_indices, idBytes, packets.experts(at), {0, idBytes});
            if (arguments.call.has_weights != 0) {
                copy(layout.received_weights, idBytes, packets.weights(at), {0, idBytes});
            }
            if (arguments.call.scale_bytes != 0) {
                const int64_t bytes = arguments.call.scale_bytes;
                copy(layout.received_scales, bytes, packets.scales(at), {0, bytes});
            }
            warp.elect([&](const WarpOnce&) {
                op.receivedSources(op.rank())[row] = packets.source(at);
                *sections.sectionRow(row) = static_cast<int>(at);
            });
        }
        copy(layout.received_tokens,
             arguments.row_bytes,
             packets.tokens(at),
             parts.range(arguments.row_bytes, 1, part));
    }
}

}  // namespace MORI_KERNELS::internode

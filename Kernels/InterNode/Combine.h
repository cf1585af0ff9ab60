// InterNode and AsyncLL combine: rows go back to the section that their rank has at their source,
// at the row from which they came; the source sums over ranks.
//
//   1. combineSend     the grid  packets of all received rows, and the words of all edges
//   2. combineReceive  one warp  awaits the ranks that this one sent rows to
//   3. combineReduce   the grid  sums in ascending order of ranks, fp32, one rounding (P14)
//
// Nobody else writes what a rank receives into, so no rank waits for one that owes it nothing (P2).
// A receiver that had no room for all rows gives fewer back, and says so: the sums leave them out.
#pragma once

#include "InterNode/Sections.h"
#include "Shmem/CombineRound.h"

namespace MORI_KERNELS::internode {

MORI_DEVICE Edge combineEdge(const Operator& op,
                             const Sections& sections,
                             const moriep_combine_arguments& arguments,
                             int peer) {
    return {MORIEP_VERB_COMBINE,
            peer,
            sections.combineOutgoing(peer),
            sections.combineLanding(op.rank()),
            packetOf(arguments).bytes};
}

/// Rows of a source that found room here: the first ones.
MORI_DEVICE int64_t keptRows(const Operator& op, const Sections& sections, int source) {
    int64_t begin = 0;
    for (int before = 0; before < source; ++before) begin += *sections.came(before);
    const int64_t room = op.shape().max_received - begin;
    const int64_t rows = *sections.came(source);
    return room <= 0 ? 0 : rows < room ? rows : room;
}

/// The last block tells every source how many of its rows come back.
MORI_DEVICE void tellSources(const BlockWarp& first,
                             const Operator& op,
                             const Sections& sections,
                             const moriep_combine_arguments& arguments) {
    const uint32_t epoch = op.control()->epoch;
    first.each(op.worldSize(), [&](int turn, const BlockOnce& once) {
        const int peer = (op.rank() + 1 + turn) % op.worldSize();
        if (*sections.came(peer) == 0) return;  // it does not wait
        // Pairs with the wait in the source's combineReceive.
        tellEdge(op,
                 sections,
                 combineEdge(op, sections, arguments, peer),
                 keptRows(op, sections, peer),
                 Signal{epoch, arguments.signature, 0},
                 arguments.timeout_ns,
                 once,
                 [&](int queue) { return sections.combineWord(epoch, op.rank(), queue); });
    });
}

/// Packs one row of the experts' output for the rank that it came from.
template <class Wire>
MORI_DEVICE void packReturn(const Warp& warp,
                            const moriep_combine_arguments& arguments,
                            int64_t row) {
    const Operator op(arguments.op);
    const Sections sections(op);
    const CombinePacket packet = packetOf(arguments);
    const uint64_t to = sections.combineOutgoing(sections.sourceOf(row)) +
                        static_cast<uint64_t>(*sections.sectionRow(row) * packet.bytes);
    if (arguments.call.has_weights != 0) {
        const int64_t bytes = int64_t(op.shape().top_k) * 4;
        warp.copy(pointer<char>(to) + packet.weights,
                  pointer<const char>(arguments.weights) + row * bytes,
                  bytes);
    }
    const uint64_t input =
        arguments.input != 0 ? arguments.input : op.block(op.rank()) + op.layout().combine_input;
    sendRow<Wire>(warp,
                  machine::reread(arguments),
                  to,
                  input + static_cast<uint64_t>(row * arguments.row_bytes));
}

/// What a block does once all its packets are written.
MORI_DEVICE void finishReturn(Block& block,
                              const moriep_combine_arguments& arguments,
                              Range range,
                              bool tooFew) {
    const Operator op(arguments.op);
    const Sections sections(op);
    block.once([&](const BlockWarp& first) {
        const QueueRows queues = QueueRows::of(op.shape());
        if (queues.onePutPerRow) {
            const int count = static_cast<int>(range.end - range.begin);
            first.each(count, [&](int i, const BlockOnce& once) {
                const int source = sections.sourceOf(range.begin + i);
                if (!sections.isRemote(source)) return;
                const int64_t row = *sections.sectionRow(range.begin + i);
                const Edge edge = combineEdge(op, sections, arguments, source);
                const Range one{row, row + 1};
                pushRows(op, edge, queues.queueOf(row), one, arguments.timeout_ns, once);
            });
        }
        if (!lastBlock(first, block, &op.control()->combine_blocks_finished)) return;
        first.elect([&](const BlockOnce& once) { recordCombine(op, arguments, tooFew, once); });
        first.sync();
        if (!tooFew) tellSources(first, op, sections, arguments);
    });
}

/// Launch 1: sends the experts' output back.
template <class Wire>
MORI_DEVICE void combineSend(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    uint32_t* answer = block.shared<uint32_t>(1);
    if (roundFailed(block, op, answer)) return;
    const int received = op.control()->received_count;
    const bool tooFew = received > arguments.input_rows;
    const Range range = Range::part(tooFew ? 0 : received, block.index(), block.count());
    for (int64_t row = range.begin + block.warp().index(); row < range.end; row += block.warps()) {
        packReturn<Wire>(block.warp(), machine::reread(arguments), row);
    }
    block.publish();
    finishReturn(block, machine::reread(arguments), range, tooFew);
}

/// Launch 2: waits until the rows are back from every rank that this one sent some to.
MORI_DEVICE void combineReceive(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const Sections sections(op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (op.failed()) return;
        const uint32_t epoch = control->epoch;
        const int queues = op.shape().queue_pairs;
        const auto word = [&](int i) {
            return sections.at(op.rank(), sections.combineWord(epoch, i / queues, i % queues));
        };
        // Pairs with tellSources of every rank that received rows of this one.
        const bool came = awaitSignals(
            warp,
            op,
            op.worldSize() * queues,
            MORIEP_PHASE_COMBINE_RECEIVE,
            MORIEP_VERB_COMBINE,
            Signal{epoch, arguments.signature, 0},
            arguments.timeout_ns,
            op.networkWakes() ? Waking::yes : Waking::no,
            [&](int i) -> const uint64_t* {
                return *sections.sent(i / queues) == 0 ? nullptr : word(i);
            },
            [&](int i) { return i / queues; },
            [&](int i) { return i % queues; });
        if (!came) return;
        warp.lanes(op.worldSize(), [&](int64_t rank) {
            int* rows = sections.sent(static_cast<int>(rank));
            if (*rows == 0) return;
            int back = 0;
            for (int queue = 0; queue < queues; ++queue) {
                const uint64_t found = machine::pollSystem(word(int(rank) * queues + queue));
                back += static_cast<int>(Signal::of(found).count);
            }
            *rows = back;
        });
        warp.elect([&](const BlockOnce&) { control->combined_epoch = epoch; });
    });
}

/// Bytes of block memory that the launches of combine ask for, at most.
MORI_SHARED uint64_t combineSharedBytes(const moriep_shape& shape, int warps) {
    return static_cast<uint64_t>(warps) * static_cast<uint64_t>(maxDestinations(shape)) *
               sizeof(PeerRow) +
           64;
}

/// The packets that a token's ranks sent back.
class ReturnedPackets : public AllAlike {
public:
    MORI_DEVICE ReturnedPackets(const Operator& op, const moriep_combine_arguments& arguments)
        : op_(op), packet_(packetOf(arguments)) {}

    MORI_DEVICE int of(const Warp& warp, int64_t token, PeerRow* table) const {
        const Sections sections(op_);
        return rowsOfRoute(warp, routeOfToken(op_, token), table, [&](int rank, int row) {
            if (row >= *sections.sent(rank)) return PeerRow{0, 0};
            return PeerRow{op_.block(op_.rank()) + sections.combineLanding(rank), row};
        });
    }
    MORI_DEVICE RowBuffer rows() const { return {0, packet_.bytes}; }
    MORI_DEVICE RowBuffer weights() const {
        return {static_cast<uint64_t>(packet_.weights), packet_.bytes};
    }

private:
    const Operator& op_;
    CombinePacket packet_;
};

/// Launch 3: sums what came back for each own token.
template <class Element, class Wire = Plain>
MORI_DEVICE void combineReduce(Block& block, const moriep_combine_arguments& arguments) {
    const int most = maxDestinations(arguments.op.shape);
    PeerRow* table =
        block.shared<PeerRow>(int64_t(block.warps()) * most) + block.warp().index() * most;
    reduceTokens<Element, ReturnedPackets, Wire>(block, arguments, table);
}

}  // namespace MORI_KERNELS::internode

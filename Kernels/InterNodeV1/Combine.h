// InterNodeV1 and InterNodeV1LL combine: every node sums what its ranks have for a token, and sends
// one partial sum back to the token's rank.
//
//   1. combineSend     the grid  external input: rows into the registered buffer, where the node's
//                                ranks read them; the last block signals the node
//   2. combineWait     one warp  awaits every rank of the node, even those that owe nothing: they
//   may
//                                still read what the next dispatch writes (P2)
//   3. combineForward  the grid  partial sums for other nodes' tokens, chunk by chunk
//   4. combineOwn      the grid  partial sums for own tokens, while the network has the others
//   5. combineReceive  one warp  awaits the partial sums of the chunks that this rank sent rows in
//   6. combineReduce   the grid  sums over nodes
//
// Order of sums (P14): within a node ascending ranks in fp32, rounded to the element type, the own
// node's too; then ascending nodes in fp32, rounded. Quantized, a sum that travels is quantized
// from fp32, once, and the own node's is bf16 as ever. Weights are fp32 throughout, in the same
// order.
#pragma once

#include "InterNodeV1/Chunks.h"
#include "Shmem/CombineRound.h"

namespace MORI_KERNELS::internodev1 {

/// Launch 1: makes this rank's expert output reachable for its node.
MORI_DEVICE void combineSend(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const moriep_layout& layout = op.layout();
    moriep_control* control = op.control();
    const Warp& warp = block.warp();
    if (control->failed != 0) return;
    const uint32_t epoch = control->epoch;
    const uint64_t own = op.block(op.rank());
    const int64_t weightBytes = int64_t(op.shape().top_k) * 4;
    const bool tooFew = control->received_count > arguments.input_rows;
    const int64_t rows = tooFew ? 0 : control->received_count;
    const Range range = Range::part(rows, block.index(), block.count());
    for (int64_t row = range.begin + warp.index(); row < range.end; row += block.warps()) {
        if (arguments.input != 0) {
            const RowBuffer buffer{layout.combine_input, arguments.row_bytes};
            warp.copy(pointer<char>(buffer.address({own, row})),
                      pointer<const char>(arguments.input) + row * buffer.stride,
                      buffer.stride);
        }
        if (arguments.call.has_weights != 0) {
            const RowBuffer buffer{layout.combine_input_weights, weightBytes};
            warp.copy(pointer<char>(buffer.address({own, row})),
                      pointer<const char>(arguments.weights) + row * buffer.stride,
                      buffer.stride);
        }
    }

    block.publish();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->combine_blocks_finished)) return;
        first.elect([&](const BlockOnce& once) { recordCombine(op, arguments, tooFew, once); });
        first.sync();
        if (tooFew) return;
        // Pairs with awaitRanks in the node's combineWait.
        signalRanks<MORIEP_PHASE_COMBINE_READY>(first,
                                                op,
                                                op.nodeRanks(),
                                                layout.combine_signals,
                                                Signal{epoch, arguments.signature, 0},
                                                [](int) { return 0u; });
    });
}

/// Launch 2: waits until every rank of the node has its rows in reach and is done with its own.
MORI_DEVICE void combineWait(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (control->failed != 0) return;
        // Pairs with signalRanks in the node's combineSend.
        awaitRanks(warp,
                   op,
                   op.nodeRanks(),
                   op.layout().combine_signals,
                   MORIEP_PHASE_COMBINE_READY,
                   MORIEP_VERB_COMBINE,
                   Signal{control->epoch, arguments.signature, 0},
                   arguments.timeout_ns);
    });
}

/// Bytes of block memory that the launches of combine ask for, at most.
MORI_SHARED uint64_t combineSharedBytes(const moriep_shape& shape, int warps) {
    const int ranks = maxDestinations(shape);
    const int nodes = maxNodes(shape);
    const uint64_t most = static_cast<uint64_t>(ranks > nodes ? ranks : nodes);
    return static_cast<uint64_t>(warps) * most * sizeof(PeerRow) + 64;
}

/// What the warps of a block sum with.
struct SumShared {
    uint32_t* failed;
    PeerRow* rows;  ///< this warp's

    static MORI_DEVICE SumShared of(Block& block, const moriep_shape& shape) {
        const int ranks = maxDestinations(shape);
        const int nodes = maxNodes(shape);
        const int most = ranks > nodes ? ranks : nodes;
        SumShared shared{};
        shared.failed = block.shared<uint32_t>(1);
        shared.rows =
            block.shared<PeerRow>(int64_t(block.warps()) * most) + block.warp().index() * most;
        return shared;
    }
};

/// The layout of a partial sum that stays at home.
MORI_DEVICE CombinePacket ownPacketOf(const moriep_combine_arguments& arguments) {
    return CombinePacket::of(
        arguments.row_bytes, arguments.call.has_weights != 0, arguments.op.shape.top_k);
}

/// The sum of the rows of a table, the own node's, to `to`; quantized once, from fp32, where it
/// travels.
template <class Element, class Wire>
MORI_DEVICE void sumRows(const Warp& warp,
                         const moriep_combine_arguments& arguments,
                         const PeerRow* rows,
                         int count,
                         uint64_t to,
                         const RowParts& parts,
                         int part) {
    const RowBuffer inputRows{arguments.op.layout.combine_input, arguments.row_bytes};
    if constexpr (kQuantizes<Wire>) {
        const WireFormat format = wireFormatOf(arguments);
        quantizeSum<Wire>(warp, to, rows, count, inputRows, parts.units(format, part), format);
    } else {
        const Range range =
            parts.range(arguments.row_bytes / Element::kBytes, Element::kBytes, part);
        warp.template accumulate<Element>(
            pointer<char>(to), rows, count, inputRows, range.begin, range.end - range.begin);
    }
}

/// The sum over the own node's ranks of what one route names, to `row` and `weights`.
template <class Element, class Wire>
MORI_DEVICE void sumNode(const Warp& warp,
                         const moriep_combine_arguments& arguments,
                         const Route& route,
                         PeerRow* rows,
                         uint64_t row,
                         uint64_t weights,
                         const RowParts& parts,
                         int part) {
    const Operator op(arguments.op);
    // Named, because nvcc 13.5 fails on it as a temporary inside a template.
    const auto place = [&](int rank, int slot) { return PeerRow{op.block(rank), slot}; };
    const int count = rowsOfRoute(warp, route, rows, place);
    if (part == 0 && arguments.call.has_weights != 0) {
        const int topK = op.shape().top_k;
        const RowBuffer weightRows{op.layout().combine_input_weights, int64_t(topK) * 4};
        warp.template accumulate<Float32>(pointer<char>(weights), rows, count, weightRows, 0, topK);
    }
    sumRows<Element, Wire>(warp, machine::reread(arguments), rows, count, row, parts, part);
}

/// Rows of a section's chunk: its word, which dispatchForward awaited, says so still.
MORI_DEVICE int rowsOfChunk(const Chunks& chunks, uint32_t epoch, int section, int chunk) {
    const uint64_t first = machine::pollSystem(chunks.own(chunks.chunkWord(epoch, section, 0)));
    if (chunk == 0) return ChunkCount::of(first).rows;
    if (chunk >= ChunkCount::of(first).chunks) return 0;
    const uint64_t* word = chunks.own(chunks.chunkWord(epoch, section, chunk));
    return ChunkCount::of(machine::pollSystem(word)).rows;
}

/// One write and one word back to the source of a chunk whose partial sums lie in staging memory.
MORI_DEVICE void pushPartials(const moriep_combine_arguments& arguments,
                              int section,
                              int chunk,
                              int rows,
                              const BlockOnce& once) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const uint32_t epoch = op.control()->epoch;
    const int source = Proxies(op).source(section);
    const int64_t packetBytes = packetOf(arguments).bytes;
    const uint64_t begin =
        static_cast<uint64_t>(chunk) * static_cast<uint64_t>(MORIEP_CHUNK_TOKENS * packetBytes);
    Transfer transfer{};
    transfer.peer = source;
    transfer.queue = chunk % op.shape().queue_pairs;  // of the chunk only (P8)
    transfer.source = op.block(op.rank()) + chunks.combineStaging(section) + begin;
    transfer.destination = chunks.combineLanding(op.node(), op.nodeOf(source)) + begin;
    transfer.bytes = rows * packetBytes;
    transfer.hasWord = true;
    // Pairs with the wait in the source's combineReceive.
    transfer.word = chunks.combineWord(epoch, op.node(), chunk);
    transfer.value = Signal{epoch, arguments.signature, 0}.word();
    trace::signal<MORIEP_PHASE_COMBINE_RECEIVE>(op, source, chunk);
    pushTransfer(op, MORIEP_VERB_COMBINE, transfer, arguments.timeout_ns, once);
}

/// Which part of which chunk one item of combineForward is; sections take turns.
struct ForwardItem {
    int section;
    int chunk;
    int part;

    static MORI_DEVICE ForwardItem of(const Chunks& chunks, int item, int parts) {
        const int number = item / parts;
        return {number % chunks.sections(), number / chunks.sections(), item % parts};
    }
};

/// The last part of a chunk to finish sends it.
MORI_DEVICE void finishPartials(Block& block,
                                const moriep_combine_arguments& arguments,
                                int item,
                                int parts) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const ForwardItem at = ForwardItem::of(chunks, item, parts);
    block.once([&](const BlockWarp& first) {
        if (!lastPart(first, parts, chunks.arrivals(at.section, at.chunk))) return;
        const int rows = rowsOfChunk(chunks, op.control()->epoch, at.section, at.chunk);
        first.elect([&](const BlockOnce& once) {
            pushPartials(machine::reread(arguments), at.section, at.chunk, rows, once);
        });
    });
}

/// The partial sum of one packet of a section.
template <class Element, class Wire>
MORI_DEVICE void sumForward(const Warp& warp,
                            const moriep_combine_arguments& arguments,
                            int section,
                            int64_t row,
                            PeerRow* rows,
                            const RowParts& parts,
                            int part) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const CombinePacket packet = packetOf(arguments);
    const uint64_t to = op.block(op.rank()) + chunks.combineStaging(section) +
                        static_cast<uint64_t>(row * packet.bytes);
    sumNode<Element, Wire>(warp,
                           machine::reread(arguments),
                           chunks.route(section, row),
                           rows,
                           to,
                           to + static_cast<uint64_t>(packet.weights),
                           parts,
                           part);
}

/// The partial sums of one part of a chunk; whether it has any rows.
template <class Element, class Wire>
MORI_DEVICE bool forwardChunk(Block& block,
                              const moriep_combine_arguments& arguments,
                              const SumShared& shared,
                              const ForwardItem& at,
                              int parts) {
    const Operator op(arguments.op);
    const Warp& warp = block.warp();
    const int rows = rowsOfChunk(Chunks(op), op.control()->epoch, at.section, at.chunk);
    if (rows == 0) return false;
    const int begin = rows * at.part / parts;
    const int end = rows * (at.part + 1) / parts;
    const RowParts rowParts = RowParts::of(end - begin, arguments.row_bytes, block.warps());
    for (int item = begin * rowParts.parts + warp.index(); item < end * rowParts.parts;
         item += block.warps()) {
        sumForward<Element, Wire>(warp,
                                  machine::reread(arguments),
                                  at.section,
                                  at.chunk * MORIEP_CHUNK_TOKENS + item / rowParts.parts,
                                  shared.rows,
                                  rowParts,
                                  item % rowParts.parts);
    }
    return true;
}

/// The partial sum of one of this rank's own tokens over its own node. A token that went nowhere
/// else is finished with it.
template <class Element>
MORI_DEVICE void sumOwn(const Warp& warp,
                        const Operator& op,
                        const Chunks& chunks,
                        const moriep_combine_arguments& arguments,
                        PeerRow* rows,
                        int64_t token,
                        const RowParts& parts,
                        int part) {
    const uint64_t nodes = *chunks.destinationNodes(token);
    const uint64_t own = uint64_t(1) << op.node();
    if ((nodes & own) == 0) return;
    const CombinePacket packet = ownPacketOf(arguments);
    uint64_t row =
        op.local(op.layout().combine_output) + static_cast<uint64_t>(token * arguments.row_bytes);
    uint64_t weights = op.local(op.layout().combine_output_weights) +
                       static_cast<uint64_t>(token * op.shape().top_k * 4);
    if (nodes != own) {
        row = op.local(op.layout().own_partials) + static_cast<uint64_t>(token * packet.bytes);
        weights = row + static_cast<uint64_t>(packet.weights);
    }
    sumNode<Element, Plain>(
        warp, arguments, routeOfToken(op, token), rows, row, weights, parts, part);
}

/// One item of combineForward.
template <class Element, class Wire>
MORI_DEVICE void forwardPartials(Block& block,
                                 const moriep_combine_arguments& arguments,
                                 const SumShared& shared,
                                 int item,
                                 int parts) {
    const Operator op(arguments.op);
    const ForwardItem at = ForwardItem::of(Chunks(op), item, parts);
    if (Proxies(op).source(at.section) < 0) return;
    if (!forwardChunk<Element, Wire>(block, machine::reread(arguments), shared, at, parts)) return;
    block.publish();
    finishPartials(block, machine::reread(arguments), item, parts);
}

/// Launch 3: partial sums of this node for tokens of others.
template <class Element, class Wire = Plain>
MORI_DEVICE void combineForward(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const SumShared shared = SumShared::of(block, op.shape());
    if (roundFailed(block, op, shared.failed)) return;
    const Chunks chunks(op);
    const int all = chunks.sections() * chunks.count();
    const int parts = ChunkParts::of(op.shape(), all, block.count()).parts;
    for (int item = block.index(); item < all * parts; item += block.count()) {
        forwardPartials<Element, Wire>(block, machine::reread(arguments), shared, item, parts);
    }
}

/// Launch 4: partial sums of this node for own tokens.
template <class Element>
MORI_DEVICE void combineOwn(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const SumShared shared = SumShared::of(block, op.shape());
    if (roundFailed(block, op, shared.failed)) return;
    const Chunks chunks(op);
    const Warp& warp = block.warp();
    const int tokens = op.control()->token_count;
    const int warps = block.count() * block.warps();
    const RowParts parts = RowParts::of(tokens, arguments.row_bytes, warps);
    for (int item = block.index() * block.warps() + warp.index(); item < tokens * parts.parts;
         item += warps) {
        sumOwn<Element>(warp,
                        op,
                        chunks,
                        arguments,
                        shared.rows,
                        item / parts.parts,
                        parts,
                        item % parts.parts);
    }
}

/// Launch 5: waits until the partial sums of every chunk in which this rank sent rows are here.
MORI_DEVICE void combineReceive(Block& block, const moriep_combine_arguments& arguments) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        if (op.failed()) return;
        const uint32_t epoch = control->epoch;
        const Proxies proxies(op);
        const int count = chunksOf(control->token_count);
        // Pairs with pushPartials of the node's proxy.
        const bool came = awaitSignals(
            warp,
            op,
            op.nodes() * count,
            MORIEP_PHASE_COMBINE_RECEIVE,
            MORIEP_VERB_COMBINE,
            Signal{epoch, arguments.signature, 0},
            arguments.timeout_ns,
            op.networkWakes() ? Waking::yes : Waking::no,
            [&](int i) -> const uint64_t* {
                const int node = i / count;
                const int chunk = i % count;
                if (node == op.node() || *chunks.chunkRows(node, chunk) == 0) return nullptr;
                return chunks.own(chunks.combineWord(epoch, node, chunk));
            },
            [&](int i) { return proxies.proxy(i / count); },
            [&](int i) { return i % count; });
        if (!came) return;
        warp.elect([&](const BlockOnce&) { control->combined_epoch = epoch; });
    });
}

/// The partial sums of a token's nodes.
class NodePartials {
public:
    MORI_DEVICE NodePartials(const Operator& op, const moriep_combine_arguments& arguments)
        : op_(op), packet_(packetOf(arguments)), own_(ownPacketOf(arguments)) {}

    MORI_DEVICE int of(const Warp& warp, int64_t token, PeerRow* table) const {
        const Chunks chunks(op_);
        const uint64_t set = *chunks.destinationNodes(token);
        // combineOwn has finished a token that went nowhere else.
        if (set == uint64_t(1) << op_.node()) return -1;
        const int* nodeRows = chunks.nodeRows(token);
        warp.sync();  // the lanes are done with the table of the token before
        warp.lanes(op_.nodes(), [&](int64_t bit) {
            if ((set >> bit & 1) == 0) return;
            const int node = static_cast<int>(bit);
            const int at = membersBelow(set, node);
            if (node == op_.node()) {
                table[at] = PeerRow{op_.local(op_.layout().own_partials), token};
            } else {
                const uint64_t landing = chunks.combineLanding(node, op_.node());
                table[at] = PeerRow{op_.block(op_.rank()) + landing, nodeRows[at]};
            }
        });
        warp.sync();
        return __builtin_popcountll(set);
    }
    MORI_DEVICE RowBuffer rows() const { return {0, packet_.bytes}; }
    MORI_DEVICE RowBuffer weights() const {
        return {static_cast<uint64_t>(packet_.weights), packet_.bytes};
    }

    /// The own node's partial sum never travelled.
    MORI_DEVICE int plainAt(int64_t token) const {
        const uint64_t set = *Chunks(op_).destinationNodes(token);
        return set >> op_.node() & 1 ? membersBelow(set, op_.node()) : -1;
    }
    MORI_DEVICE RowBuffer plain() const { return {0, own_.bytes}; }
    MORI_DEVICE PeerRow plainWeights(int64_t token) const {
        return {op_.local(op_.layout().own_partials) +
                    static_cast<uint64_t>(token * own_.bytes + own_.weights - packet_.weights),
                0};
    }

private:
    const Operator& op_;
    CombinePacket packet_;
    CombinePacket own_;
};

/// Launch 6: sums over nodes for each own token.
template <class Element, class Wire = Plain>
MORI_DEVICE void combineReduce(Block& block, const moriep_combine_arguments& arguments) {
    reduceTokens<Element, NodePartials, Wire>(
        block, arguments, SumShared::of(block, arguments.op.shape).rows);
}

}  // namespace MORI_KERNELS::internodev1

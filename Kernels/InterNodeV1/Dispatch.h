// InterNodeV1 and InterNodeV1LL dispatch: one packet per token and node over the network, forwarded
// inside the node by the rank that takes it; ranks of the own node as in IntraNode.
//
//   1. dispatchBegin    one warp  a new round (Shmem/Round.h)
//   2. dispatchSend     the grid  chunks for other nodes; `rdma_blocks` of it where that is set
//   3. dispatchPlace    the grid  rows for the own node, while the network has the chunks
//   4. dispatchForward  the grid  chunks from other nodes to the own node, as they come (Forward.h)
//   5. dispatchReceive  one warp  awaits what every rank of the node placed here
//   (Shmem/Placement.h)
//
// Where each word is awaited: a chunk's by its proxy in dispatchForward; the count of rows that a
// rank placed at another of its node, own and forwarded, in dispatchReceive. Every rank sends at
// least one chunk word to every node, so that dispatch is a barrier of all ranks (P1).
#pragma once

#include "InterNodeV1/Chunks.h"
#include "Shmem/Round.h"

namespace MORI_KERNELS::internodev1 {

/// Block memory of sendChunk.
struct SendShared {
    uint32_t* failed;
    uint64_t* nodes;  ///< [64] the set of nodes of each token of the chunk
    PeerRow* tables;  ///< [warps][max nodes]

    /// A warp's own table. (Found again each time: kept, it would cost a register more than there
    /// is.)
    MORI_DEVICE PeerRow* rows(const Warp& warp, const Operator& op) const {
        return tables + warp.index() * maxNodes(op.shape());
    }

    static MORI_DEVICE SendShared of(Block& block, const Operator& op) {
        SendShared shared{};
        const int most = maxNodes(op.shape());
        shared.failed = block.shared<uint32_t>(1);
        shared.nodes = block.shared<uint64_t>(MORIEP_CHUNK_TOKENS);
        shared.tables = block.shared<PeerRow>(int64_t(block.warps()) * most);
        return shared;
    }
};

/// Bytes of block memory that the launches of dispatch ask for, at most.
MORI_SHARED uint64_t dispatchSharedBytes(const moriep_shape& shape, int warps) {
    const uint64_t rows = static_cast<uint64_t>(warps) * static_cast<uint64_t>(maxNodes(shape));
    return 64 + MORIEP_CHUNK_TOKENS * 8 + rows * sizeof(PeerRow) +
           placementSharedBytes(shape, warps);
}

/// The place of a token among those of its chunk that go to a node.
MORI_DEVICE int placeInChunk(const uint64_t* nodes, int token, int node) {
    int place = 0;
    for (int before = 0; before < token; ++before) place += int(nodes[before] >> node & 1);
    return place;
}

/// The rows of one token's packets in the staging chunks of the nodes that it goes to; returns how
/// many. `keeps`: combine will look for the partial sums at the same rows.
MORI_DEVICE int rowsInChunk(const Warp& warp,
                            const Operator& op,
                            const Chunks& chunks,
                            const SendShared& shared,
                            int64_t first,
                            int inChunk,
                            bool keeps) {
    const uint64_t set = shared.nodes[inChunk];
    const uint64_t remote = set & ~(uint64_t(1) << op.node());
    const uint64_t block = op.block(op.rank());
    PeerRow* rows = shared.rows(warp, op);
    warp.sync();  // the lanes are done with the table of the token before
    warp.lanes(op.nodes(), [&](int64_t bit) {
        const int node = static_cast<int>(bit);
        if ((set >> node & 1) == 0) return;
        const int64_t row = first + placeInChunk(shared.nodes, inChunk, node);
        if (keeps) {
            chunks.nodeRows(first + inChunk)[membersBelow(set, node)] = static_cast<int>(row);
        }
        if (node == op.node()) return;
        rows[membersBelow(remote, node)] = PeerRow{block + chunks.staging(node), row};
    });
    warp.sync();
    return __builtin_popcountll(remote);
}

/// One write and one word to a node, for a chunk that lies packed in staging memory.
MORI_DEVICE void pushChunk(const moriep_dispatch_arguments& arguments,
                           int node,
                           int chunk,
                           int rows,
                           const BlockOnce& once) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const Proxies proxies(op);
    const uint32_t epoch = op.control()->epoch;
    const int64_t packetBytes = packetOf(arguments).bytes;
    const uint64_t begin =
        static_cast<uint64_t>(chunk) * static_cast<uint64_t>(MORIEP_CHUNK_TOKENS * packetBytes);
    *chunks.chunkRows(node, chunk) = rows;
    if (proxies.proxy(node) < 0) return;  // nobody is left there, and no rows go there
    const int forgotten = isMutant(Mutant::chunkForgotten) && chunk > 0 ? 1 : 0;
    const ChunkCount count{chunksOf(op.control()->token_count) - forgotten, rows};
    Transfer transfer{};
    transfer.peer = proxies.proxy(node);
    transfer.queue = chunk % op.shape().queue_pairs;  // of the chunk only (P8)
    transfer.source = op.block(op.rank()) + chunks.staging(node) + begin;
    transfer.destination = chunks.landing(proxies.sectionAt(node)) + begin;
    transfer.bytes = rows * packetBytes;
    transfer.hasWord = true;
    // Pairs with awaitChunk in the proxy's dispatchForward.
    transfer.word = chunks.chunkWord(epoch, proxies.sectionAt(node), chunk);
    transfer.value = Signal{epoch, arguments.signature, count.count()}.word();
    trace::signal<MORIEP_PHASE_DISPATCH_FORWARD>(op, transfer.peer, chunk);
    pushTransfer(op, MORIEP_VERB_DISPATCH, transfer, arguments.timeout_ns, once);
}

/// The set of nodes of each of a chunk's tokens. `keeps`: combine will ask for them.
MORI_DEVICE void findNodes(Block& block,
                           const moriep_dispatch_arguments& arguments,
                           const SendShared& shared,
                           int64_t first,
                           int tokens,
                           bool keeps) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const Warp& warp = block.warp();
    const OwnTokens own(arguments);
    for (int token = warp.index(); token < tokens; token += block.warps()) {
        const int* experts = own.experts(first + token);
        const uint64_t set = warp.combineBits(op.shape().top_k, [&](int k) {
            const int rank = op.rankOfExpert(experts[k]);
            return rank < 0 ? uint64_t(0) : uint64_t(1) << op.nodeOf(rank);
        });
        warp.elect([&](const WarpOnce&) {
            shared.nodes[token] = set;
            if (keeps) *chunks.destinationNodes(first + token) = set;
        });
    }
}

/// Packs part of one token's row for each other node that it goes to.
template <class Wire>
MORI_DEVICE void packInChunk(const Warp& warp,
                             const moriep_dispatch_arguments& arguments,
                             const SendShared& shared,
                             int chunk,
                             int inChunk,
                             const RowParts& parts,
                             int part) {
    const Operator op(arguments.op);
    const int64_t first = int64_t(chunk) * MORIEP_CHUNK_TOKENS;
    const Chunks chunks(op);
    const int count = rowsInChunk(warp, op, chunks, shared, first, inChunk, part == 0);
    packToken<Wire>(warp,
                    machine::reread(arguments),
                    chunk * MORIEP_CHUNK_TOKENS + inChunk,
                    shared.rows(warp, op),
                    count,
                    parts,
                    part);
}

/// Tokens of a chunk of this rank's.
MORI_DEVICE int tokensOfChunk(const Operator& op, int chunk) {
    return smaller(op.control()->token_count - chunk * MORIEP_CHUNK_TOKENS, MORIEP_CHUNK_TOKENS);
}

/// The last part of a chunk to finish hands it to the proxy thread.
MORI_DEVICE void finishChunk(Block& block,
                             const moriep_dispatch_arguments& arguments,
                             const SendShared& shared,
                             int piece,
                             int parts) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const int chunk = piece / parts;
    block.once([&](const BlockWarp& warp) {
        if (!lastPart(warp, parts, chunks.arrivals(chunks.sections(), chunk))) return;
        const int tokens = tokensOfChunk(op, chunk);
        warp.each(op.nodes() - 1, [&](int turn, const BlockOnce& once) {
            // Every node starts with the one after itself, so that links share the load.
            const int node = (op.node() + 1 + turn) % op.nodes();
            const int rows = placeInChunk(shared.nodes, tokens, node);
            pushChunk(machine::reread(arguments), node, chunk, rows, once);
        });
    });
}

/// Packs part `piece` % `parts` of chunk `piece` / `parts`, and sends the chunk if it is the last.
template <class Wire>
MORI_DEVICE void sendChunk(Block& block,
                           const moriep_dispatch_arguments& arguments,
                           const SendShared& shared,
                           int piece,
                           int parts) {
    const Warp& warp = block.warp();
    const int chunk = piece / parts;
    const int part = piece % parts;
    const int tokens = tokensOfChunk(Operator(arguments.op), chunk);
    block.sync();  // every warp is done with the chunk before
    findNodes(block, arguments, shared, int64_t(chunk) * MORIEP_CHUNK_TOKENS, tokens, part == 0);
    block.sync();
    const int begin = tokens * part / parts;
    const int end = tokens * (part + 1) / parts;
    const RowParts rowParts = RowParts::of(end - begin, arguments.row_bytes, block.warps());
    for (int item = begin * rowParts.parts + warp.index(); item < end * rowParts.parts;
         item += block.warps()) {
        packInChunk<Wire>(warp,
                          machine::reread(arguments),
                          shared,
                          piece / parts,
                          item / rowParts.parts,
                          rowParts,
                          item % rowParts.parts);
    }
    block.publish();
    finishChunk(block, machine::reread(arguments), shared, piece, parts);
}

/// Launch 2: sends this rank's tokens to other nodes.
template <class Wire>
MORI_DEVICE void dispatchSend(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const SendShared shared = SendShared::of(block, op);
    if (roundFailed(block, op, shared.failed)) return;
    if (op.nodes() == 1) return;
    const int tokens = op.control()->token_count;
    // Without tokens too: the word of chunk 0 says so.
    const int count = tokens > 0 ? chunksOf(tokens) : 1;
    const int parts = ChunkParts::of(op.shape(), count, block.count()).parts;
    for (int item = block.index(); item < count * parts; item += block.count()) {
        sendChunk<Wire>(block, machine::reread(arguments), shared, item, parts);
    }
}

/// Launch 3: places this rank's tokens on its own node.
template <class Wire>
MORI_DEVICE void dispatchPlace(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const PlacementShared shared = PlacementShared::of(block, op);
    uint32_t* answer = block.shared<uint32_t>(1);
    if (roundFailed(block, op, answer)) return;
    const Range range = Range::part(op.control()->token_count, block.index(), block.count());
    if (op.nodes() == 1) {
        // Nobody sent, and combine asks whether a token went anywhere.
        block.once([&](const BlockWarp& first) {
            const Chunks chunks(op);
            first.lanes(range.end - range.begin,
                        [&](int64_t i) { *chunks.destinationNodes(range.begin + i) = 1; });
        });
    }
    placeRows(block, TokensAs<Wire>(arguments), range, shared);
    // The words that cover these rows are stored by the last block of dispatchForward.
    block.publish();
}

}  // namespace MORI_KERNELS::internodev1

// dispatchForward: what a rank does for its node with the chunks of other nodes.
//
// A block waits for a chunk and places its packets on the node's ranks while later chunks are still
// under way. It is the only launch of many blocks that waits for peers (P19): where blocks are
// resident together they may, and each wait is bounded. The host device, whose launches on the
// thread pool must end by themselves, runs dispatchAwait before it.
#pragma once

#include "InterNodeV1/Dispatch.h"

namespace MORI_KERNELS::internodev1 {

/// One wait for the word of a chunk; nothing is awaited of sections without a source.
MORI_DEVICE bool awaitChunkWord(const BlockWarp& first,
                                const Operator& op,
                                const Chunks& chunks,
                                const moriep_dispatch_arguments& arguments,
                                int words,
                                int chunkFirst) {
    const uint32_t epoch = op.control()->epoch;
    const Proxies proxies(op);
    const int perSection = words / chunks.sections();
    // Pairs with pushChunk of each section's source.
    return awaitSignals(
        first,
        op,
        words,
        MORIEP_PHASE_DISPATCH_FORWARD,
        MORIEP_VERB_DISPATCH,
        Signal{epoch, arguments.signature, 0},
        arguments.timeout_ns,
        op.networkWakes() ? Waking::yes : Waking::no,
        [&](int i) -> const uint64_t* {
            const int section = i / perSection;
            const int chunk = chunkFirst + i % perSection;
            if (proxies.source(section) < 0) return nullptr;
            if (chunk > 0) {
                const uint64_t* begin = chunks.own(chunks.chunkWord(epoch, section, 0));
                if (chunk >= ChunkCount::of(machine::pollSystem(begin)).chunks) return nullptr;
            }
            return chunks.own(chunks.chunkWord(epoch, section, chunk));
        },
        [&](int i) { return proxies.source(i / perSection); },
        [&](int i) { return chunkFirst + i % perSection; });
}

/// Waits until every chunk of every section is here: one warp, before the grid of the host device.
MORI_DEVICE void dispatchAwait(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    block.once([&](const BlockWarp& first) {
        if (op.failed() || chunks.sections() == 0) return;
        // The first chunk's word says how many there are.
        if (!awaitChunkWord(first, op, chunks, arguments, chunks.sections(), 0)) return;
        if (chunks.count() == 1) return;
        const int words = chunks.sections() * (chunks.count() - 1);
        awaitChunkWord(first, op, chunks, arguments, words, 1);
    });
}

/// What a block learns of a chunk before it forwards it.
struct ForwardShared {
    uint32_t* failed;
    int* rows;  ///< of the chunk; -1: the wait failed
    PlacementShared placement;

    static MORI_DEVICE ForwardShared of(Block& block, const Operator& op) {
        ForwardShared shared{};
        shared.failed = block.shared<uint32_t>(1);
        shared.rows = block.shared<int>(1);
        shared.placement = PlacementShared::of(block, op);
        return shared;
    }
};

/// Waits for one chunk and tells the whole block how many rows it has; -1: the round is void.
MORI_DEVICE int awaitChunk(Block& block,
                           const moriep_dispatch_arguments& arguments,
                           const ForwardShared& shared,
                           int section,
                           int chunk) {
    const Operator op(arguments.op);
    const Chunks chunks(op);
    const uint32_t epoch = op.control()->epoch;
    const int source = Proxies(op).source(section);
    const Signal expected{epoch, arguments.signature, 0};
    const uint64_t timeout = timeoutOf(op, arguments.timeout_ns);
    const Waking waking = op.networkWakes() ? Waking::yes : Waking::no;
    block.sync();  // every warp has read the answer before
    block.once([&](const BlockWarp& first) {
        trace::mark(first, op, MORIEP_TRACE_BEGIN, MORIEP_PHASE_DISPATCH_FORWARD);
        first.any(1, [&](int, const BlockOnce& once) {
            // The first chunk's word says how many there are; then that of the chunk itself.
            Verdict verdict;
            ChunkCount count;
            WaitTime time;
            for (int at = 0;; at = chunk) {
                // Pairs with pushChunk of the section's source.
                const uint64_t* word = chunks.own(chunks.chunkWord(epoch, section, at));
                verdict = awaitSignal(op, word, source, expected, timeout, waking, time);
                count = ChunkCount::of(verdict.found);
                trace::came(op, verdict.came(), MORIEP_PHASE_DISPATCH_FORWARD, source, at);
                if (!verdict.came() || at == chunk || chunk >= count.chunks) break;
            }
            *shared.rows = !verdict.came() ? -1 : chunk < count.chunks ? count.rows : 0;
            if (verdict.came()) return false;
            const auto waitsFor = [&](auto&& add) { add(source); };
            failWait(
                op, MORIEP_PHASE_DISPATCH_FORWARD, MORIEP_VERB_DISPATCH, verdict, waitsFor, once);
            return true;
        });
        if (!isMutant(Mutant::waitWithoutAcquire)) machine::acquireSystem();
        trace::mark(first, op, MORIEP_TRACE_END, MORIEP_PHASE_DISPATCH_FORWARD);
    });
    block.sync();
    return *shared.rows;
}

/// Waits for a part of a chunk and places its packets. Sections take turns, because their chunks
/// come side by side. False: the round is void.
MORI_DEVICE bool forwardPart(Block& block,
                             const moriep_dispatch_arguments& arguments,
                             const ForwardShared& shared,
                             int item,
                             int parts) {
    const Operator op(arguments.op);
    const int sections = Chunks(op).sections();
    const int section = item / parts % sections;
    const int chunk = item / parts / sections;
    if (Proxies(op).source(section) < 0) return true;
    const int rows = awaitChunk(block, machine::reread(arguments), shared, section, chunk);
    if (rows < 0) return false;
    if (rows == 0) return true;
    Range range = Range::part(rows, item % parts, parts);
    range.begin += int64_t(chunk) * MORIEP_CHUNK_TOKENS;
    range.end += int64_t(chunk) * MORIEP_CHUNK_TOKENS;
    placeRows(block, SectionRows(machine::reread(arguments), section), range, shared.placement);
    return true;
}

/// Tells the node's ranks how many rows this one placed at each, its own included.
MORI_DEVICE void finishForward(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    moriep_control* control = op.control();
    block.once([&](const BlockWarp& first) {
        if (!lastBlock(first, block, &control->forward_blocks_finished)) return;
        if (op.failed()) return;
        signalPlaced(first, op, arguments, control->epoch);
    });
}

/// Launch 4: places the packets of other nodes on this rank's node; the last block tells its ranks.
MORI_DEVICE void dispatchForward(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    const ForwardShared shared = ForwardShared::of(block, op);
    if (roundFailed(block, op, shared.failed)) return;
    const Chunks chunks(op);
    const int all = chunks.sections() * chunks.count();
    const int parts = ChunkParts::of(op.shape(), all, block.count()).parts;
    for (int item = block.index(); item < all * parts; item += block.count()) {
        if (!forwardPart(block, machine::reread(arguments), shared, item, parts)) break;
    }
    block.publish();
    finishForward(block, machine::reread(arguments));
}

}  // namespace MORI_KERNELS::internodev1

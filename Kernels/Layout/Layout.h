// Every byte offset of an operator's symmetric, local and pinned blocks. Pure arithmetic, used by
// the hosts to allocate and by the kernels through the copy in `moriep_operator`.
#pragma once

#include "Layout/Nodes.h"
#include "Layout/Packet.h"

namespace mori {

/// Buffers start on this boundary: a cache line pair, and more than any vector access needs.
constexpr uint64_t kBufferAlignment = 256;
/// Distance of words that many ranks add to.
constexpr uint64_t kWordSpacing = 64;

/// 64-bit words of a set of ranks.
MORI_SHARED int rankSetWords(int ranks) { return (ranks + 63) / 64; }

MORI_SHARED int smaller(int a, int b) { return a < b ? a : b; }

/// One implementation, two policies: what InterNodeV1 and InterNodeV1LL have in common.
MORI_SHARED bool isV1(const moriep_shape& shape) {
    return shape.kernel_type == MORIEP_INTERNODE_V1 || shape.kernel_type == MORIEP_INTERNODE_V1LL;
}

/// Whether each rank has a section of landing memory at every other: InterNode and AsyncLL.
MORI_SHARED bool hasRankSections(const moriep_shape& shape) {
    return shape.kernel_type == MORIEP_INTERNODE || shape.kernel_type == MORIEP_ASYNC_LL;
}

/// The ranks whose receive buffers a kernel of `rank` stores to: V1's of the own node.
MORI_SHARED Ranks reachableRanks(const moriep_shape& shape, int rank) {
    if (isV1(shape)) return ranksOfNode(shape, nodeOfRank(shape, rank));
    return {0, shape.world_size};
}

/// Destinations of one token among the reachable ranks, at most.
MORI_SHARED int maxDestinations(const moriep_shape& shape) {
    return smaller(shape.top_k, isV1(shape) ? shape.node_ranks : shape.world_size);
}

/// Nodes that one token goes to, at most.
MORI_SHARED int maxNodes(const moriep_shape& shape) {
    return smaller(shape.top_k, nodeCount(shape));
}

/// Chunks of a rank's tokens, at most. A rank without tokens sends one word too.
MORI_SHARED int maxChunks(const moriep_shape& shape) {
    return (shape.max_tokens + MORIEP_CHUNK_TOKENS - 1) / MORIEP_CHUNK_TOKENS;
}

/// Rows of one section of landing or staging memory.
MORI_SHARED int64_t sectionRows(const moriep_shape& shape) {
    return isV1(shape) ? int64_t(maxChunks(shape)) * MORIEP_CHUNK_TOKENS : shape.max_tokens;
}

/// Bytes of the largest packets; a section has room for sectionRows of them.
MORI_SHARED int64_t maxDispatchPacket(const moriep_shape& shape) {
    return DispatchPacket::of(shape.dispatch_row_bytes, shape.scale_bytes, true, shape.top_k).bytes;
}
MORI_SHARED int64_t maxWireBytes(const moriep_shape& shape) {
    return WireRow::of(shape.combine_row_bytes, shape.quantization, shape.quantization_block).bytes;
}
MORI_SHARED int64_t maxCombinePacket(const moriep_shape& shape) {
    return CombinePacket::of(maxWireBytes(shape), true, shape.top_k).bytes;
}
/// A partial sum that stays at home is not quantized.
MORI_SHARED int64_t maxOwnPartial(const moriep_shape& shape) {
    return CombinePacket::of(shape.combine_row_bytes, true, shape.top_k).bytes;
}

/// Hands out consecutive buffers.
class BufferCursor {
public:
    MORI_SHARED uint64_t take(uint64_t bytes) {
        const uint64_t offset = next_;
        next_ = (next_ + bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
        return offset;
    }
    /// Of `count` things of `bytes` each.
    MORI_SHARED uint64_t take(int64_t count, int64_t bytes) {
        return take(static_cast<uint64_t>(count) * static_cast<uint64_t>(bytes));
    }
    MORI_SHARED uint64_t used() const { return next_; }

private:
    uint64_t next_ = 0;
};

/// What every kernel type has: words, receive buffers, the registered input of combine.
MORI_SHARED void takeCommonWords(const moriep_shape& shape,
                                 moriep_layout& layout,
                                 BufferCursor& symmetric) {
    const int64_t words = 2 * int64_t(shape.world_size);
    layout.dispatch_signals = symmetric.take(words, 8);
    layout.combine_signals = symmetric.take(words, 8);
    layout.barrier_signals = symmetric.take(words, 8);
    if (shape.is_ordered != 0) {
        layout.count_signals = symmetric.take(words * shape.world_size, 8);
    }
    layout.slot_counters = symmetric.take(2, kWordSpacing);
    layout.call_records = symmetric.take(4, sizeof(moriep_call));
}

MORI_SHARED void takeReceiveBuffers(const moriep_shape& shape,
                                    moriep_layout& layout,
                                    BufferCursor& symmetric) {
    const int64_t rows = shape.max_received;
    layout.received_tokens = symmetric.take(rows, shape.dispatch_row_bytes);
    layout.received_weights = symmetric.take(rows, int64_t(shape.top_k) * 4);
    layout.received_scales = symmetric.take(rows, shape.scale_bytes);
    layout.received_indices = symmetric.take(rows, int64_t(shape.top_k) * 4);
    layout.received_sources = symmetric.take(rows, 4);
}

/// Words that come from other nodes. All words of a rank lie together, to be zeroed together.
MORI_SHARED void takeNetworkWords(const moriep_shape& shape,
                                  moriep_layout& layout,
                                  BufferCursor& symmetric) {
    if (shape.kernel_type == MORIEP_INTRANODE) return;
    const int64_t chunks = maxChunks(shape);
    layout.barrier_end_signals = symmetric.take(2 * int64_t(shape.world_size), 8);
    if (isV1(shape)) {
        layout.chunk_signals = symmetric.take(2 * shape.landing_sections * chunks, 8);
        layout.combine_chunk_signals = symmetric.take(2 * nodeCount(shape) * chunks, 8);
    } else {
        const int64_t words = 2 * int64_t(shape.world_size) * shape.queue_pairs;
        layout.section_signals = symmetric.take(words, 8);
        layout.combine_section_signals = symmetric.take(words, 8);
    }
}

/// Where packets of other nodes come in, and where they are made before they leave.
MORI_SHARED void takePackets(const moriep_shape& shape,
                             moriep_layout& layout,
                             BufferCursor& symmetric) {
    if (shape.kernel_type == MORIEP_INTRANODE) return;
    const int64_t dispatched = sectionRows(shape) * maxDispatchPacket(shape);
    const int64_t combined = sectionRows(shape) * maxCombinePacket(shape);
    if (isV1(shape)) {
        const int64_t remote = nodeCount(shape) - 1;
        layout.landing = symmetric.take(shape.landing_sections, dispatched);
        layout.staging = symmetric.take(remote, dispatched);
        layout.combine_landing = symmetric.take(remote, combined);
        layout.combine_staging = symmetric.take(shape.landing_sections, combined);
    } else {
        const int64_t remote = remoteRankCount(shape);
        layout.landing = symmetric.take(shape.world_size, dispatched);
        layout.staging = symmetric.take(remote, dispatched);
        layout.combine_landing = symmetric.take(shape.world_size, combined);
        layout.combine_staging = symmetric.take(remote, combined);
    }
}

/// Where combine's input becomes reachable for its sources. IntraNode's external input lands there
/// at rank * max_tokens + token; V1's lies in place; the others have it only for registered input.
MORI_SHARED void takeCombineInput(const moriep_shape& shape,
                                  moriep_layout& layout,
                                  BufferCursor& symmetric) {
    const int64_t landing = int64_t(shape.world_size) * shape.max_tokens;
    int64_t rows = shape.max_received;
    if (shape.kernel_type == MORIEP_INTRANODE && landing > rows) rows = landing;
    // IntraNode's rows land there as they are sent; rows too short to gain by it take more.
    const int64_t wire = shape.kernel_type == MORIEP_INTRANODE ? maxWireBytes(shape) : 0;
    layout.combine_input =
        symmetric.take(rows, wire > shape.combine_row_bytes ? wire : shape.combine_row_bytes);
    layout.combine_input_weights =
        symmetric.take(hasRankSections(shape) ? 0 : rows, int64_t(shape.top_k) * 4);
}

/// State and counters, which begin at zero, then the tables of ranks, which hosts fill.
MORI_SHARED void takeState(const moriep_shape& shape, moriep_layout& layout, BufferCursor& local) {
    layout.control = local.take(sizeof(moriep_control));
    layout.peer_waits = local.take(shape.world_size, 8);
    layout.destination_counts = local.take(shape.world_size, 4);
    if (isV1(shape)) {
        layout.chunk_arrivals = local.take((shape.landing_sections + 1) * maxChunks(shape), 4);
    }
    layout.local_zero_end = local.used();
    layout.active_ranks = local.take(shape.world_size, 4);
    if (isV1(shape)) {
        layout.proxies = local.take(nodeCount(shape), 4);
        layout.proxy_sections = local.take(nodeCount(shape), 4);
        layout.section_sources = local.take(shape.landing_sections, 4);
    }
    if (shape.expert_map != 0) {
        layout.expert_ranks = local.take(shape.expert_count, 4);
        layout.expert_places = local.take(shape.expert_count, 4);
    }
    if (shape.is_ordered != 0) layout.order_bases = local.take(shape.world_size, 4);
    layout.standard_slots = local.take(shape.max_received, int64_t(shape.top_k) * 4);
}

/// Where a round's tokens went: written by dispatch, read by combine.
MORI_SHARED void takeRoutes(const moriep_shape& shape, moriep_layout& layout, BufferCursor& local) {
    const int64_t tokens = shape.max_tokens;
    const int reachable = isV1(shape) ? shape.node_ranks : shape.world_size;
    layout.routes_begin = local.used();
    layout.destination_ranks = local.take(tokens * rankSetWords(reachable), 8);
    layout.destination_slots = local.take(tokens * maxDestinations(shape), 4);
    if (isV1(shape)) {
        const int64_t rows = shape.landing_sections * sectionRows(shape);
        layout.destination_nodes = local.take(tokens, 8);
        layout.node_rows = local.take(tokens * maxNodes(shape), 4);
        layout.chunk_counts = local.take(nodeCount(shape) * maxChunks(shape), 4);
        layout.forward_ranks = local.take(rows, 8);
        layout.forward_slots = local.take(rows * maxDestinations(shape), 4);
    } else if (hasRankSections(shape)) {
        layout.section_counts = local.take(2 * int64_t(shape.world_size), 4);
        layout.section_rows = local.take(shape.max_received, 4);
    }
    layout.routes_end = local.used();
    if (isV1(shape)) layout.own_partials = local.take(tokens, maxOwnPartial(shape));
}

/// The layout of an operator's buffers for a shape.
MORI_SHARED moriep_layout layoutFor(const moriep_shape& shape) {
    moriep_layout layout{};
    const uint64_t slots = static_cast<uint64_t>(shape.slots);

    BufferCursor symmetric;
    takeCommonWords(shape, layout, symmetric);
    takeNetworkWords(shape, layout, symmetric);
    layout.words_end = symmetric.used();
    takeReceiveBuffers(shape, layout, symmetric);
    takeCombineInput(shape, layout, symmetric);
    takePackets(shape, layout, symmetric);
    layout.symmetric_slot_bytes = symmetric.used();
    layout.symmetric_bytes = slots * layout.symmetric_slot_bytes;

    BufferCursor local;
    takeState(shape, layout, local);
    takeRoutes(shape, layout, local);
    layout.combine_output = local.take(shape.max_tokens, shape.combine_row_bytes);
    layout.combine_output_weights = local.take(shape.max_tokens, int64_t(shape.top_k) * 4);
    layout.local_slot_bytes = local.used();
    layout.ring_tails = slots * layout.local_slot_bytes;
    layout.local_bytes = layout.ring_tails + static_cast<uint64_t>(shape.rings) * kWordSpacing;

    BufferCursor pinned;
    pinned.take(sizeof(moriep_failure));
    layout.ring_consumed = pinned.take(shape.rings, kWordSpacing);
    layout.slot_completed = pinned.take(shape.rings > 0 ? shape.slots : 0, kWordSpacing);
    layout.ring_descriptors =
        pinned.take(int64_t(shape.rings) * shape.ring_entries, MORIEP_DESCRIPTOR_WORDS * 8);
    layout.pinned_bytes = pinned.used();
    return layout;
}

}  // namespace mori

// What InterNodeV1 and InterNodeV1LL send: chunks of 64 tokens, compacted for each node.
//
// A source's tokens fall into chunks of 64. For each other node, the tokens of a chunk that go
// there stand as packets side by side in staging memory: one write, and behind it one word that
// says how many they are and how many chunks come (P7, P13). They land at the node's proxy in the
// section of their source, chunk c at row 64 c. Partial sums come back the same way, row by row.
#pragma once

#include "Shmem/Packing.h"
#include "Shmem/Proxies.h"
#include "Shmem/Ring.h"

namespace MORI_KERNELS::internodev1 {

/// How chunks are dealt to blocks: one implementation, two policies.
///   InterNodeV1    a block takes whole chunks: as many are in flight as there are blocks
///   InterNodeV1LL  all blocks share each chunk, so that few tokens keep the whole device busy
struct ChunkParts {
    int parts;

    static MORI_DEVICE ChunkParts of(const moriep_shape& shape, int chunks, int blocks) {
        if (shape.kernel_type != MORIEP_INTERNODE_V1LL || chunks < 1) return {1};
        const int parts = blocks / chunks;
        return {parts < 1 ? 1 : parts > MORIEP_CHUNK_TOKENS ? MORIEP_CHUNK_TOKENS : parts};
    }
};

/// A chunk word: a signal word whose 24 bits are the chunks that the source sends (16) and the rows
/// of this one (8).
struct ChunkCount {
    int chunks;
    int rows;

    MORI_DEVICE uint32_t count() const { return uint32_t(chunks) << 8 | uint32_t(rows); }
    static MORI_DEVICE ChunkCount of(uint64_t word) {
        const uint32_t count = Signal::of(word).count;
        return {int(count >> 8), int(count & 0xFF)};
    }
};

/// Chunks of so many tokens.
MORI_DEVICE int chunksOf(int64_t tokens) {
    return static_cast<int>((tokens + MORIEP_CHUNK_TOKENS - 1) / MORIEP_CHUNK_TOKENS);
}

/// Where V1's packets, words and routes lie: offsets in the slot's block and local addresses.
class Chunks {
public:
    explicit MORI_DEVICE Chunks(const Operator& op)
        : op_(op), chunks_(maxChunks(op.shape())), rows_(sectionRows(op.shape())) {}

    /// Chunks of a section.
    MORI_DEVICE int count() const { return chunks_; }
    MORI_DEVICE int sections() const { return op_.shape().landing_sections; }

    // Words ---------------------------------------------------------------------------------

    /// The word of a dispatched chunk, in the memory of the proxy that has `section`.
    MORI_DEVICE uint64_t chunkWord(uint32_t epoch, int section, int chunk) const {
        return op_.layout().chunk_signals + index(epoch, sections(), section, chunk) * 8;
    }
    /// The word of a chunk's partial sums of a node, in the memory of their source.
    MORI_DEVICE uint64_t combineWord(uint32_t epoch, int node, int chunk) const {
        return op_.layout().combine_chunk_signals + index(epoch, op_.nodes(), node, chunk) * 8;
    }
    /// A word of this rank.
    MORI_DEVICE uint64_t* own(uint64_t word) const {
        return pointer<uint64_t>(op_.block(op_.rank()) + word);
    }

    // Packets: offsets in the slot's block ---------------------------------------------------

    MORI_DEVICE uint64_t landing(int section) const {
        return op_.layout().landing + sectionOffset(section, maxDispatchPacket(op_.shape()));
    }
    MORI_DEVICE uint64_t staging(int node) const {
        return op_.layout().staging +
               sectionOffset(remoteNodeIndex(node, op_.node()), maxDispatchPacket(op_.shape()));
    }
    MORI_DEVICE uint64_t combineStaging(int section) const {
        return op_.layout().combine_staging + sectionOffset(section, maxCombinePacket(op_.shape()));
    }
    /// Where partial sums of `node` land at a rank of node `at`.
    MORI_DEVICE uint64_t combineLanding(int node, int at) const {
        return op_.layout().combine_landing +
               sectionOffset(remoteNodeIndex(node, at), maxCombinePacket(op_.shape()));
    }

    // Routes --------------------------------------------------------------------------------

    /// The set of nodes that a token of this rank goes to.
    MORI_DEVICE uint64_t* destinationNodes(int64_t token) const {
        return pointer<uint64_t>(op_.local(op_.layout().destination_nodes)) + token;
    }
    /// For each of them, ascending, the row of its packet in the section there.
    MORI_DEVICE int* nodeRows(int64_t token) const {
        return pointer<int>(op_.local(op_.layout().node_rows)) + token * maxNodes(op_.shape());
    }
    /// Rows that this rank sent to a node in a chunk.
    MORI_DEVICE int* chunkRows(int node, int chunk) const {
        return pointer<int>(op_.local(op_.layout().chunk_counts)) + node * chunks_ + chunk;
    }
    /// Where the packet of a section went.
    MORI_DEVICE Route route(int section, int64_t row) const {
        const int64_t at = section * rows_ + row;
        return {op_.reachable(),
                pointer<uint64_t>(op_.local(op_.layout().forward_ranks)) + at,
                pointer<int>(op_.local(op_.layout().forward_slots)) +
                    at * maxDestinations(op_.shape())};
    }
    /// Parts of a section's chunk that are finished; section `sections()` is this rank's own.
    MORI_DEVICE uint32_t* arrivals(int section, int chunk) const {
        return pointer<uint32_t>(op_.local(op_.layout().chunk_arrivals)) + section * chunks_ +
               chunk;
    }

private:
    MORI_DEVICE uint64_t index(uint32_t epoch, int sections, int section, int chunk) const {
        return (static_cast<uint64_t>((epoch & 1) * sections + section)) *
                   static_cast<uint64_t>(chunks_) +
               static_cast<uint64_t>(chunk);
    }
    MORI_DEVICE uint64_t sectionOffset(int section, int64_t packet) const {
        return static_cast<uint64_t>(section) * static_cast<uint64_t>(rows_ * packet);
    }

    const Operator& op_;
    int chunks_;
    int64_t rows_;
};

/// The packets of one of this rank's sections as rows to place on its node.
class SectionRows : public Packets {
public:
    using Wire = Plain;  // what is to be quantized was before it travelled

    MORI_DEVICE SectionRows(const moriep_dispatch_arguments& arguments, int section)
        : Packets(arguments, landing(Operator(arguments.op), section)),
          arguments_(arguments),
          op_(arguments.op),
          section_(section) {}
    MORI_DEVICE SectionRows reread() const {
        return SectionRows(machine::reread(arguments_), section_);
    }

    MORI_DEVICE const moriep_dispatch_arguments& arguments() const { return arguments_; }
    MORI_DEVICE const Operator& op() const { return op_; }
    MORI_DEVICE Route route(int64_t row) const { return Chunks(op_).route(section_, row); }

private:
    static MORI_DEVICE uint64_t landing(const Operator& op, int section) {
        return op.block(op.rank()) + Chunks(op).landing(section);
    }

    const moriep_dispatch_arguments& arguments_;
    Operator op_;
    int section_;
};

}  // namespace MORI_KERNELS::internodev1

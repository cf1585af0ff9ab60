// What InterNode and AsyncLL share: each rank has a section of landing memory for every source, and
// rows travel from rank to rank as packets, also within a node, where kernels store them directly.
//
// One implementation, two policies for what the network is asked:
//   InterNode  one write a row, one word a queue pair behind them: the readable baseline
//   AsyncLL    one write and one word for each queue pair of a rank, send and receive apart
#pragma once

#include "Shmem/Packing.h"
#include "Shmem/Ring.h"

namespace MORI_KERNELS::internode {

/// Which rows of an edge a queue pair carries. Each word counts the rows of its queue pair (P8).
struct QueueRows {
    bool onePutPerRow;
    int queues;

    static MORI_DEVICE QueueRows of(const moriep_shape& shape) {
        return {shape.kernel_type == MORIEP_INTERNODE, shape.queue_pairs};
    }
    /// The queue pair of a row that travels alone.
    MORI_DEVICE int queueOf(int64_t row) const { return static_cast<int>(row % queues); }
    /// Rows of a queue pair, of `rows` in all.
    MORI_DEVICE int count(int64_t rows, int queue) const {
        if (onePutPerRow) return static_cast<int>((rows + queues - 1 - queue) / queues);
        const Range range = Range::part(rows, queue, queues);
        return static_cast<int>(range.end - range.begin);
    }
};

/// Where packets, words and routes lie.
class Sections {
public:
    explicit MORI_DEVICE Sections(const Operator& op) : op_(op), own_(op.nodeRanks()) {}

    MORI_DEVICE bool isRemote(int rank) const { return !own_.contains(rank); }

    // Offsets in the slot's block, the same at every rank ------------------------------------

    /// Where the packets of a source land.
    MORI_DEVICE uint64_t landing(int source) const {
        return op_.layout().landing + offset(source, maxDispatchPacket(op_.shape()));
    }
    /// Where what a rank gives back lands.
    MORI_DEVICE uint64_t combineLanding(int from) const {
        return op_.layout().combine_landing + offset(from, maxCombinePacket(op_.shape()));
    }
    /// The word of a source's rows that came by one queue pair.
    MORI_DEVICE uint64_t word(uint32_t epoch, int source, int queue) const {
        return op_.layout().section_signals + index(epoch, source, queue) * 8;
    }
    MORI_DEVICE uint64_t combineWord(uint32_t epoch, int from, int queue) const {
        return op_.layout().combine_section_signals + index(epoch, from, queue) * 8;
    }

    // Addresses -----------------------------------------------------------------------------

    /// Where this rank writes packets for another: there, or into staging memory.
    MORI_DEVICE uint64_t outgoing(int to) const {
        if (!isRemote(to)) return op_.block(to) + landing(op_.rank());
        return op_.block(op_.rank()) + op_.layout().staging +
               offset(remoteRankIndex(to, own_), maxDispatchPacket(op_.shape()));
    }
    MORI_DEVICE uint64_t combineOutgoing(int to) const {
        if (!isRemote(to)) return op_.block(to) + combineLanding(op_.rank());
        return op_.block(op_.rank()) + op_.layout().combine_staging +
               offset(remoteRankIndex(to, own_), maxCombinePacket(op_.shape()));
    }
    /// A word in the memory of a rank that kernels reach.
    MORI_DEVICE uint64_t* at(int rank, uint64_t word) const {
        return pointer<uint64_t>(op_.block(rank) + word);
    }

    // Routes --------------------------------------------------------------------------------

    /// Rows that this rank sent to another; once they came back, those that did.
    MORI_DEVICE int* sent(int rank) const { return counts() + rank; }
    /// Rows that came from a source.
    MORI_DEVICE int* came(int source) const { return counts() + op_.worldSize() + source; }
    /// The row of its source's section from which a received row was copied.
    MORI_DEVICE int* sectionRow(int64_t received) const {
        return pointer<int>(op_.local(op_.layout().section_rows)) + received;
    }
    /// The source of a received row.
    MORI_DEVICE int sourceOf(int64_t received) const {
        return op_.receivedSources(op_.rank())[received] / op_.shape().max_tokens;
    }

private:
    MORI_DEVICE int* counts() const { return pointer<int>(op_.local(op_.layout().section_counts)); }
    MORI_DEVICE uint64_t index(uint32_t epoch, int rank, int queue) const {
        const uint32_t parity = isMutant(Mutant::growingWord) ? 0 : epoch & 1;
        const uint64_t ranks = static_cast<uint64_t>(parity * op_.worldSize() + rank);
        return ranks * static_cast<uint64_t>(op_.shape().queue_pairs) +
               static_cast<uint64_t>(queue);
    }
    MORI_DEVICE uint64_t offset(int section, int64_t packet) const {
        return static_cast<uint64_t>(section) *
               static_cast<uint64_t>(sectionRows(op_.shape()) * packet);
    }

    const Operator& op_;
    Ranks own_;
};

/// What an edge is told, for one verb: where its packets are, where they go, how large they are.
struct Edge {
    int verb;
    int peer;
    uint64_t source;       ///< address of the packets on this side
    uint64_t destination;  ///< offset of the section at the peer
    int64_t packetBytes;
};

/// Hands rows of an edge to the network without a word.
MORI_DEVICE void pushRows(const Operator& op,
                          const Edge& edge,
                          int queue,
                          Range rows,
                          uint64_t callTimeout,
                          const BlockOnce& once) {
    const uint64_t begin = static_cast<uint64_t>(rows.begin * edge.packetBytes);
    Transfer transfer{};
    transfer.peer = edge.peer;
    transfer.queue = queue;
    transfer.source = edge.source + begin;
    transfer.destination = edge.destination + begin;
    transfer.bytes = (rows.end - rows.begin) * edge.packetBytes;
    pushTransfer(op, edge.verb, transfer, callTimeout, once);
}

/// Tells a peer how many rows of an edge each queue pair brings: directly, or behind the rows.
/// `word(queue)` is the word's offset.
template <class Word>
MORI_DEVICE void tellEdge(const Operator& op,
                          const Sections& sections,
                          const Edge& edge,
                          int64_t rows,
                          Signal signal,
                          uint64_t callTimeout,
                          const BlockOnce& once,
                          Word&& word) {
    const QueueRows queues = QueueRows::of(op.shape());
    for (int queue = 0; queue < queues.queues; ++queue) {
        signal.count = static_cast<uint32_t>(queues.count(rows, queue));
        if (edge.verb == MORIEP_VERB_DISPATCH) {
            trace::signal<MORIEP_PHASE_DISPATCH_RECEIVE>(op, edge.peer, queue);
        } else {
            trace::signal<MORIEP_PHASE_COMBINE_RECEIVE>(op, edge.peer, queue);
        }
        if (!sections.isRemote(edge.peer)) {
            machine::storeSystem(sections.at(edge.peer, word(queue)), signal.word(), once);
            continue;
        }
        Transfer transfer{};
        transfer.peer = edge.peer;
        transfer.queue = queue;
        transfer.hasWord = true;
        transfer.word = word(queue);
        transfer.value = signal.word();
        if (!queues.onePutPerRow) {
            const Range range = Range::part(rows, queue, queues.queues);
            const uint64_t begin = static_cast<uint64_t>(range.begin * edge.packetBytes);
            transfer.source = edge.source + begin;
            transfer.destination = edge.destination + begin;
            transfer.bytes = (range.end - range.begin) * edge.packetBytes;
        }
        pushTransfer(op, edge.verb, transfer, callTimeout, once);
    }
}

}  // namespace MORI_KERNELS::internode

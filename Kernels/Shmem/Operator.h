// Typed views of an operator's symmetric and local blocks, for kernels.
#pragma once

#include "Device/Device.h"
#include "Layout/Layout.h"

namespace MORI_KERNELS {

/// What a kernel sees of the operator it runs for: one slot of one rank.
class Operator {
public:
    explicit MORI_DEVICE Operator(const moriep_operator& fields) : fields_(fields) {}

    /// The same operator, its fields read again (see machine::reread). They are the first thing in
    /// the arguments of every kernel.
    MORI_DEVICE Operator reread() const { return Operator(machine::reread(fields_)); }

    MORI_DEVICE int rank() const { return fields_.rank; }
    MORI_DEVICE int slot() const { return fields_.slot; }
    MORI_DEVICE int worldSize() const { return fields_.shape.world_size; }
    MORI_DEVICE const moriep_shape& shape() const { return fields_.shape; }
    MORI_DEVICE const moriep_layout& layout() const { return fields_.layout; }

    /// The rank that hosts an expert; -1 for an id that no rank hosts.
    MORI_DEVICE int rankOfExpert(int expert) const {
        if (expert < 0 || expert >= fields_.shape.expert_count) return -1;
        if (fields_.shape.expert_map != 0) {
            return pointer<const int>(local(layout().expert_ranks))[expert];
        }
        return expert / fields_.shape.experts_per_rank;
    }
    /// The place of an expert among this rank's; -1 for one that lives elsewhere.
    MORI_DEVICE int placeOfExpert(int expert) const {
        if (rankOfExpert(expert) != rank()) return -1;
        if (fields_.shape.expert_map != 0) {
            return pointer<const int>(local(layout().expert_places))[expert];
        }
        return expert % fields_.shape.experts_per_rank;
    }

    /// Ranks of this rank's node, itself included.
    MORI_DEVICE Ranks nodeRanks() const { return ranksOfNode(shape(), node()); }
    MORI_DEVICE Ranks everyRank() const { return {0, worldSize()}; }
    /// The ranks whose receive buffers this rank's kernels store to.
    MORI_DEVICE Ranks reachable() const { return reachableRanks(shape(), rank()); }
    MORI_DEVICE int node() const { return nodeOfRank(shape(), rank()); }
    MORI_DEVICE int nodes() const { return nodeCount(shape()); }
    MORI_DEVICE int nodeOf(int rank) const { return nodeOfRank(shape(), rank); }
    /// Whether a rank takes part in rounds. Nothing is sent to a masked one, and nobody waits for
    /// it; the set changes between rounds only, with all memory (P17).
    MORI_DEVICE bool isActive(int rank) const {
        return pointer<const int>(local(layout().active_ranks))[rank] != 0;
    }
    /// Whether a kernel can store to this rank's memory; else the network must.
    MORI_DEVICE bool isReachable(int rank) const {
        return pointer<const uint64_t>(fields_.peers)[rank] != 0;
    }
    /// Whether words that the network brings wake host threads that await them.
    MORI_DEVICE bool networkWakes() const { return fields_.words_wake != 0; }

    // Symmetric block -----------------------------------------------------------------------

    /// Where this slot's symmetric block lies at a rank.
    MORI_DEVICE uint64_t block(int rank) const {
        return pointer<const uint64_t>(fields_.peers)[rank] +
               static_cast<uint64_t>(fields_.slot) * layout().symmetric_slot_bytes;
    }

    /// The signal word of `kind` (an offset of the layout) at rank `at` that only `writer` stores,
    /// for rounds of this epoch's parity.
    MORI_DEVICE uint64_t* signal(uint64_t kind, uint32_t epoch, int at, int writer) const {
        return pointer<uint64_t>(block(at) + signalOffset(kind, epoch, writer));
    }
    /// Its offset in the slot's block, the same at every rank.
    MORI_DEVICE uint64_t signalOffset(uint64_t kind, uint32_t epoch, int writer) const {
        return kind + static_cast<uint64_t>((epoch & 1) * worldSize() + writer) * 8;
    }

    /// The word at rank `at` that says how many rows `source` sends to `destination`.
    MORI_DEVICE uint64_t* countSignal(uint32_t epoch, int at, int source, int destination) const {
        const int64_t row = int64_t(epoch & 1) * worldSize() + source;
        return pointer<uint64_t>(block(at) + layout().count_signals) + row * worldSize() +
               destination;
    }
    /// Where this rank's rows begin in the receive buffer of another, in an ordered dispatch.
    MORI_DEVICE int* orderBases() const { return pointer<int>(local(layout().order_bases)); }

    /// The counter at rank `at` from which senders reserve receive slots.
    MORI_DEVICE uint64_t* slotCounter(uint32_t epoch, int at) const {
        return pointer<uint64_t>(block(at) + layout().slot_counters + (epoch & 1) * kWordSpacing);
    }

    /// What rank `at` called with.
    MORI_DEVICE moriep_call* callRecord(int verb, uint32_t epoch, int at) const {
        return pointer<moriep_call>(block(at) + layout().call_records) + verb * 2 + (epoch & 1);
    }

    MORI_DEVICE int* receivedSources(int at) const {
        return pointer<int>(block(at) + layout().received_sources);
    }

    // Local block ---------------------------------------------------------------------------

    MORI_DEVICE moriep_control* control() const {
        return pointer<moriep_control>(local(layout().control));
    }
    /// How long warps of this rank have waited for each rank, in nanoseconds, since the operator
    /// began.
    MORI_DEVICE uint64_t* peerWaits() const {
        return pointer<uint64_t>(local(layout().peer_waits));
    }
    MORI_DEVICE uint32_t* destinationCounts() const {
        return pointer<uint32_t>(local(layout().destination_counts));
    }
    /// The set of reachable ranks that a token goes to, as words of 64 ranks; bit 0 is the first of
    /// `reachable`.
    MORI_DEVICE uint64_t* destinationRanks(int64_t token) const {
        return pointer<uint64_t>(local(layout().destination_ranks)) +
               token * rankSetWords(reachable().count);
    }
    /// The receive slot at each rank of that set, in ascending order of ranks; -1: dropped.
    MORI_DEVICE int* destinationSlots(int64_t token) const {
        return pointer<int>(local(layout().destination_slots)) + token * maxDestinations(shape());
    }
    MORI_DEVICE uint64_t local(uint64_t offset) const {
        return fields_.local + static_cast<uint64_t>(fields_.slot) * layout().local_slot_bytes +
               offset;
    }

    // Network -------------------------------------------------------------------------------

    /// Where bytes at `address` of this rank's symmetric block lie from the begin of its memory,
    /// which is where the same bytes lie at every rank.
    MORI_DEVICE uint64_t symmetricOffset(uint64_t address) const {
        return address - pointer<const uint64_t>(fields_.peers)[rank()];
    }
    /// The same for an offset of this slot's block.
    MORI_DEVICE uint64_t slotOffset(uint64_t offset) const {
        return static_cast<uint64_t>(fields_.slot) * layout().symmetric_slot_bytes + offset;
    }
    MORI_DEVICE uint32_t* ringTail(int ring) const {
        return pointer<uint32_t>(fields_.local + layout().ring_tails +
                                 static_cast<uint64_t>(ring) * kWordSpacing);
    }
    MORI_DEVICE const uint64_t* ringConsumed(int ring) const {
        return pointer<const uint64_t>(fields_.failure + layout().ring_consumed +
                                       static_cast<uint64_t>(ring) * kWordSpacing);
    }
    /// The descriptor of a ring that a ticket names.
    MORI_DEVICE uint64_t* descriptor(int ring, uint32_t ticket) const {
        const uint64_t entries = static_cast<uint64_t>(shape().ring_entries);
        const uint64_t entry = static_cast<uint64_t>(ring) * entries + (ticket & (entries - 1));
        return pointer<uint64_t>(fields_.failure + layout().ring_descriptors) +
               entry * MORIEP_DESCRIPTOR_WORDS;
    }
    /// How many of this slot's descriptors the network is done with.
    MORI_DEVICE const uint64_t* slotCompleted() const {
        return pointer<const uint64_t>(fields_.failure + layout().slot_completed +
                                       static_cast<uint64_t>(fields_.slot) * kWordSpacing);
    }
    MORI_DEVICE uint64_t* doorbell() const { return pointer<uint64_t>(fields_.doorbell); }

    // Failures ------------------------------------------------------------------------------

    /// Whether this round is void. Blocks of one launch may fail while others begin: a block asks
    /// once (roundFailed in Shmem/Rows.h), so that all its warps go the same way.
    MORI_DEVICE bool failed() const {
        return machine::loadDevice(pointer<const uint32_t>(failedAddress())) != 0;
    }
    MORI_DEVICE uint32_t* failedWord() const { return pointer<uint32_t>(failedAddress()); }
    /// Whether this rank's abort word can be stored at a peer directly.
    MORI_DEVICE bool hasAbortWords(int at) const {
        return pointer<const uint64_t>(fields_.abort_peers)[at] != 0;
    }
    /// The words at rank `at` by which the world's ranks end its rounds, one a writer.
    MORI_DEVICE uint64_t* abortWords(int at) const {
        return pointer<uint64_t>(pointer<const uint64_t>(fields_.abort_peers)[at]);
    }
    /// The word by which this rank's own host ends them.
    MORI_DEVICE const uint64_t* hostAbort() const {
        return pointer<const uint64_t>(fields_.host_abort);
    }
    /// The word that elects the writer of the record: one for all slots, as the record is.
    MORI_DEVICE uint32_t* failureElection() const {
        return &pointer<moriep_control>(fields_.local + layout().control)->failure_elected;
    }
    MORI_DEVICE moriep_failure* failure() const { return pointer<moriep_failure>(fields_.failure); }

private:
    MORI_DEVICE uint64_t failedAddress() const {
        return local(layout().control) + offsetof(moriep_control, failed);
    }

    const moriep_operator& fields_;
};
static_assert(offsetof(moriep_dispatch_arguments, op) == 0);
static_assert(offsetof(moriep_combine_arguments, op) == 0);
static_assert(offsetof(moriep_received_arguments, op) == 0);

}  // namespace MORI_KERNELS

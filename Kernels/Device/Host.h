// The host machine: a warp is a thread with one lane, a block is a group of threads with a barrier.
//
// The primitives are what ThreadSanitizer sees, so every synchronization is an acquire or release
// operation on an atomic; fences alone would be invisible to it.
#pragma once

#include <atomic>
#include <type_traits>

#include "Device/Types.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Checked/Races.h"
#include "Runtime/Host/Memory/Copy.h"
#include "Runtime/Host/Memory/Traffic.h"
#include "Runtime/Host/Threads/Block.h"
#include "Runtime/Host/Threads/TracedWarp.h"

namespace mori {

// -------------------------------------------------------------------------------------------
// Words

namespace machine {

/// Number of lanes that run a primitive together; only sizes of work may depend on it.
MORI_DEVICE int lanesPerWarp() { return 1; }

/// One look at a word that a peer stores with `storeSystem`. Pair with `acquireSystem` after it.
MORI_DEVICE uint64_t pollSystem(const uint64_t* word) {
    const uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    host::races::poll(word, value);
    return value;
}

/// Makes visible to this warp what the writer of a polled word had published before. On the host
/// the poll itself has acquired.
MORI_DEVICE void acquireSystem() { host::races::acquire(); }

/// Stores a word that peers poll, after everything published before it.
MORI_DEVICE void storeSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    host::mayPause();
    host::races::tell(word, value);
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    host::wake(word);
}

/// Adds to a word of a peer. Relaxed: it reserves, it does not announce.
MORI_DEVICE uint64_t addSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    host::mayPause();
    return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

/// Adds to a word of this device that other blocks add to.
MORI_DEVICE uint32_t addDevice(uint32_t* word, uint32_t value, const BlockOnce&) {
    host::mayPause();
    host::races::tellSum(word);
    const uint32_t before = __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
    host::races::pollSum(word);
    return before;
}

/// Sets a word of this device and tells what it was.
MORI_DEVICE uint32_t exchangeDevice(uint32_t* word, uint32_t value, const WarpOnce&) {
    host::races::tellSum(word);
    const uint32_t before = __atomic_exchange_n(word, value, __ATOMIC_ACQ_REL);
    host::races::pollSum(word);
    return before;
}

/// Adds to a word of `Block::shared`.
MORI_DEVICE uint32_t addShared(uint32_t* word, uint32_t value, const WarpOnce&) {
    return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

/// Reads a word of this device that other blocks may have stored in the same launch.
MORI_DEVICE uint32_t loadDevice(const uint32_t* word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/// Stores host-visible memory's last word: everything before it is visible to the host first.
MORI_DEVICE void storeHost(uint32_t* word, uint32_t value, const WarpOnce&) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/// Raises a word in every peer's memory that several failing warps of one rank may store alike.
MORI_DEVICE void raiseSystem(uint64_t* word, uint64_t value, const WarpOnce&) {
    host::races::tell(word, value);
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    host::wake(word);
}

/// A clock that runs at one rate on all ranks of a node, in nanoseconds.
MORI_DEVICE uint64_t now() { return host::now(); }

/// Whether a waiting warp looks at the clock and the abort words in this turn.
MORI_DEVICE bool checksClock(int turn) { return turn >= host::kSpinTurns; }

/// Between two looks at `word`, which read `seen` in turn `turn`: spins, then yields, then sleeps
/// until the word's upper half changes, 10 ms at most. Where its writer wakes nobody (a NIC), naps.
MORI_DEVICE void relax(int turn, const uint64_t* word, uint64_t seen, bool writerWakes) {
    if (writerWakes) {
        host::relax(turn, word, seen);
    } else {
        host::nap(turn);
    }
}

/// Stores a ring's descriptor for the proxy, after everything published before it. Each word tells
/// by its lap bit whether it is there, so no order is needed among them.
MORI_DEVICE void storeDescriptor(uint64_t* words, const uint64_t (&values)[4], const WarpOnce&) {
    host::races::tell(words, values[0]);
    for (int i = 0; i < 4; ++i) __atomic_store_n(words + i, values[i], __ATOMIC_RELEASE);
}

/// Wakes a proxy that sleeps; it then looks at all rings.
MORI_DEVICE void ringDoorbell(uint64_t* doorbell, const WarpOnce&) {
    if (doorbell != nullptr) host::ringDoorbell(doorbell);
}

/// Adds to a number that nobody waits for, and tells what it was.
MORI_DEVICE uint64_t addCount(uint64_t* count, uint64_t value) {
    return __atomic_fetch_add(count, value, __ATOMIC_RELAXED);
}

/// Stores a record; its time last, which says that it is there.
MORI_DEVICE void storeRecord(moriep_trace_record* record, uint64_t time, uint64_t what) {
    __atomic_store_n(&record->what, what, __ATOMIC_RELAXED);
    __atomic_store_n(&record->time_ns, time, __ATOMIC_RELEASE);
}

/// Counts one token more that chose an expert; `alone`: no other warp does.
MORI_DEVICE void countExpert(uint32_t* count, bool alone) {
    if (alone) {
        ++*count;
    } else {
        __atomic_fetch_add(count, 1u, __ATOMIC_RELAXED);
    }
}

/// Which warp runs this, where no Block is at hand: what a traced launch has set.
MORI_DEVICE int blockOfGrid() { return host::tracedWarp.block; }
MORI_DEVICE int warpOfBlock() { return host::tracedWarp.warp; }

/// A kernel's arguments; what AMD's scalar registers cannot keep is read again there.
template <class Arguments>
MORI_DEVICE const Arguments& reread(const Arguments& arguments) {
    return arguments;
}

/// Rows of a table that are there.
inline int64_t presentRows(const PeerRow* rows, int count) {
    int64_t present = 0;
    for (int at = 0; at < count; ++at) present += rows[at].base != 0;
    return present;
}

}  // namespace machine

// -------------------------------------------------------------------------------------------
// Warp

class Warp {
public:
    explicit Warp(int index, bool streaming) : index_(index), streaming_(streaming) {}

    /// Position inside the block.
    int index() const { return index_; }

    /// f(i) for every i below n, lanes side by side; f stores only what belongs to its i.
    template <class F>
    void lanes(int64_t n, F&& f) const {
        for (int64_t i = 0; i < n; ++i) f(i);
    }

    /// f(once) in one lane.
    template <class F>
    void elect(F&& f) const {
        f(WarpOnce());
    }

    /// f(i, once) for every i below n, each in one lane, lanes side by side.
    template <class F>
    void each(int n, F&& f) const {
        for (int i = 0; i < n; ++i) f(i, WarpOnce());
    }

    /// Sum of f(i) over all i below n.
    template <class F>
    int64_t sum(int n, F&& f) const {
        int64_t total = 0;
        for (int i = 0; i < n; ++i) total += f(i);
        return total;
    }

    /// Bitwise or of f(i) over all i below n.
    template <class F>
    uint64_t combineBits(int n, F&& f) const {
        uint64_t bits = 0;
        for (int i = 0; i < n; ++i) bits |= f(i);
        return bits;
    }

    /// Orders this warp's own stores to block memory before its lanes' later loads.
    void sync() const {}

    /// Copies bytes that do not overlap; any alignment.
    void copy(void* destination, const void* source, int64_t bytes) const {
        host::mayPause();
        host::countTraffic(bytes, bytes);
        host::copy(destination, source, static_cast<size_t>(bytes), streaming_);
    }

    /// Reads `bytes` at `source + first` once and stores them at byte `first` of every row of
    /// `rows`, beginning with row number `start`; rows with base 0 are skipped.
    void copyToMany(const PeerRow* rows,
                    int count,
                    int start,
                    const RowBuffer& buffer,
                    const void* source,
                    int64_t first,
                    int64_t bytes) const {
        host::mayPause();
        const char* from = static_cast<const char*>(source) + first;
        const int targets = machine::presentRows(rows, count);
        host::countTraffic(targets == 0 ? 0 : bytes, targets * bytes);
        for (int turn = 0; turn < count; ++turn) {
            const int at = start + turn < count ? start + turn : start + turn - count;
            if (rows[at].base == 0) continue;
            host::copy(pointer<char>(buffer.address(rows[at])) + first,
                       from,
                       static_cast<size_t>(bytes),
                       streaming_);
        }
    }

    /// destination[i] = round(sum over rows, in their order, of row[i]) for the entries from
    /// `first` on; rows with base 0 are skipped; no rows give zeros. fp32, one rounding.
    template <class Element>
    void accumulate(void* destination,
                    const PeerRow* rows,
                    int count,
                    const RowBuffer& buffer,
                    int64_t first,
                    int64_t entries) const {
        host::countTraffic(machine::presentRows(rows, count) * entries * Element::kBytes,
                           entries * Element::kBytes);
        host::accumulate<Element>(static_cast<typename Element::Storage*>(destination) + first,
                                  rows,
                                  count,
                                  buffer,
                                  first,
                                  entries,
                                  streaming_);
    }

    /// The same with a factor for each row, each product rounded by itself.
    template <class Element>
    void accumulateWeighted(void* destination,
                            const PeerRow* rows,
                            const float* factors,
                            int count,
                            const RowBuffer& buffer,
                            int64_t first,
                            int64_t entries) const {
        host::countTraffic(machine::presentRows(rows, count) * entries * Element::kBytes,
                           entries * Element::kBytes);
        host::accumulateWeighted<Element>(
            static_cast<typename Element::Storage*>(destination) + first,
            rows,
            factors,
            count,
            buffer,
            first,
            entries);
    }

    /// Stores `value` into n elements.
    template <class T>
    void fill(T* destination, T value, int64_t n) const {
        for (int64_t i = 0; i < n; ++i) destination[i] = value;
    }

protected:
    int index_;
    bool streaming_;
};

/// The first warp of a block, working for the whole block.
class BlockWarp : public Warp {
public:
    explicit BlockWarp(const Warp& warp) : Warp(warp) {}

    /// f(once) in one lane.
    template <class F>
    void elect(F&& f) const {
        f(BlockOnce());
    }

    /// f(i, once) for every i below n, each in one lane, lanes side by side.
    template <class F>
    void each(int n, F&& f) const {
        for (int i = 0; i < n; ++i) f(i, BlockOnce());
    }

    /// Whether p(i, once) holds for some i below n; runs for every i, each in one lane.
    template <class P>
    bool any(int n, P&& p) const {
        bool found = false;
        for (int i = 0; i < n; ++i) found |= static_cast<bool>(p(i, BlockOnce()));
        return found;
    }
};

// -------------------------------------------------------------------------------------------
// Block

class Block {
public:
    Block(host::BlockState& state, int index, int count, int warp, bool streaming)
        : state_(state), index_(index), count_(count), warp_(warp, streaming) {}

    /// Position inside the grid.
    int index() const { return index_; }
    /// Blocks of the grid.
    int count() const { return count_; }
    /// Warps of this block.
    int warps() const { return state_.warps; }
    /// The warp that runs this code.
    const Warp& warp() const { return warp_; }

    /// f(warp) in the block's first warp only.
    template <class F>
    void once(F&& f) const {
        if (warp_.index() == 0) f(BlockWarp(warp_));
    }

    /// f(warp) outside of any grid, for what the runtime itself has to tell the ranks.
    template <class F>
    static void runAlone(F&& f) {
        f(BlockWarp(Warp(0, false)));
    }

    /// Barrier of the block's warps; orders their accesses to block and device memory inside the
    /// block, and nothing beyond it.
    void sync() const {
        host::races::arrive();
        state_.barrier.arriveAndWait(state_.warps);
        host::races::leave();
    }

    /// Every warp makes its stores visible to the whole system, then the barrier. Comes before any
    /// word that covers other warps' stores.
    void publish() const {
        if (!isMutant(Mutant::publishWithoutFence) &&
            (!isMutant(Mutant::publishByOneWarp) || warp_.index() == 0)) {
            if (!isMutant(Mutant::streamingWithoutFence)) {
                host::finishStreaming();
                host::races::finishStreaming();
            }
            host::races::publish();
            // seq_cst: a release fence emits nothing on x86.
            std::atomic_thread_fence(std::memory_order_seq_cst);
        }
        sync();
    }

    /// n elements of block memory, the same ones for every warp that asks in the same order.
    /// Uninitialized.
    template <class T>
    T* shared(int64_t n) {
        static_assert(std::is_trivially_copyable_v<T>);
        const size_t begin = (used_ + 15) / 16 * 16;
        used_ = begin + static_cast<size_t>(n) * sizeof(T);
        return reinterpret_cast<T*>(state_.shared(begin, used_));
    }

private:
    host::BlockState& state_;
    int index_;
    int count_;
    Warp warp_;
    size_t used_ = 0;
};

}  // namespace mori

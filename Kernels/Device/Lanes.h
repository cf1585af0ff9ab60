// Warp and Block of both GPUs, over what AMD.h and NVIDIA.h say about their lanes and accesses.
// Included by those two only; Host.h is the same interface for the machine with one lane.
#pragma once

#include "Device/LaneSums.h"
#include "Device/Types.h"

namespace mori {

namespace machine {

/// Vectors that a lane loads before it stores the first of them.
constexpr int kCopyVectors = 4;

/// Copies bytes `begin` to `end` of a row, in accesses of `width` bytes (4, 2 or 1), one a lane at
/// a time; returns where it stopped, less than one access before the end. One loop for the three
/// widths: odd rows are rare, and each loop costs every kernel registers.
template <class Rows>
MORI_DEVICE int64_t
copyNarrow(uint64_t source, int64_t begin, int64_t end, int width, Rows&& forEachRow) {
    const uint32_t own = static_cast<uint32_t>(lane() * width);
    const int64_t stop = end - ((end - begin) & (width - 1));
    for (; begin < stop; begin += kLanes * width) {
        const uint64_t skipped = static_cast<uint64_t>(begin);
        const bool exists = begin + own < stop;
        uint32_t value = 0;
        if (exists) {
            value = width == 4   ? loadRow<4>(source + skipped, own)
                    : width == 2 ? loadRow<2>(source + skipped, own)
                                 : loadRow<1>(source + skipped, own);
        }
        forEachRow([&](uint64_t row) {
            if (!exists) return;
            if (width == 4) {
                storeRow<4>(row + skipped, own, value);
            } else if (width == 2) {
                storeRow<2>(row + skipped, own, static_cast<uint16_t>(value));
            } else {
                storeRow<1>(row + skipped, own, static_cast<uint8_t>(value));
            }
        });
    }
    return stop;
}

/// Copies `length` bytes from `source` to every row that forEachRow(store) calls store(row) with;
/// `misalignment` has the low bits of all addresses. The accesses are the widest that these allow:
/// rows may begin at any even byte, tables of scales at any.
template <class Rows>
MORI_DEVICE void copyRows(uint64_t source,
                          int64_t length,
                          uint32_t misalignment,
                          Rows&& forEachRow) {
    int64_t done = 0;
    int width = (misalignment & 3) == 0 ? 4 : (misalignment & 1) == 0 ? 2 : 1;
    if ((misalignment & 15) == 0) {
        constexpr int64_t kChunk = kCopyVectors * kLanes * 16;
        const uint32_t own = static_cast<uint32_t>(lane() * 16);
        for (; done + kChunk <= length; done += kChunk) {
            // All loads are under way before the first store waits for its own.
            const uint64_t skipped = static_cast<uint64_t>(done);
            Access<16>::Type values[kCopyVectors];
#pragma unroll
            for (int v = 0; v < kCopyVectors; ++v) {
                values[v] = loadRow<16>(source + skipped, own + v * kLanes * 16);
            }
            forEachRow([&](uint64_t row) {
#pragma unroll
                for (int v = 0; v < kCopyVectors; ++v) {
                    storeRow<16>(row + skipped, own + v * kLanes * 16, values[v]);
                }
            });
        }
        for (; done + 16 <= length; done += kLanes * 16) {
            const uint64_t skipped = static_cast<uint64_t>(done);
            const bool exists = done + own + 16 <= length;
            Access<16>::Type value{};
            if (exists) value = loadRow<16>(source + skipped, own);
            forEachRow([&](uint64_t row) {
                if (exists) storeRow<16>(row + skipped, own, value);
            });
        }
        done = length / 16 * 16;
    }
    // What is left behind the vectors, and rows too odd for any.
    done = copyNarrow(source, done, length, width, forEachRow);
    if (done < length) copyNarrow(source, done, length, 1, forEachRow);
}

}  // namespace machine

// -------------------------------------------------------------------------------------------
// Warp

class Warp {
public:
    MORI_DEVICE Warp()
        : index_(machine::uniform(static_cast<int>(threadIdx.x) / machine::kLanes)) {}

    /// Position inside the block.
    MORI_DEVICE int index() const { return index_; }

    /// f(i) for every i below n, lanes side by side; f stores only what belongs to its i.
    template <class F>
    MORI_DEVICE void lanes(int64_t n, F&& f) const {
        for (int64_t i = machine::lane(); i < n; i += machine::kLanes) f(i);
        machine::converge();
    }

    /// f(once) in one lane.
    template <class F>
    MORI_DEVICE void elect(F&& f) const {
        if (machine::lane() == 0) f(WarpOnce());
        machine::converge();
    }

    /// f(i, once) for every i below n, each in one lane, lanes side by side.
    template <class F>
    MORI_DEVICE void each(int n, F&& f) const {
        for (int i = machine::lane(); i < n; i += machine::kLanes) f(i, WarpOnce());
        machine::converge();
    }

    /// Sum of f(i) over all i below n.
    template <class F>
    MORI_DEVICE int64_t sum(int n, F&& f) const {
        uint64_t total = 0;
        for (int i = machine::lane(); i < n; i += machine::kLanes) {
            total += static_cast<uint64_t>(f(i));
        }
        machine::converge();
        for (int mask = machine::kLanes / 2; mask != 0; mask /= 2) {
            total += machine::fromPartner(total, mask);
        }
        return static_cast<int64_t>(machine::uniform(total));
    }

    /// Bitwise or of f(i) over all i below n.
    template <class F>
    MORI_DEVICE uint64_t combineBits(int n, F&& f) const {
        uint64_t bits = 0;
        for (int i = machine::lane(); i < n; i += machine::kLanes) bits |= f(i);
        machine::converge();
        for (int mask = machine::kLanes / 2; mask != 0; mask /= 2) {
            bits |= machine::fromPartner(bits, mask);
        }
        return machine::uniform(bits);
    }

    /// Orders this warp's own stores to block memory before its lanes' later loads.
    MORI_DEVICE void sync() const { machine::syncWarp(); }

    /// Copies bytes that do not overlap; any alignment.
    MORI_DEVICE void copy(void* destination, const void* source, int64_t bytes) const {
        const uint64_t to = address(destination);
        const uint64_t from = address(source);
        machine::copyRows(
            from, bytes, static_cast<uint32_t>(to | from), [&](auto&& store) { store(to); });
        machine::converge();
    }

    /// Reads `bytes` at `source + first` once and stores them at byte `first` of every row of
    /// `rows`, beginning with row number `start`; rows with base 0 are skipped. (Once for as many
    /// rows as there are lanes.)
    MORI_DEVICE void copyToMany(const PeerRow* rows,
                                int count,
                                int start,
                                const RowBuffer& buffer,
                                const void* source,
                                int64_t first,
                                int64_t bytes) const {
        const uint64_t from = address(source) + static_cast<uint64_t>(first);
        for (int begin = 0; begin < count; begin += machine::kLanes) {
            const machine::RowGroup group(
                rows, count, start, begin, buffer, static_cast<uint64_t>(first));
            const uint32_t misalignment = group.misalignment() | static_cast<uint32_t>(from);
            machine::copyRows(from, bytes, misalignment, [&](auto&& store) {
                for (uint64_t left = group.present(); left != 0; left &= left - 1) {
                    store(group.address(machine::lowestLane(left)));
                }
            });
            machine::converge();
        }
    }

    /// destination[i] = round(sum over rows, in their order, of row[i]) for the entries from
    /// `first` on; rows with base 0 are skipped; no rows give zeros. fp32, one rounding.
    template <class Element>
    MORI_DEVICE void accumulate(void* destination,
                                const PeerRow* rows,
                                int count,
                                const RowBuffer& buffer,
                                int64_t first,
                                int64_t entries) const {
        const uint64_t skipped = static_cast<uint64_t>(first) * Element::kBytes;
        const uint64_t to = address(destination) + skipped;
        const machine::SumTable table(rows, count, buffer, skipped);
        const uint32_t misalignment = table.misalignment() | static_cast<uint32_t>(to);
        int64_t done = 0;
        // Vectors of 8 values: their sums and what they come from fit the registers.
        constexpr int kVector = 8 / Element::kValues * Element::kBytes < 16
                                    ? 8 / Element::kValues * Element::kBytes
                                    : 16;
        constexpr int kSideBySide = kVector == 16 ? machine::kSumVectors : 1;
        if ((misalignment & (kVector - 1)) == 0) {
            constexpr int64_t kEntries = kVector / Element::kBytes;
            machine::sumVectors<Element, kVector, kSideBySide>(to, 0, entries / kEntries, table);
            done = entries / kEntries * kEntries;
        }
        // What is left behind the vectors, and rows too odd for any.
        machine::sumVectors<Element, Element::kBytes, 1>(to, done, entries, table);
        machine::converge();
    }

    /// The same with a factor for each row, each product rounded by itself. `factors` is block
    /// memory.
    template <class Element>
    MORI_DEVICE void accumulateWeighted(void* destination,
                                        const PeerRow* rows,
                                        const float* factors,
                                        int count,
                                        const RowBuffer& buffer,
                                        int64_t first,
                                        int64_t entries) const {
        const uint64_t skipped = static_cast<uint64_t>(first) * Element::kBytes;
        const uint64_t to = address(destination) + skipped;
        uint32_t misalignment = static_cast<uint32_t>(to);
        for (int at = 0; at < count; ++at) {
            if (rows[at].base != 0) {
                misalignment |= static_cast<uint32_t>(buffer.address(rows[at]) + skipped);
            }
        }
        constexpr int kVector = 8 / Element::kValues * Element::kBytes < 16
                                    ? 8 / Element::kValues * Element::kBytes
                                    : 16;
        int64_t done = 0;
        if ((misalignment & (kVector - 1)) == 0) {
            constexpr int64_t kEntries = kVector / Element::kBytes;
            done = entries / kEntries * kEntries;
            machine::sumWeighted<Element, kVector>(
                to, 0, entries / kEntries, rows, factors, count, buffer, skipped);
        }
        machine::sumWeighted<Element, Element::kBytes>(
            to, done, entries, rows, factors, count, buffer, skipped);
        machine::converge();
    }

    /// Stores `value` into n elements.
    template <class T>
    MORI_DEVICE void fill(T* destination, T value, int64_t n) const {
        lanes(n, [&](int64_t i) { destination[i] = value; });
    }

private:
    static MORI_DEVICE uint64_t address(const void* pointer) {
        return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(pointer));
    }

    int index_;
};

/// The first warp of a block, working for the whole block.
class BlockWarp : public Warp {
public:
    explicit MORI_DEVICE BlockWarp(const Warp& warp) : Warp(warp) {}

    /// f(once) in one lane.
    template <class F>
    MORI_DEVICE void elect(F&& f) const {
        if (machine::lane() == 0) f(BlockOnce());
        machine::converge();
    }

    /// f(i, once) for every i below n, each in one lane, lanes side by side.
    template <class F>
    MORI_DEVICE void each(int n, F&& f) const {
        for (int i = machine::lane(); i < n; i += machine::kLanes) f(i, BlockOnce());
        machine::converge();
    }

    /// Whether p(i, once) holds for some i below n; runs for every i, each in one lane.
    template <class P>
    MORI_DEVICE bool any(int n, P&& p) const {
        bool found = false;
        for (int i = machine::lane(); i < n; i += machine::kLanes) {
            found |= static_cast<bool>(p(i, BlockOnce()));
        }
        machine::converge();
        return machine::ballot(found) != 0;
    }
};

// -------------------------------------------------------------------------------------------
// Block

class Block {
public:
    /// Position inside the grid.
    MORI_DEVICE int index() const { return static_cast<int>(blockIdx.x); }
    /// Blocks of the grid.
    MORI_DEVICE int count() const { return static_cast<int>(gridDim.x); }
    /// Warps of this block.
    MORI_DEVICE int warps() const { return static_cast<int>(blockDim.x) / machine::kLanes; }
    /// The warp that runs this code.
    MORI_DEVICE const Warp& warp() const { return warp_; }

    /// f(warp) in the block's first warp only.
    template <class F>
    MORI_DEVICE void once(F&& f) const {
        if (warp_.index() == 0) f(BlockWarp(warp_));
    }

    /// Barrier of the block's warps; orders their accesses to block and device memory inside the
    /// block, and nothing beyond it.
    MORI_DEVICE void sync() const { __syncthreads(); }

    /// Every warp makes its stores visible to the whole system, then the barrier. Comes before any
    /// word that covers other warps' stores.
    MORI_DEVICE void publish() const {
        // In every wave, not only in the one that signals: no barrier waits for another's stores.
        machine::releaseSystem();
        sync();
    }

    /// n elements of block memory, the same ones for every warp that asks in the same order.
    /// Uninitialized. The launch asks for as many bytes as the kernel's ...SharedBytes says.
    template <class T>
    MORI_DEVICE T* shared(int64_t n) {
        extern __shared__ uint4 moriBlockMemory[];
        const uint32_t begin = (used_ + 15) / 16 * 16;
        used_ = begin + static_cast<uint32_t>(n) * static_cast<uint32_t>(sizeof(T));
        return reinterpret_cast<T*>(reinterpret_cast<char*>(moriBlockMemory) + begin);
    }

private:
    Warp warp_;
    uint32_t used_ = 0;
};

}  // namespace mori

// Sums of rows by the lanes of a warp, on both GPUs: what Warp::accumulate is made of.
#pragma once

#include "Device/Element.h"
#include "Device/Types.h"

namespace mori::machine {

/// The rows of a table, one a lane: as many as there are lanes, from position `begin` of the order
/// that starts at row number `start` and wraps around. Addresses then pass from lane to lane in
/// registers, and the loops over vectors read no table.
class RowGroup {
public:
    MORI_DEVICE RowGroup(const PeerRow* rows,
                         int count,
                         int start,
                         int begin,
                         const RowBuffer& buffer,
                         uint64_t first) {
        const int turn = begin + lane();
        uint64_t address = 0;
        if (turn < count) {
            const PeerRow row = rows[start + turn < count ? start + turn : start + turn - count];
            if (row.base != 0) address = buffer.address(row) + first;
        }
        converge();
        address_ = address;
        present_ = ballot(address != 0);
    }

    /// The set of lanes that hold a row.
    MORI_DEVICE uint64_t present() const { return present_; }

    /// The address of the row that a lane of `present` holds.
    MORI_DEVICE uint64_t address(int from) const { return fromLane(address_, from); }

    /// The address bits below 16 that are set in any of the rows.
    MORI_DEVICE uint32_t misalignment() const {
        uint32_t bits = 0;
        for (int bit = 0; bit < 4; ++bit) {
            if (ballot((address_ >> bit & 1) != 0) != 0) bits |= 1u << bit;
        }
        return bits;
    }

private:
    uint64_t address_;
    uint64_t present_;
};

/// The rows of one sum. The usual table fits the lanes and is read once; a longer one is read
/// again for each chunk.
class SumTable {
public:
    MORI_DEVICE SumTable(const PeerRow* rows, int count, const RowBuffer& buffer, uint64_t first)
        : rows_(rows),
          count_(count),
          buffer_(buffer),
          first_(first),
          group_(rows, count, 0, 0, buffer, first) {}

    MORI_DEVICE uint32_t misalignment() const {
        uint32_t bits = group_.misalignment();
        for (int begin = kLanes; begin < count_; begin += kLanes) {
            bits |= RowGroup(rows_, count_, 0, begin, buffer_, first_).misalignment();
        }
        return bits;
    }

    /// Calls f(group) for all rows in their order.
    template <class F>
    MORI_DEVICE void forEachGroup(F&& f) const {
        RowGroup group = group_;
        for (int begin = 0;;) {
            f(group);
            begin += kLanes;
            if (begin >= count_) return;
            group = RowGroup(rows_, count_, 0, begin, buffer_, first_);
        }
    }

private:
    const PeerRow* rows_;
    int count_;
    const RowBuffer& buffer_;
    uint64_t first_;
    RowGroup group_;
};

/// Sums vectors `begin` to `end` of all rows into `destination`: fp32, in the rows' order, one
/// rounding. `kVectors` of them a lane side by side.
template <class Element, int bytes, int kVectors>
MORI_DEVICE void sumVectors(uint64_t destination,
                            int64_t begin,
                            int64_t end,
                            const SumTable& table) {
    constexpr int kElements = bytes / Element::kBytes;
    using Value = typename Access<bytes>::Type;
    for (int64_t at = begin; at < end; at += kVectors * kLanes) {
        const uint64_t skipped = static_cast<uint64_t>(at) * bytes;
        // Lanes past the end load the last vector again, so that no load is behind a branch.
        const int64_t last = end - 1 - at;
        uint32_t own[kVectors];
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
            const int64_t vector = v * kLanes + lane();
            own[v] = static_cast<uint32_t>(vector < last ? vector : last) * bytes;
        }
        float sums[kVectors][kElements * Element::kValues] = {};
        table.forEachGroup([&](const RowGroup& group) {
            uint64_t left = group.present();
            while (left != 0) {
                // All loads of up to kSumRows rows are under way before the first addition waits.
                Value values[kSumRows][kVectors];
                const uint64_t these = left;
#pragma unroll
                for (int r = 0; r < kSumRows; ++r) {
                    if (left == 0) continue;
                    const uint64_t row = group.address(lowestLane(left)) + skipped;
                    left &= left - 1;
#pragma unroll
                    for (int v = 0; v < kVectors; ++v) values[r][v] = loadRow<bytes>(row, own[v]);
                }
                const int count = __builtin_popcountll(these ^ left);
#pragma unroll
                for (int r = 0; r < kSumRows; ++r) {
                    if (r >= count) continue;
#pragma unroll
                    for (int v = 0; v < kVectors; ++v) {
                        const Value value = values[r][v];
                        typename Element::Storage stored[kElements];
                        __builtin_memcpy(stored, &value, bytes);
#pragma unroll
                        for (int e = 0; e < kElements; ++e) {
                            Element::add(&sums[v][e * Element::kValues], stored[e]);
                            if (!Element::kIsSimple) keepApart();
                        }
                    }
                }
            }
        });
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
            typename Element::Storage stored[kElements];
#pragma unroll
            for (int e = 0; e < kElements; ++e) {
                stored[e] = Element::pack(&sums[v][e * Element::kValues]);
                if (!Element::kIsSimple) keepApart();
            }
            Value value;
            __builtin_memcpy(&value, stored, bytes);
            if (v * kLanes + lane() <= last) {
                storeRow<bytes>(destination + skipped, own[v], value);
            }
        }
    }
}

/// Sums vectors `begin` to `end` of rows times their factors into `destination`: fp32, in the rows'
/// order, one rounding.
template <class Element, int bytes>
MORI_DEVICE void sumWeighted(uint64_t destination,
                             int64_t begin,
                             int64_t end,
                             const PeerRow* rows,
                             const float* factors,
                             int count,
                             const RowBuffer& buffer,
                             uint64_t first) {
    constexpr int kEntries = bytes / Element::kBytes;
    using Value = typename Access<bytes>::Type;
    for (int64_t at = begin + lane(); at < end; at += kLanes) {
        float sums[kEntries * Element::kValues] = {};
        for (int row = 0; row < count; ++row) {
            if (rows[row].base == 0) continue;
            const float factor = factors[row];
            const uint64_t from = buffer.address(rows[row]) + first;
            const Value value = loadRow<bytes>(from + static_cast<uint64_t>(at) * bytes, 0);
            typename Element::Storage stored[kEntries];
            __builtin_memcpy(stored, &value, bytes);
#pragma unroll
            for (int e = 0; e < kEntries; ++e) {
                float values[Element::kValues] = {};
                Element::add(values, stored[e]);
#pragma unroll
                for (int v = 0; v < Element::kValues; ++v) {
                    sums[e * Element::kValues + v] += values[v] * factor;
                }
                if (!Element::kIsSimple) keepApart();
            }
        }
        typename Element::Storage stored[kEntries];
#pragma unroll
        for (int e = 0; e < kEntries; ++e) {
            stored[e] = Element::pack(&sums[e * Element::kValues]);
            if (!Element::kIsSimple) keepApart();
        }
        Value value;
        __builtin_memcpy(&value, stored, bytes);
        storeRow<bytes>(destination + static_cast<uint64_t>(at) * bytes, 0, value);
    }
}

}  // namespace mori::machine

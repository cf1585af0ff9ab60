// Quantized rows on both GPUs: a lane has 8 elements under way, the lanes of a block find its scale
// together. Included by Device.h; WireHost.h is the same for the machine with one lane.
#pragma once

#include "Device/Lanes.h"
#include "Device/Wire.h"

namespace mori {
namespace machine {

/// The first `count` bf16 elements of a unit as fp32; the others 0. `isAligned`: the row allows
/// 16-byte accesses.
MORI_DEVICE void loadPlain(
    uint64_t row, int unit, int count, bool isAligned, float (&values)[kUnitElements]) {
    const uint64_t at = row + static_cast<uint64_t>(unit) * kUnitElements * 2;
    uint64_t halves[2] = {0, 0};
    if (isAligned && count == kUnitElements) {
        const Access<16>::Type vector = loadRow<16>(at, 0);
        __builtin_memcpy(halves, &vector, 16);
    } else {
        for (int e = 0; e < count; ++e) {
            const uint64_t element = loadRow<2>(at, static_cast<uint32_t>(e) * 2);
            halves[0] |= e < 4 ? element << (16 * e) : 0;
            halves[1] |= e < 4 ? 0 : element << (16 * (e - 4));
        }
    }
#pragma unroll
    for (int e = 0; e < kUnitElements; ++e) {
        values[e] = BFloat16::widen(static_cast<uint16_t>(halves[e / 4] >> (16 * (e % 4))));
    }
}

MORI_DEVICE void storePlain(
    uint64_t row, int unit, int count, bool isAligned, const float (&values)[kUnitElements]) {
    const uint64_t at = row + static_cast<uint64_t>(unit) * kUnitElements * 2;
    uint16_t stored[kUnitElements];
#pragma unroll
    for (int e = 0; e < kUnitElements; ++e) stored[e] = BFloat16::round(values[e]);
    if (isAligned && count == kUnitElements) {
        Access<16>::Type vector;
        __builtin_memcpy(&vector, stored, 16);
        storeRow<16>(at, 0, vector);
        return;
    }
#pragma unroll
    for (int e = 0; e < kUnitElements; ++e) {
        if (e < count) storeRow<2>(at, static_cast<uint32_t>(e) * 2, stored[e]);
    }
}

template <class Wire>
MORI_DEVICE WireUnit<Wire> loadWire(uint64_t row, int unit, int count, bool isAligned) {
    constexpr int kBytes = WireUnit<Wire>::kBytes;
    const uint64_t at = row + static_cast<uint64_t>(unit) * kBytes;
    WireUnit<Wire> result{};
    if (isAligned && count == kUnitElements) {
        const typename Access<kBytes>::Type vector = loadRow<kBytes>(at, 0);
        __builtin_memcpy(result.bytes, &vector, kBytes);
        return result;
    }
    uint64_t bits = 0;
    for (int i = 0; i < WireUnit<Wire>::bytesOf(count); ++i) {
        bits |= uint64_t(loadRow<1>(at, static_cast<uint32_t>(i))) << (8 * i);
    }
    __builtin_memcpy(result.bytes, &bits, kBytes);
    return result;
}

template <class Wire>
MORI_DEVICE void storeWire(
    uint64_t row, int unit, int count, bool isAligned, const WireUnit<Wire>& values) {
    constexpr int kBytes = WireUnit<Wire>::kBytes;
    const uint64_t at = row + static_cast<uint64_t>(unit) * kBytes;
    if (isAligned && count == kUnitElements) {
        typename Access<kBytes>::Type vector;
        __builtin_memcpy(&vector, values.bytes, kBytes);
        storeRow<kBytes>(at, 0, vector);
        return;
    }
    uint64_t bits = 0;
    __builtin_memcpy(&bits, values.bytes, kBytes);
    for (int i = 0; i < WireUnit<Wire>::bytesOf(count); ++i) {
        storeRow<1>(at, static_cast<uint32_t>(i), static_cast<uint8_t>(bits >> (8 * i)));
    }
}

/// Quantizes the units of a range: load(unit, count, values) fills the elements, store(unit, count,
/// packed) and storeScale(block, scale) take what they become. The range begins with a block.
template <class Wire, class Load, class Store, class StoreScale>
MORI_DEVICE void quantizeUnits(
    Units units, const WireFormat& format, Load&& load, Store&& store, StoreScale&& storeScale) {
    const int lanesPerBlock = format.block / kUnitElements;
    for (int at = units.begin; at < units.end; at += kLanes) {
        const int unit = at + lane();
        const bool exists = unit < units.end;
        const int count = exists ? format.inUnit(unit) : 0;
        float values[kUnitElements] = {};
        if (exists) load(unit, count, values);
        converge();
        BlockScale scale{1, 1};
        if (format.hasScales) {
            uint32_t most = 0;
#pragma unroll
            for (int e = 0; e < kUnitElements; ++e) {
                const uint32_t magnitude = BlockScale::magnitude<Wire>(values[e]);
                most = magnitude > most ? magnitude : most;
            }
            for (int mask = lanesPerBlock / 2; mask != 0; mask /= 2) {
                const uint32_t other = static_cast<uint32_t>(fromPartner(most, mask));
                most = other > most ? other : most;
            }
            scale = BlockScale::of<Wire>(most);
        }
        if (exists) {
            WireUnit<Wire> packed{};
#pragma unroll
            for (int e = 0; e < kUnitElements; ++e) {
                packed.set(e, scale.quantize<Wire>(values[e]));
                keepApart();
            }
            store(unit, count, packed);
            if (format.hasScales && unit % lanesPerBlock == 0) {
                storeScale(unit / lanesPerBlock, scale.scale);
            }
        }
        converge();
    }
}

MORI_DEVICE float* scaleAt(uint64_t row, const WireFormat& format, int block) {
    return pointer<float>(row + format.scales) + block;
}

}  // namespace machine

/// Quantizes units of a bf16 row into a row of the wire.
template <class Wire>
MORI_DEVICE void quantizeRow(
    const Warp&, uint64_t to, uint64_t from, Units units, const WireFormat& format) {
    const bool fits = (from & 15) == 0;
    const bool aligned = (to & 15) == 0;
    machine::quantizeUnits<Wire>(
        units,
        format,
        [&](int unit, int count, float(&values)[kUnitElements]) {
            machine::loadPlain(from, unit, count, fits, values);
        },
        [&](int unit, int count, const WireUnit<Wire>& packed) {
            machine::storeWire(to, unit, count, aligned, packed);
        },
        [&](int block, float scale) { *machine::scaleAt(to, format, block) = scale; });
}

/// Sums units of bf16 rows, in their order, in fp32, and quantizes the sums into a row of the wire.
template <class Wire>
MORI_DEVICE void quantizeSum(const Warp&,
                             uint64_t to,
                             const PeerRow* rows,
                             int count,
                             const RowBuffer& buffer,
                             Units units,
                             const WireFormat& format) {
    const bool aligned = (buffer.stride & 15) == 0;
    machine::quantizeUnits<Wire>(
        units,
        format,
        [&](int unit, int elements, float(&sums)[kUnitElements]) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                float values[kUnitElements] = {};
                machine::loadPlain(buffer.address(rows[at]), unit, elements, aligned, values);
#pragma unroll
                for (int e = 0; e < kUnitElements; ++e) sums[e] += values[e];
            }
        },
        [&](int unit, int elements, const WireUnit<Wire>& packed) {
            machine::storeWire(to, unit, elements, true, packed);
        },
        [&](int block, float scale) { *machine::scaleAt(to, format, block) = scale; });
}

/// Quantizes units of a bf16 row into the rows of a table; it is read once.
template <class Wire>
MORI_DEVICE void quantizeToMany(const Warp&,
                                const PeerRow* rows,
                                int count,
                                const RowBuffer& tokens,
                                const RowBuffer& scales,
                                uint64_t from,
                                Units units,
                                const WireFormat& format) {
    const bool fits = (from & 15) == 0;
    const bool aligned = (tokens.stride & 7) == 0;
    machine::quantizeUnits<Wire>(
        units,
        format,
        [&](int unit, int elements, float(&values)[kUnitElements]) {
            machine::loadPlain(from, unit, elements, fits, values);
        },
        [&](int unit, int elements, const WireUnit<Wire>& packed) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                machine::storeWire(tokens.address(rows[at]), unit, elements, aligned, packed);
            }
        },
        [&](int block, float scale) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                pointer<float>(scales.address(rows[at]))[block] = scale;
            }
        });
}

/// Sums units of rows of the wire, in their order, in fp32, each product with its scale rounded by
/// itself, into a bf16 row, rounded once. Row number `plainAt` is bf16 and lies in `plain`; -1:
/// none.
template <class Wire>
MORI_DEVICE void sumWire(const Warp&,
                         uint64_t to,
                         const PeerRow* rows,
                         int count,
                         const RowBuffer& wire,
                         int plainAt,
                         const RowBuffer& plain,
                         Units units,
                         const WireFormat& format) {
    const bool fits = (to & 15) == 0;
    const bool isPlainAligned = (plain.stride & 15) == 0;
    for (int unit = units.begin + machine::lane(); unit < units.end; unit += machine::kLanes) {
        const int elements = format.inUnit(unit);
        float sums[kUnitElements] = {};
        for (int at = 0; at < count; ++at) {
            if (rows[at].base == 0) continue;
            if (at == plainAt) {
                float values[kUnitElements] = {};
                machine::loadPlain(plain.address(rows[at]), unit, elements, isPlainAligned, values);
#pragma unroll
                for (int e = 0; e < kUnitElements; ++e) sums[e] += values[e];
                continue;
            }
            const uint64_t row = wire.address(rows[at]);
            const WireUnit<Wire> values = machine::loadWire<Wire>(row, unit, elements, true);
            const float scale =
                format.hasScales
                    ? *machine::scaleAt(row, format, unit / (format.block / kUnitElements))
                    : 1;
#pragma unroll
            for (int e = 0; e < kUnitElements; ++e) {
                sums[e] += values.get(e) * scale;
                machine::keepApart();
            }
        }
        machine::storePlain(to, unit, elements, fits, sums);
    }
    machine::converge();
}

}  // namespace mori

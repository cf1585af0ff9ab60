// Quantized rows on the host machine, block by block. WireLanes.h is the same for GPUs.
#pragma once

#include <cstring>

#include "Device/Host.h"
#include "Device/Wire.h"

namespace mori {
namespace machine {

/// Bytes of units of a row: bf16, and quantized with their scales.
inline int64_t plainBytes(Units units, const WireFormat& format) {
    const int end = units.end * kUnitElements;
    const int elements =
        (end < format.elements ? end : format.elements) - units.begin * kUnitElements;
    return int64_t(elements) * 2;
}
template <class Wire>
int64_t wireBytes(Units units, const WireFormat& format) {
    const int elements = static_cast<int>(plainBytes(units, format) / 2);
    const int scales = format.hasScales ? (elements + format.block - 1) / format.block : 0;
    return WireUnit<Wire>::bytesOf(elements) + int64_t(scales) * 4;
}

/// The most elements of a block.
constexpr int kMaxBlock = 256;

inline float plainElement(uint64_t row, int element) {
    return BFloat16::widen(pointer<const uint16_t>(row)[element]);
}
inline char* scaleBytes(uint64_t row, const WireFormat& format, int block) {
    return pointer<char>(row + format.scales) + block * 4;
}

/// Quantizes the blocks that a range of units covers: load(first, count, values) fills elements,
/// store(first, count, bytes) and storeScale(block, scale) take what they become.
template <class Wire, class Load, class Store, class StoreScale>
void quantizeBlocks(
    Units units, const WireFormat& format, Load&& load, Store&& store, StoreScale&& storeScale) {
    const int64_t end =
        units.end * kUnitElements < format.elements ? units.end * kUnitElements : format.elements;
    for (int first = units.begin * kUnitElements; first < end; first += format.block) {
        const int count = end - first < format.block ? end - first : format.block;
        float values[kMaxBlock] = {};
        load(first, count, values);
        BlockScale scale{1, 1};
        if (format.hasScales) {
            uint32_t most = 0;
            for (int e = 0; e < count; ++e) {
                const uint32_t magnitude = BlockScale::magnitude<Wire>(values[e]);
                most = magnitude > most ? magnitude : most;
            }
            scale = BlockScale::of<Wire>(most);
        }
        uint8_t bytes[kMaxBlock] = {};
        for (int e = 0; e < count; ++e) {
            const uint32_t bits = scale.quantize<Wire>(values[e]);
            if (Wire::kValues == 1) {
                bytes[e] = static_cast<uint8_t>(bits);
            } else {
                bytes[e / 2] = static_cast<uint8_t>(bytes[e / 2] | bits << (e % 2 * 4));
            }
        }
        store(first, WireUnit<Wire>::bytesOf(count), bytes);
        if (format.hasScales) storeScale(first / format.block, scale.scale);
    }
}

}  // namespace machine

/// Quantizes units of a bf16 row into a row of the wire.
template <class Wire>
void quantizeRow(const Warp&, uint64_t to, uint64_t from, Units units, const WireFormat& format) {
    host::countTraffic(machine::plainBytes(units, format), machine::wireBytes<Wire>(units, format));
    machine::quantizeBlocks<Wire>(
        units,
        format,
        [&](int first, int count, float* values) {
            for (int e = 0; e < count; ++e) values[e] = machine::plainElement(from, first + e);
        },
        [&](int first, int count, const uint8_t* bytes) {
            std::memcpy(pointer<char>(to) + first / Wire::kValues, bytes, size_t(count));
        },
        [&](int block, float scale) {
            std::memcpy(machine::scaleBytes(to, format, block), &scale, 4);
        });
}

/// Sums units of bf16 rows, in their order, in fp32, and quantizes the sums into a row of the wire.
template <class Wire>
void quantizeSum(const Warp&,
                 uint64_t to,
                 const PeerRow* rows,
                 int count,
                 const RowBuffer& buffer,
                 Units units,
                 const WireFormat& format) {
    host::countTraffic(machine::presentRows(rows, count) * machine::plainBytes(units, format),
                       machine::wireBytes<Wire>(units, format));
    machine::quantizeBlocks<Wire>(
        units,
        format,
        [&](int first, int elements, float* sums) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                const uint64_t row = buffer.address(rows[at]);
                for (int e = 0; e < elements; ++e) {
                    sums[e] += machine::plainElement(row, first + e);
                }
            }
        },
        [&](int first, int bytes, const uint8_t* from) {
            std::memcpy(pointer<char>(to) + first / Wire::kValues, from, size_t(bytes));
        },
        [&](int block, float scale) {
            std::memcpy(machine::scaleBytes(to, format, block), &scale, 4);
        });
}

/// Quantizes units of a bf16 row into the rows of a table; it is read once.
template <class Wire>
void quantizeToMany(const Warp&,
                    const PeerRow* rows,
                    int count,
                    const RowBuffer& tokens,
                    const RowBuffer& scales,
                    uint64_t from,
                    Units units,
                    const WireFormat& format) {
    host::countTraffic(machine::plainBytes(units, format),
                       machine::presentRows(rows, count) * machine::wireBytes<Wire>(units, format));
    machine::quantizeBlocks<Wire>(
        units,
        format,
        [&](int first, int elements, float* values) {
            for (int e = 0; e < elements; ++e) values[e] = machine::plainElement(from, first + e);
        },
        [&](int first, int bytes, const uint8_t* values) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                std::memcpy(pointer<char>(tokens.address(rows[at])) + first / Wire::kValues,
                            values,
                            size_t(bytes));
            }
        },
        [&](int block, float scale) {
            for (int at = 0; at < count; ++at) {
                if (rows[at].base == 0) continue;
                std::memcpy(pointer<char>(scales.address(rows[at])) + block * 4, &scale, 4);
            }
        });
}

/// Sums units of rows of the wire, in their order, in fp32, each product with its scale rounded by
/// itself, into a bf16 row, rounded once. Row number `plainAt` is bf16 and lies in `plain`; -1:
/// none.
template <class Wire>
void sumWire(const Warp&,
             uint64_t to,
             const PeerRow* rows,
             int count,
             const RowBuffer& wire,
             int plainAt,
             const RowBuffer& plain,
             Units units,
             const WireFormat& format) {
    const bool hasPlain = plainAt >= 0 && rows[plainAt].base != 0;
    host::countTraffic(
        (machine::presentRows(rows, count) - hasPlain) * machine::wireBytes<Wire>(units, format) +
            hasPlain * machine::plainBytes(units, format),
        machine::plainBytes(units, format));
    const int64_t end =
        units.end * kUnitElements < format.elements ? units.end * kUnitElements : format.elements;
    for (int first = units.begin * kUnitElements; first < end; first += format.block) {
        const int elements = end - first < format.block ? end - first : format.block;
        float sums[machine::kMaxBlock] = {};
        for (int at = 0; at < count; ++at) {
            if (rows[at].base == 0) continue;
            if (at == plainAt) {
                const uint64_t row = plain.address(rows[at]);
                for (int e = 0; e < elements; ++e) {
                    sums[e] += machine::plainElement(row, first + e);
                }
                continue;
            }
            const uint64_t row = wire.address(rows[at]);
            const uint8_t* bytes = pointer<const uint8_t>(row) + first / Wire::kValues;
            float scale = 1;
            if (format.hasScales) {
                std::memcpy(&scale, machine::scaleBytes(row, format, first / format.block), 4);
            }
            for (int e = 0; e < elements; ++e) {
                const uint8_t entry = Wire::kValues == 1
                                          ? bytes[e]
                                          : static_cast<uint8_t>(bytes[e / 2] >> (e % 2 * 4) & 0xF);
                sums[e] += Wire::widen(entry) * scale;
            }
        }
        uint16_t* output = pointer<uint16_t>(to) + first;
        for (int e = 0; e < elements; ++e) output[e] = BFloat16::round(sums[e]);
    }
}

}  // namespace mori

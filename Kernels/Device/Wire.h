// Quantized rows: what combine sends in place of bf16, and what dispatch can make of bf16.
//
// A row of n elements falls into blocks of `block`; each block has one fp32 scale, its largest
// finite magnitude divided by the largest value of the narrow type, and its elements are divided by
// it and rounded once. Without scales they are rounded as they are.
#pragma once

#include "Device/Element.h"

namespace mori {

/// Elements that a lane has under way: what 16 bytes hold of bf16.
constexpr int kUnitElements = 8;

/// How rows are quantized.
struct WireFormat {
    int elements;  ///< of a row
    int block;     ///< elements of a block: a power of two, 32 to 256
    bool hasScales;
    uint32_t scales;  ///< where the fp32 scales begin in a row of the wire

    MORI_SHARED int blocks() const { return (elements + block - 1) / block; }
    /// Elements of a unit: less than kUnitElements at the end of a row only.
    MORI_SHARED int inUnit(int unit) const {
        const int left = elements - unit * kUnitElements;
        return left < kUnitElements ? left : kUnitElements;
    }
};

/// Consecutive units of a row. (32 bits: with 64 these and their like fill AMD's scalar registers.)
struct Units {
    int begin;
    int end;
};

/// The scale of one block, and what its elements are multiplied by.
struct BlockScale {
    float scale;
    float inverse;

    /// For a block whose largest finite magnitude is `most`, as bits.
    template <class Wire>
    static MORI_SHARED BlockScale of(uint32_t most) {
        const float scale = floatOf(most) / Wire::kMost;
        // Below the normal numbers a scale would lose the block's precision, or be 0.
        if (scale < powerOfTwo(-126)) return {0, 0};
        return {scale, Wire::kMost / floatOf(most)};
    }

    /// The magnitude that an element adds to its block's largest, as bits. What is not finite adds
    /// nothing where the type can say NaN, and fp4's largest where it cannot.
    template <class Wire>
    static MORI_SHARED uint32_t magnitude(float value) {
        const uint32_t bits = bitsOf(value) & 0x7FFFFFFFu;
        if (bits < 0x7F800000u) return bits;
        return Wire::kValues == 1 || bits > 0x7F800000u ? 0 : 0x7F7FFFFFu;
    }

    /// An element as the wire has it. An infinity is no number of the block: fp8 makes it a NaN.
    template <class Wire>
    MORI_SHARED uint32_t quantize(float value) const {
        const bool isFinite = (bitsOf(value) & 0x7FFFFFFFu) < 0x7F800000u;
        const uint32_t rounded = static_cast<uint32_t>(Wire::roundNumber(value * inverse));
        return isFinite || Wire::kValues > 1 ? rounded : static_cast<uint32_t>(Wire::kNaN);
    }
};

/// The bytes of a unit of narrow elements: 8 of fp8, 4 of fp4.
template <class Wire>
struct WireUnit {
    static constexpr int kBytes = kUnitElements / Wire::kValues;
    uint8_t bytes[kBytes];

    MORI_SHARED void set(int element, uint32_t bits) {
        if (Wire::kValues == 1) {
            bytes[element] = static_cast<uint8_t>(bits);
        } else if (element % 2 == 0) {
            bytes[element / 2] = static_cast<uint8_t>(bits);
        } else {
            bytes[element / 2] = static_cast<uint8_t>(bytes[element / 2] | bits << 4);
        }
    }
    MORI_SHARED float get(int element) const {
        if (Wire::kValues == 1) return Wire::widen(bytes[element]);
        const uint8_t pair = bytes[element / 2];
        return Wire::widen(static_cast<uint8_t>(element % 2 == 0 ? pair & 0xF : pair >> 4));
    }
    /// Bytes that so many elements take.
    static MORI_SHARED int bytesOf(int elements) {
        return (elements + Wire::kValues - 1) / Wire::kValues;
    }
};

/// In place of a narrow type: rows go as they are.
struct Plain {};

template <class Wire>
inline constexpr bool kQuantizes = true;
template <>
inline constexpr bool kQuantizes<Plain> = false;

}  // namespace mori

// Element types as combine sees them: storage, exact widening to fp32, one rounding back.
//
// Every type has
//   Storage, kBytes    what one entry of a row is
//   kValues            values in it: 1, or 2 where they are packed
//   widen, round       one value to fp32, exact; and back, to nearest, ties to even
//   add, pack          an entry's values onto fp32 sums; sums as an entry
//   kIsSimple          widening is a shift at most
// Types of fewer than 16 bits saturate: what is larger than the largest finite value, infinities
// too, becomes that value (the saturating conversion of the OCP 8-bit and microscaling formats).
#pragma once

#include "Device/ElementList.h"
#include "Device/Machine.h"

namespace mori {

MORI_SHARED uint32_t bitsOf(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

MORI_SHARED float floatOf(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

/// 2 to a power from -126 to 127.
MORI_SHARED constexpr float powerOfTwo(int exponent) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(exponent + 127) << 23);
}

/// A binary format: so many bits of exponent and of fraction below a sign; magnitudes as integers.
template <int exponentBits, int fractionBits, int bias>
struct Format {
    static constexpr uint32_t kSign = 1u << (exponentBits + fractionBits);
    static constexpr uint32_t kMagnitude = kSign - 1;

    /// The value of a magnitude that is finite. Exact; nothing in between is subnormal in fp32, so
    /// that processors that flush those give the same.
    static MORI_SHARED float widen(uint32_t magnitude) {
        const float normal =
            floatOf((magnitude << (23 - fractionBits)) + (uint32_t(127 - bias) << 23));
        const float subnormal =
            static_cast<float>(static_cast<int>(magnitude)) * powerOfTwo(1 - bias - fractionBits);
        return magnitude < (1u << fractionBits) ? subnormal : normal;
    }

    /// The magnitude nearest to a finite fp32 magnitude, ties to even; may be more than the format
    /// has.
    static MORI_SHARED uint32_t round(uint32_t bits) {
        constexpr int kDropped = 23 - fractionBits;
        const uint32_t half = (1u << (kDropped - 1)) - 1 + (bits >> kDropped & 1);
        const uint32_t normal =
            ((bits + half) >> kDropped) - (uint32_t(127 - bias) << fractionBits);
        // Below the smallest normal value all are multiples of one power of two. Added to 2^23, a
        // number of them is rounded to a whole one by the addition itself.
        constexpr float kWhole = 8388608.0f;
        const float scaled = floatOf(bits) * powerOfTwo(bias - 1 + fractionBits);
        const uint32_t subnormal = bitsOf(scaled + kWhole) - bitsOf(kWhole);
        return bits < (uint32_t(128 - bias) << 23) ? subnormal : normal;
    }
};

/// What types with one value an entry have in common.
template <class Element, class Entry>
struct SingleValue {
    using Storage = Entry;
    static constexpr int kBytes = sizeof(Entry);
    static constexpr int kValues = 1;
    static constexpr bool kIsSimple = false;

    static MORI_SHARED void add(float* sums, Storage entry) { sums[0] += Element::widen(entry); }
    static MORI_SHARED Storage pack(const float* sums) { return Element::round(sums[0]); }
};

/// bfloat16: the upper half of an IEEE 754 binary32; a NaN stays a NaN (quiet, sign and upper
/// payload kept).
struct BFloat16 : SingleValue<BFloat16, uint16_t> {
    /// A quiet NaN, what a failed combine is filled with.
    static constexpr Storage kNaN = 0x7FC0;
    static constexpr bool kIsSimple = true;

    static MORI_SHARED float widen(Storage bits) { return floatOf(uint32_t(bits) << 16); }

    static MORI_SHARED Storage round(float value) {
        const uint32_t bits = bitsOf(value);
        if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return Storage((bits >> 16) | 0x40u);
        return Storage((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    }
};

/// IEEE 754 binary32, summed and stored as it is.
struct Float32 : SingleValue<Float32, uint32_t> {
    static constexpr Storage kNaN = 0x7FC00000u;
    static constexpr bool kIsSimple = true;

    static MORI_SHARED float widen(Storage bits) { return floatOf(bits); }
    static MORI_SHARED Storage round(float value) { return bitsOf(value); }
};

/// IEEE 754 binary16: what is too large becomes an infinity.
struct Float16 : SingleValue<Float16, uint16_t> {
    using Bits = Format<5, 10, 15>;
    static constexpr Storage kNaN = 0x7E00;

    static MORI_SHARED float widen(Storage bits) {
        const uint32_t magnitude = bits & Bits::kMagnitude;
        const uint32_t sign = uint32_t(bits & Bits::kSign) << 16;
        // An infinity, or a NaN with its payload.
        const uint32_t special = 0x7F800000u | (magnitude & 0x3FFu) << 13;
        const uint32_t finite = bitsOf(Bits::widen(magnitude));
        return floatOf(sign | (magnitude >= 0x7C00u ? special : finite));
    }

    static MORI_SHARED Storage round(float value) {
        const uint32_t bits = bitsOf(value);
        const uint32_t magnitude = bits & 0x7FFFFFFFu;
        const uint32_t rounded = Bits::round(magnitude);
        const uint32_t finite = rounded < 0x7C00u ? rounded : 0x7C00u;
        const uint32_t quiet = 0x7E00u | (magnitude >> 13 & 0x3FFu);
        const uint32_t result = magnitude > 0x7F800000u    ? quiet
                                : magnitude == 0x7F800000u ? 0x7C00u
                                                           : finite;
        return Storage((bits >> 16 & Bits::kSign) | result);
    }
};

/// OCP E4M3: no infinities, one NaN of each sign, up to 448.
struct Float8E4M3 : SingleValue<Float8E4M3, uint8_t> {
    using Bits = Format<4, 3, 7>;
    static constexpr Storage kNaN = 0x7F;
    static constexpr float kMost = 448.0f;

    static MORI_SHARED float widen(Storage bits) {
        const uint32_t magnitude = bits & Bits::kMagnitude;
        const uint32_t sign = uint32_t(bits & Bits::kSign) << 24;
        return floatOf(sign | (magnitude == 0x7Fu ? 0x7FC00000u : bitsOf(Bits::widen(magnitude))));
    }

    static MORI_SHARED Storage round(float value) {
        return value != value ? Storage((bitsOf(value) >> 24 & Bits::kSign) | kNaN)
                              : roundNumber(value);
    }
    /// Of what is no NaN.
    static MORI_SHARED Storage roundNumber(float value) {
        const uint32_t bits = bitsOf(value);
        const uint32_t magnitude = bits & 0x7FFFFFFFu;
        // More would round to what is the NaN.
        const uint32_t finite = magnitude < bitsOf(kMost) ? Bits::round(magnitude) : 0x7Eu;
        return Storage((bits >> 24 & Bits::kSign) | finite);
    }
};

/// E4M3 FNUZ, gfx940's: finite, no negative zero, whose pattern is the NaN; up to 240.
struct Float8E4M3FNUZ : SingleValue<Float8E4M3FNUZ, uint8_t> {
    using Bits = Format<4, 3, 8>;
    static constexpr Storage kNaN = 0x80;
    static constexpr float kMost = 240.0f;

    static MORI_SHARED float widen(Storage bits) {
        const uint32_t sign = uint32_t(bits & Bits::kSign) << 24;
        const uint32_t finite = sign | bitsOf(Bits::widen(bits & Bits::kMagnitude));
        return floatOf(bits == kNaN ? 0x7FC00000u : finite);
    }

    static MORI_SHARED Storage round(float value) {
        return value != value ? kNaN : roundNumber(value);
    }
    /// Of what is no NaN.
    static MORI_SHARED Storage roundNumber(float value) {
        const uint32_t bits = bitsOf(value);
        const uint32_t magnitude = bits & 0x7FFFFFFFu;
        const uint32_t finite = magnitude < bitsOf(kMost) ? Bits::round(magnitude) : 0x7Fu;
        return Storage(finite == 0 ? 0 : (bits >> 24 & Bits::kSign) | finite);
    }
};

/// OCP E5M2: IEEE-like, with infinities and NaNs, which conversion gives only for NaNs; up to
/// 57344.
struct Float8E5M2 : SingleValue<Float8E5M2, uint8_t> {
    using Bits = Format<5, 2, 15>;
    static constexpr Storage kNaN = 0x7E;
    static constexpr float kMost = 57344.0f;

    static MORI_SHARED float widen(Storage bits) {
        const uint32_t magnitude = bits & Bits::kMagnitude;
        const uint32_t sign = uint32_t(bits & Bits::kSign) << 24;
        const uint32_t special = 0x7F800000u | (magnitude & 3u) << 21;
        const uint32_t finite = bitsOf(Bits::widen(magnitude));
        return floatOf(sign | (magnitude >= 0x7Cu ? special : finite));
    }

    static MORI_SHARED Storage round(float value) {
        const uint32_t bits = bitsOf(value);
        const uint32_t magnitude = bits & 0x7FFFFFFFu;
        const uint32_t rounded = Bits::round(magnitude);
        const uint32_t finite = magnitude < bitsOf(kMost) && rounded < 0x7Bu ? rounded : 0x7Bu;
        return Storage((bits >> 24 & Bits::kSign) | (magnitude > 0x7F800000u ? 0x7Eu : finite));
    }
};

/// OCP E2M1, two in a byte, the first in the lower half: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their
/// negatives. It has no NaN: one becomes the largest value.
struct Float4E2M1 {
    using Bits = Format<2, 1, 1>;
    using Storage = uint8_t;
    static constexpr int kBytes = 1;
    static constexpr int kValues = 2;
    static constexpr bool kIsSimple = false;
    /// The largest values, which no failed combine could be mistaken for less by.
    static constexpr Storage kNaN = 0x77;
    static constexpr float kMost = 6.0f;

    static MORI_SHARED float widen(uint32_t bits) {
        const uint32_t sign = (bits & Bits::kSign) << 28;
        return floatOf(sign | bitsOf(Bits::widen(bits & Bits::kMagnitude)));
    }

    static MORI_SHARED uint32_t round(float value) {
        const uint32_t bits = bitsOf(value);
        const uint32_t magnitude = bits & 0x7FFFFFFFu;
        const uint32_t finite = magnitude < bitsOf(kMost) ? Bits::round(magnitude) : 7u;
        return (bits >> 28 & Bits::kSign) | finite;
    }
    static MORI_SHARED uint32_t roundNumber(float value) { return round(value); }

    static MORI_SHARED void add(float* sums, Storage entry) {
        sums[0] += widen(entry & 0xFu);
        sums[1] += widen(entry >> 4);
    }
    static MORI_SHARED Storage pack(const float* sums) {
        return Storage(round(sums[0]) | round(sums[1]) << 4);
    }
};

}  // namespace mori

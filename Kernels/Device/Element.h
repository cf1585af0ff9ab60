// Element types as combine sees them: storage, exact widening to fp32, one rounding back.
#pragma once

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

/// bfloat16: the upper half of an IEEE 754 binary32; rounds to nearest, ties to even; a NaN stays
/// a NaN (quiet, sign and upper payload kept).
struct BFloat16 {
    using Storage = uint16_t;
    static constexpr int kBytes = 2;
    /// A quiet NaN, what a failed combine is filled with.
    static constexpr Storage kNaN = 0x7FC0;

    static MORI_SHARED float widen(Storage bits) { return floatOf(uint32_t(bits) << 16); }

    static MORI_SHARED Storage round(float value) {
        const uint32_t bits = bitsOf(value);
        if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return Storage((bits >> 16) | 0x40u);
        return Storage((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    }
};

/// IEEE 754 binary32, summed and stored as it is.
struct Float32 {
    using Storage = uint32_t;
    static constexpr int kBytes = 4;
    static constexpr Storage kNaN = 0x7FC00000u;

    static MORI_SHARED float widen(Storage bits) { return floatOf(bits); }
    static MORI_SHARED Storage round(float value) { return bitsOf(value); }
};

}  // namespace mori

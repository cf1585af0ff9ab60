// The element types that combine sums, in the order of moriep_element_type.
#pragma once

#include <cstdint>

#include "moriep.h"

// f(name, the type in Device/Element.h, moriep_element_type, ...) for each of them.
// clang-format off
#define MORI_FOR_ELEMENTS(f, ...) \
    f(bfloat16, BFloat16, MORIEP_BFLOAT16, __VA_ARGS__) \
    f(float32, Float32, MORIEP_FLOAT32, __VA_ARGS__) \
    f(float16, Float16, MORIEP_FLOAT16, __VA_ARGS__) \
    f(float8_e4m3, Float8E4M3, MORIEP_FLOAT8_E4M3, __VA_ARGS__) \
    f(float8_e4m3fnuz, Float8E4M3FNUZ, MORIEP_FLOAT8_E4M3FNUZ, __VA_ARGS__) \
    f(float8_e5m2, Float8E5M2, MORIEP_FLOAT8_E5M2, __VA_ARGS__) \
    f(float4_e2m1, Float4E2M1, MORIEP_FLOAT4_E2M1, __VA_ARGS__)
// clang-format on

// f(name, the type, ...) for those that combine quantizes bf16 to, in the order of `wireOf`.
// clang-format off
#define MORI_FOR_WIRES(f, ...) \
    f(float8_e4m3, Float8E4M3, __VA_ARGS__) \
    f(float4_e2m1, Float4E2M1, __VA_ARGS__)

// f(name, the type, moriep_element_type, ...) for those that dispatch quantizes bf16 to, in the order
// of `castOf`.
#define MORI_FOR_CASTS(f, ...) \
    f(float8_e4m3, Float8E4M3, MORIEP_FLOAT8_E4M3, __VA_ARGS__) \
    f(float8_e4m3fnuz, Float8E4M3FNUZ, MORIEP_FLOAT8_E4M3FNUZ, __VA_ARGS__)
// clang-format on

namespace mori {

/// The place in that list of a moriep_element_type; -1: dispatch does not quantize to it.
inline int32_t castOf(int32_t elementType) {
    return elementType == MORIEP_FLOAT8_E4M3 ? 0 : elementType == MORIEP_FLOAT8_E4M3FNUZ ? 1 : -1;
}
constexpr int32_t kCasts = 2;

/// The place in its list of a moriep_quantization that is not NONE.
inline int32_t wireOf(int32_t quantization) {
    return quantization == MORIEP_QUANTIZATION_FP4_BLOCKWISE ? 1 : 0;
}
constexpr int32_t kWires = 2;

#define MORI_COUNT(...) +1
/// How many there are.
constexpr int32_t kElementTypes = 0 MORI_FOR_ELEMENTS(MORI_COUNT);
#undef MORI_COUNT

inline bool isElementType(int32_t type) { return type >= 0 && type < kElementTypes; }

}  // namespace mori

// Which kernel types the runtimes launch.
#pragma once

#include <cstdint>

#include "moriep.h"

namespace mori {

inline bool isKernelType(int32_t type) {
    return type >= MORIEP_INTRANODE && type <= MORIEP_ASYNC_LL;
}

/// Whether combine can quantize rows of a type; not at all is always possible.
inline bool isQuantization(int32_t quantization, int32_t elementType) {
    if (quantization == MORIEP_QUANTIZATION_NONE) return true;
    return quantization > 0 && quantization <= MORIEP_QUANTIZATION_FP4_BLOCKWISE &&
           elementType == MORIEP_BFLOAT16;
}

}  // namespace mori

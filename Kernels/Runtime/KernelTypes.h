// Which kernel types the runtimes launch.
#pragma once

#include <cstdint>

#include "moriep.h"

namespace mori {

inline bool isKernelType(int32_t type) {
    return type >= MORIEP_INTRANODE && type <= MORIEP_ASYNC_LL;
}

}  // namespace mori

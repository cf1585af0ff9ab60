// Block memory of a verb's launches, by kernel type: what every runtime asks before it launches.
#pragma once

#include "InterNode/Combine.h"
#include "InterNode/Dispatch.h"
#include "InterNodeV1/Combine.h"
#include "InterNodeV1/Forward.h"
#include "IntraNode/Combine.h"
#include "IntraNode/Dispatch.h"
#include "Runtime/KernelTypes.h"

namespace mori {

/// Bytes that the most demanding launch of a verb asks for, for blocks of so many warps.
inline uint64_t blockMemoryBytes(int verb, const moriep_shape& shape, int warps) {
    const bool dispatches = verb == MORIEP_VERB_DISPATCH;
    if (isV1(shape)) {
        return dispatches ? internodev1::dispatchSharedBytes(shape, warps)
                          : internodev1::combineSharedBytes(shape, warps);
    }
    if (hasRankSections(shape)) {
        return dispatches ? internode::dispatchSharedBytes(shape, warps)
                          : internode::combineSharedBytes(shape, warps);
    }
    return dispatches ? intranode::dispatchSharedBytes(shape, warps)
                      : intranode::combineSharedBytes(shape, warps);
}

}  // namespace mori

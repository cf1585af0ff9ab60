// Block memory of a verb's launches, by kernel type: what every runtime asks before it launches.
#pragma once

#include "InterNode/Combine.h"
#include "InterNode/Dispatch.h"
#include "InterNodeV1/Combine.h"
#include "InterNodeV1/Forward.h"
#include "IntraNode/Combine.h"
#include "IntraNode/Dispatch.h"
#include "IntraNode/Ordered.h"
#include "Runtime/KernelTypes.h"
#include "StandardMoE/Experts.h"

namespace mori {

/// Bytes that the most demanding launch of a verb asks for, for blocks of so many warps.
inline uint64_t blockMemoryBytes(int verb, const moriep_shape& shape, int warps) {
    if (verb == MORIEP_VERB_RECEIVED) return standardmoe::sharedBytes(shape, warps);
    const bool dispatches = verb == MORIEP_VERB_DISPATCH;
    if (isV1(shape)) {
        return dispatches ? internodev1::dispatchSharedBytes(shape, warps)
                          : internodev1::combineSharedBytes(shape, warps);
    }
    if (hasRankSections(shape)) {
        return dispatches ? internode::dispatchSharedBytes(shape, warps)
                          : internode::combineSharedBytes(shape, warps);
    }
    if (!dispatches) return intranode::combineSharedBytes(shape, warps);
    // A replayed round of an ordered operator is sent like any.
    const uint64_t plain = intranode::dispatchSharedBytes(shape, warps);
    const uint64_t ordered =
        shape.is_ordered != 0 ? intranode::orderedSharedBytes(shape, warps) : 0;
    return plain > ordered ? plain : ordered;
}

}  // namespace mori

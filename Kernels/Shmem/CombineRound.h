// What the combines of all kernel types have in common.
#pragma once

#include "Shmem/Rows.h"
#include "Shmem/Signal.h"

namespace mori {

/// Records this rank's call for its peers; if the input has fewer rows than were received, the
/// round is void.
MORI_DEVICE void recordCombine(const Operator& op,
                               const moriep_combine_arguments& arguments,
                               bool tooFew,
                               const BlockOnce& once) {
    const moriep_control* control = op.control();
    const uint32_t epoch = control->epoch;
    moriep_call* call = op.callRecord(MORIEP_VERB_COMBINE, epoch, op.rank());
    *call = arguments.call;
    call->epoch = epoch;
    if (!tooFew) return;
    Verdict verdict{MORIEP_FAILURE_INPUT_ROWS, op.rank(), -1, 0, 0, 0};
    verdict.expected = static_cast<uint64_t>(control->received_count);
    verdict.found = static_cast<uint64_t>(arguments.input_rows);
    failRound(op, MORIEP_PHASE_COMBINE_READY, epoch, verdict, call, nullptr, once);
}

/// Fills elements with NaN: a void round never looks like a result.
template <class Element, class T>
MORI_DEVICE void fillVoid(const Warp& warp, T* row, Range range) {
    static_assert(sizeof(T) == Element::kBytes);
    using Storage = typename Element::Storage;
    warp.fill(
        reinterpret_cast<Storage*>(row) + range.begin, Element::kNaN, range.end - range.begin);
}

}  // namespace mori

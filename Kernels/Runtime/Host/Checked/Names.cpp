// What the race checker calls a place of symmetric memory.
#if MORI_EP_CHECKED

// The checker itself is not instrumented.
#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
                             apply_to = function)

#include <algorithm>
#include <string>

#include "Runtime/Host/Checked/Shadow.h"
#include "moriep_operator.h"

namespace mori::host::races {

const char* words(Kind kind) {
    return kind == Kind::read ? "read" : kind == Kind::write ? "write" : "atomic access";
}

void Region::nameBuffers(const moriep_operator& op) {
    if (!names.empty()) return;
    rank = op.rank;
    slotBytes = op.layout.symmetric_slot_bytes;
    // Those that this operator does not have are 0, as is the first one.
#define MORI_BUFFER(name) \
    if (op.layout.name > 0 || names.empty()) names.push_back({op.layout.name, #name});
    MORI_BUFFER(dispatch_signals)
    MORI_BUFFER(combine_signals)
    MORI_BUFFER(barrier_signals)
    MORI_BUFFER(count_signals)
    MORI_BUFFER(slot_counters)
    MORI_BUFFER(call_records)
    MORI_BUFFER(barrier_end_signals)
    MORI_BUFFER(chunk_signals)
    MORI_BUFFER(combine_chunk_signals)
    MORI_BUFFER(section_signals)
    MORI_BUFFER(combine_section_signals)
    MORI_BUFFER(received_tokens)
    MORI_BUFFER(received_weights)
    MORI_BUFFER(received_scales)
    MORI_BUFFER(received_indices)
    MORI_BUFFER(received_sources)
    MORI_BUFFER(combine_input)
    MORI_BUFFER(combine_input_weights)
    MORI_BUFFER(landing)
    MORI_BUFFER(staging)
    MORI_BUFFER(combine_landing)
    MORI_BUFFER(combine_staging)
#undef MORI_BUFFER
    std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) {
        return a.offset < b.offset;
    });
}

std::string Region::words(uint64_t address) const {
    uint64_t offset = address - begin;
    std::string slot;
    if (slotBytes > 0 && offset >= slotBytes) {
        slot = " of slot " + std::to_string(offset / slotBytes);
        offset %= slotBytes;
    }
    std::string words = "offset " + std::to_string(offset);
    for (const Name& name : names) {
        if (name.offset > offset) break;
        words = std::string(name.name) + " + " + std::to_string(offset - name.offset);
    }
    return words + slot + (rank < 0 ? "" : " of rank " + std::to_string(rank));
}

}  // namespace mori::host::races

#pragma clang attribute pop

#endif

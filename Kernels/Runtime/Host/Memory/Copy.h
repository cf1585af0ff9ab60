// Copies and sums of the host device, by the widest vectors of the processor at hand.
#pragma once

#include <cstddef>
#include <cstdint>

#include "Device/Element.h"
#include "Device/Types.h"

namespace mori::host {

/// Copies bytes that do not overlap, any alignment. `streaming` stores past the caches, for
/// footprints that would only evict themselves; finishStreaming() must come before any word that
/// covers them.
void copy(void* destination, const void* source, size_t bytes, bool streaming);

/// Orders streaming stores before all later stores. A release does not: rows would be seen
/// incomplete (rule P11). Not part of each copy: it would wait for the row's small stores as well,
/// which miss the cache, and cost a third of dispatch.
void finishStreaming();

/// destination[i] = round(sum of row[first + i] over `rows` in their order); see Warp::accumulate.
template <class Element>
void accumulate(typename Element::Storage* destination,
                const PeerRow* rows,
                int count,
                const RowBuffer& buffer,
                int64_t first,
                int64_t elements,
                bool streaming);

/// The same with a factor for each row; see Warp::accumulateWeighted.
template <class Element>
void accumulateWeighted(typename Element::Storage* destination,
                        const PeerRow* rows,
                        const float* factors,
                        int count,
                        const RowBuffer& buffer,
                        int64_t first,
                        int64_t entries);

#define MORI_DECLARE(type, Element, ...)      \
    extern template void accumulate<Element>( \
        Element::Storage*, const PeerRow*, int, const RowBuffer&, int64_t, int64_t, bool);
MORI_FOR_ELEMENTS(MORI_DECLARE)
#undef MORI_DECLARE

/// Bytes of the last-level cache; 32 MiB where the system does not say.
size_t lastLevelCacheBytes();

}  // namespace mori::host

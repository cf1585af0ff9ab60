#include "Device/Element.h"
#include "moriep_host.h"

namespace mori {
namespace {

template <class Element>
void widen(const void* entries, int64_t count, float* values) {
    const auto* from = static_cast<const typename Element::Storage*>(entries);
    for (int64_t i = 0; i < count; ++i) {
        if constexpr (Element::kValues == 1) {
            values[i] = Element::widen(from[i]);
        } else {
            values[2 * i] = Element::widen(from[i] & 0xFu);
            values[2 * i + 1] = Element::widen(from[i] >> 4);
        }
    }
}

template <class Element>
void round(const float* values, int64_t count, void* entries) {
    auto* to = static_cast<typename Element::Storage*>(entries);
    for (int64_t i = 0; i < count; ++i) to[i] = Element::pack(values + i * Element::kValues);
}

}  // namespace
}  // namespace mori

int32_t moriep_host_widen(int32_t type, const void* entries, int64_t count, float* values) {
    switch (type) {
#define MORI_WIDEN(name, Element, number, ...)              \
    case number:                                            \
        mori::widen<mori::Element>(entries, count, values); \
        return MORIEP_SUCCESS;
        MORI_FOR_ELEMENTS(MORI_WIDEN)
#undef MORI_WIDEN
    }
    return MORIEP_NOT_SUPPORTED;
}

int32_t moriep_host_round(int32_t type, const float* values, int64_t count, void* entries) {
    switch (type) {
#define MORI_ROUND(name, Element, number, ...)              \
    case number:                                            \
        mori::round<mori::Element>(values, count, entries); \
        return MORIEP_SUCCESS;
        MORI_FOR_ELEMENTS(MORI_ROUND)
#undef MORI_ROUND
    }
    return MORIEP_NOT_SUPPORTED;
}

// The fp32 sum of rows, once for each vector width: written with the compiler's vector types, so
// that one body serves AVX-512, AVX2, SSE2 and NEON. The width is chosen at run time.
#include <cstring>

#include "Runtime/Host/Memory/Copy.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mori::host {
namespace {

template <class T, int lanes>
using Vector = T __attribute__((ext_vector_type(lanes)));

/// One element type, `lanes` entries at a time; one after the other, of which the compiler makes
/// vectors, but for the usual types.
template <class Element, int lanes>
struct Lanes {
    struct Floats {
        float values[lanes * Element::kValues];
    };
    using Storage = typename Element::Storage;

    static __attribute__((always_inline)) void add(Floats& sum, const Storage* from) {
        for (int i = 0; i < lanes; ++i) Element::add(&sum.values[i * Element::kValues], from[i]);
    }
    static __attribute__((always_inline)) void round(Storage* to, const Floats& sum) {
        for (int i = 0; i < lanes; ++i) to[i] = Element::pack(&sum.values[i * Element::kValues]);
    }
};

template <int lanes>
struct Lanes<BFloat16, lanes> {
    using Floats = Vector<float, lanes>;
    using Words = Vector<uint32_t, lanes>;
    using Stored = Vector<uint16_t, lanes>;

    static __attribute__((always_inline)) void add(Floats& sum, const uint16_t* from) {
        Stored stored;
        std::memcpy(&stored, from, sizeof stored);
        const Words words = __builtin_convertvector(stored, Words) << 16;
        sum += reinterpret_cast<const Floats&>(words);
    }

    static __attribute__((always_inline)) void round(uint16_t* to, const Floats& sum) {
        const Words bits = reinterpret_cast<const Words&>(sum);
        const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
        const Words quiet = (bits >> 16) | 0x40u;
        const auto isNaN = (bits & 0x7FFFFFFFu) > 0x7F800000u;
        const Words words = isNaN ? quiet : rounded;
        const Stored stored = __builtin_convertvector(words, Stored);
        std::memcpy(to, &stored, sizeof stored);
    }
};

template <int lanes>
struct Lanes<Float32, lanes> {
    using Floats = Vector<float, lanes>;

    static __attribute__((always_inline)) void add(Floats& sum, const uint32_t* from) {
        Floats stored;
        std::memcpy(&stored, from, sizeof stored);
        sum += stored;
    }

    static __attribute__((always_inline)) void round(uint32_t* to, const Floats& sum) {
        std::memcpy(to, &sum, sizeof sum);
    }
};

/// Vectors summed side by side, so that the additions of one hide the latency of another.
constexpr int kUnroll = 4;

template <class Element, int lanes>
__attribute__((always_inline)) inline void sumRows(typename Element::Storage* destination,
                                                   const PeerRow* rows,
                                                   int count,
                                                   const RowBuffer& buffer,
                                                   int64_t first,
                                                   int64_t elements) {
    using Storage = typename Element::Storage;
    using L = Lanes<Element, lanes>;
    using Floats = typename L::Floats;
    const auto row = [&](int at) __attribute__((always_inline)) {
        return pointer<const Storage>(buffer.address(rows[at])) + first;
    };
    int64_t i = 0;
    for (; i + kUnroll * lanes <= elements; i += kUnroll * lanes) {
        Floats sums[kUnroll] = {};
        for (int at = 0; at < count; ++at) {
            if (rows[at].base == 0) continue;
            const Storage* from = row(at) + i;
            for (int u = 0; u < kUnroll; ++u) L::add(sums[u], from + u * lanes);
        }
        for (int u = 0; u < kUnroll; ++u) L::round(destination + i + u * lanes, sums[u]);
    }
    for (; i < elements; ++i) {
        float sums[Element::kValues] = {};
        for (int at = 0; at < count; ++at) {
            if (rows[at].base != 0) Element::add(sums, row(at)[i]);
        }
        destination[i] = Element::pack(sums);
    }
}

#define MORI_SUM_ROWS(name, lanes, ...)                                             \
    template <class Element>                                                        \
    __VA_ARGS__ void name(typename Element::Storage* destination,                   \
                          const PeerRow* rows,                                      \
                          int count,                                                \
                          const RowBuffer& buffer,                                  \
                          int64_t first,                                            \
                          int64_t elements) {                                       \
        sumRows<Element, lanes>(destination, rows, count, buffer, first, elements); \
    }

MORI_SUM_ROWS(sumRowsBaseline, 4)
#if defined(__x86_64__)
MORI_SUM_ROWS(sumRowsAVX2, 8, __attribute__((target("avx2"))))
MORI_SUM_ROWS(sumRowsAVX512, 16, __attribute__((target("avx512f,avx512bw,avx512vl"))))
#endif

enum class Width { baseline, avx2, avx512 };

Width widest() {
#if defined(__x86_64__)
    static const Width width = __builtin_cpu_supports("avx512bw") ? Width::avx512
                               : __builtin_cpu_supports("avx2")   ? Width::avx2
                                                                  : Width::baseline;
    return width;
#else
    return Width::baseline;
#endif
}

}  // namespace

template <class Element>
void accumulate(typename Element::Storage* destination,
                const PeerRow* rows,
                int count,
                const RowBuffer& buffer,
                int64_t first,
                int64_t elements,
                bool) {
    switch (widest()) {
#if defined(__x86_64__)
        case Width::avx512:
            return sumRowsAVX512<Element>(destination, rows, count, buffer, first, elements);
        case Width::avx2:
            return sumRowsAVX2<Element>(destination, rows, count, buffer, first, elements);
#endif
        default:
            return sumRowsBaseline<Element>(destination, rows, count, buffer, first, elements);
    }
}

template <class Element>
void accumulateWeighted(typename Element::Storage* destination,
                        const PeerRow* rows,
                        const float* factors,
                        int count,
                        const RowBuffer& buffer,
                        int64_t first,
                        int64_t entries) {
    using Storage = typename Element::Storage;
    constexpr int kBlock = 64;
    // So many sums at a time, of each row in turn: loops that the compiler makes vectors of.
    for (int64_t begin = 0; begin < entries; begin += kBlock) {
        const int64_t left = entries - begin < kBlock ? entries - begin : kBlock;
        float sums[kBlock * Element::kValues] = {};
        for (int at = 0; at < count; ++at) {
            if (rows[at].base == 0) continue;
            const Storage* row = pointer<const Storage>(buffer.address(rows[at])) + first + begin;
            for (int64_t i = 0; i < left; ++i) {
                float values[Element::kValues] = {};
                Element::add(values, row[i]);
                for (int v = 0; v < Element::kValues; ++v) {
                    sums[i * Element::kValues + v] += values[v] * factors[at];
                }
            }
        }
        for (int64_t i = 0; i < left; ++i) {
            destination[begin + i] = Element::pack(&sums[i * Element::kValues]);
        }
    }
}

#define MORI_INSTANTIATE(type, Element, ...)                                               \
    template void accumulate<Element>(                                                     \
        Element::Storage*, const PeerRow*, int, const RowBuffer&, int64_t, int64_t, bool); \
    template void accumulateWeighted<Element>(                                             \
        Element::Storage*, const PeerRow*, const float*, int, const RowBuffer&, int64_t, int64_t);
MORI_FOR_ELEMENTS(MORI_INSTANTIATE)
#undef MORI_INSTANTIATE

}  // namespace mori::host

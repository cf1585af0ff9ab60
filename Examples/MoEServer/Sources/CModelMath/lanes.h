// Sixteen floats at once, on whatever the processor has; compiled for each of its generations.
#ifndef LANES_H
#define LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t lane_integers __attribute__((vector_size(LANES * sizeof(int32_t))));

// Values go by pointer: how vectors are passed differs between the processors.
INLINE void load(lanes* value, const float* from) { memcpy(value, from, sizeof *value); }
INLINE void store(const lanes* value, float* to) { memcpy(to, value, sizeof *value); }

// In pairs, halves first: one order for every processor.
INLINE float sum(const lanes* value) {
    float parts[LANES];
    store(value, parts);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) parts[lane] += parts[lane + width];
    return parts[0];
}

// e to the power of each lane, to about one unit in the last place; 0 below -87.
INLINE void exponential(lanes* value) {
    lanes x = *value;
    lane_integers tiny = x < -87.0f, huge = x > 88.0f;
    x = (lanes)(((lane_integers)x & ~(tiny | huge)));
    // 2^n * e^f, with n = round(x / ln 2): adding 1.5 * 2^23 rounds to a whole number.
    const float rounder = 12582912.0f;
    lanes shifted = x * 1.44269504f + rounder;
    lanes n = shifted - rounder;
    lanes f = x - n * 0.693359375f;
    f = f - n * -2.12194440e-4f;
    lanes p = f * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * (f * f) + f + 1.0f;
    lane_integers exponent = (lane_integers)shifted << 23;
    lanes result = (lanes)((lane_integers)p + exponent);
    lanes infinity = (lanes)((lane_integers){} + 0x7F800000);
    result = (lanes)(((lane_integers)result & ~tiny & ~huge) | ((lane_integers)infinity & huge));
    *value = result;
}

#endif

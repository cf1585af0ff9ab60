#include <math.h>

#include "lanes.h"
#include "model_math.h"

EACH_PROCESSOR
void model_rotate(float* x, const float* cosine, const float* sine, size_t heads, size_t head) {
    size_t half = head / 2;
    for (size_t h = 0; h < heads; h++, x += head)
        for (size_t i = 0; i < half; i++) {
            float first = x[i], second = x[i + half];
            x[i] = first * cosine[i] - second * sine[i];
            x[i + half] = second * cosine[i] + first * sine[i];
        }
}

INLINE float dot(const float* x, const float* y, size_t count) {
    lanes products = {};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes left, right;
        load(&left, x + i);
        load(&right, y + i);
        products += left * right;
    }
    float total = sum(&products);
    for (; i < count; i++) total += x[i] * y[i];
    return total;
}

// Scores become weights whose sum is returned; the largest is 1.
INLINE float soften(float* scores, size_t length) {
    float largest = scores[0];
    for (size_t p = 1; p < length; p++) largest = scores[p] > largest ? scores[p] : largest;
    lanes totals = {};
    for (size_t p = 0; p < length; p += LANES) {
        size_t count = length - p < LANES ? length - p : LANES;
        // Lanes without a position weigh nothing.
        lanes value = (lanes){} - 1000.0f + largest;
        memcpy(&value, scores + p, count * sizeof(float));
        value = value - largest;
        exponential(&value);
        totals += value;
        memcpy(scores + p, &value, count * sizeof(float));
    }
    return sum(&totals);
}

EACH_PROCESSOR
void model_attention(const float* query,
                     const float* keys,
                     const float* values,
                     float* y,
                     float* scores,
                     size_t length,
                     size_t heads,
                     size_t head) {
    size_t row = heads * head;
    float scale = 1 / sqrtf((float)head);
    for (size_t h = 0; h < heads; h++, query += head, keys += head, values += head, y += head) {
        for (size_t p = 0; p < length; p++) scores[p] = dot(query, keys + p * row, head) * scale;
        float inverse = 1 / soften(scores, length);
        size_t i = 0;
        for (; i + LANES <= head; i += LANES) {
            lanes mixed = {};
            for (size_t p = 0; p < length; p++) {
                lanes value;
                load(&value, values + p * row + i);
                mixed += scores[p] * value;
            }
            mixed *= inverse;
            store(&mixed, y + i);
        }
        for (; i < head; i++) {
            float mixed = 0;
            for (size_t p = 0; p < length; p++) mixed += scores[p] * values[p * row + i];
            y[i] = mixed * inverse;
        }
    }
}

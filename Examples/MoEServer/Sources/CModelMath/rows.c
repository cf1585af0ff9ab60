#include <math.h>

#include "lanes.h"
#include "model_math.h"

EACH_PROCESSOR
void model_norm(
    const float* x, const float* weight, float* y, size_t rows, size_t columns, float epsilon) {
    for (size_t row = 0; row < rows; row++, x += columns, y += columns) {
        lanes squares = {};
        size_t column = 0;
        for (; column + LANES <= columns; column += LANES) {
            lanes value;
            load(&value, x + column);
            squares += value * value;
        }
        float total = sum(&squares);
        for (; column < columns; column++) total += x[column] * x[column];
        float scale = 1 / sqrtf(total / (float)columns + epsilon);
        for (column = 0; column < columns; column++) y[column] = x[column] * scale * weight[column];
    }
}

EACH_PROCESSOR
void model_gated(const float* x, float* y, size_t rows, size_t columns) {
    for (size_t row = 0; row < rows; row++, x += 2 * columns, y += columns) {
        for (size_t column = 0; column < columns; column += LANES) {
            // The last columns have a vector of their own, filled up with zeros.
            size_t count = columns - column < LANES ? columns - column : LANES;
            lanes gate = {}, up = {};
            memcpy(&gate, x + column, count * sizeof(float));
            memcpy(&up, x + columns + column, count * sizeof(float));
            lanes power = -gate;
            exponential(&power);
            lanes product = gate / (1.0f + power) * up;
            memcpy(y + column, &product, count * sizeof(float));
        }
    }
}

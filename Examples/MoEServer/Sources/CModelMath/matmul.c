#include "lanes.h"
#include "model_math.h"

// A tile of y: `rows` rows of `vectors` times 16 columns, held in registers while k runs. Every
// element is one sum over k, ascending, whatever the tile.
INLINE void tile(
    const float* x, const float* w, float* y, size_t inner, size_t columns, int rows, int vectors) {
    lanes sums[4][4] = {};
    for (size_t k = 0; k < inner; k++) {
        lanes right[4];
        for (int v = 0; v < vectors; v++) load(&right[v], w + k * columns + v * LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sums[r][v] += x[r * inner + k] * right[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) store(&sums[r][v], y + r * columns + v * LANES);
}

// `rows` is known where this is inlined, so that the tile's loops have no ends to look for.
INLINE void band(const float* x, const float* w, float* y, size_t inner, size_t columns, int rows) {
    size_t column = 0;
    for (; column + 4 * LANES <= columns; column += 4 * LANES)
        tile(x, w + column, y + column, inner, columns, rows, 4);
    for (; column + LANES <= columns; column += LANES)
        tile(x, w + column, y + column, inner, columns, rows, 1);
    for (; column < columns; column++)
        for (int r = 0; r < rows; r++) {
            float total = 0;
            for (size_t k = 0; k < inner; k++) total += x[r * inner + k] * w[k * columns + column];
            y[r * columns + column] = total;
        }
}

EACH_PROCESSOR
void model_matmul(
    const float* x, const float* w, float* y, size_t rows, size_t inner, size_t columns) {
    size_t row = 0;
    for (; row + 4 <= rows; row += 4)
        band(x + row * inner, w, y + row * columns, inner, columns, 4);
    if (row + 2 <= rows) {
        band(x + row * inner, w, y + row * columns, inner, columns, 2);
        row += 2;
    }
    if (row < rows) band(x + row * inner, w, y + row * columns, inner, columns, 1);
}

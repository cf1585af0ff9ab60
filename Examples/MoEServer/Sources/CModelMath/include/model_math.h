// The arithmetic of a transformer on a CPU.
//
// A row's result is the same whatever rows stand beside it: each sum runs over its terms in one
// order that depends on nothing else. Libraries for matrices do not promise that (they choose other
// kernels for other numbers of rows), and with it a model gives the same tokens however its work is
// spread over batches and ranks. All matrices are dense and row-major.
#ifndef MODEL_MATH_H
#define MODEL_MATH_H

#include <stddef.h>

// y[rows, columns] = x[rows, inner] * w[inner, columns].
void model_matmul(
    const float* x, const float* w, float* y, size_t rows, size_t inner, size_t columns);

// Each row divided by the root of its mean square, times weight.
void model_norm(
    const float* x, const float* weight, float* y, size_t rows, size_t columns, float epsilon);

// y[rows, columns] = silu(gate) * up, where a row of x is gate, then up.
void model_gated(const float* x, float* y, size_t rows, size_t columns);

// Turns element i of each head with element i + head / 2; cosine and sine have head / 2 elements.
void model_rotate(float* x, const float* cosine, const float* sine, size_t heads, size_t head);

// One token's attention over `length` positions of keys and values [length, heads * head].
// scores is room for `length` elements.
void model_attention(const float* query,
                     const float* keys,
                     const float* values,
                     float* y,
                     float* scores,
                     size_t length,
                     size_t heads,
                     size_t head);

#endif

// The primitives of the kernel language, alone: what a test has one of them do.
#ifndef MORI_PRIMITIVES_H
#define MORI_PRIMITIVES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What is run. "Own" outputs: each warp w of the grid has its own, from entry w * count on.
typedef enum primitives_operation {
    PRIMITIVES_LANES = 0,  ///< own output i32: 3 * input[i] + w
    PRIMITIVES_ONCE,  ///< output u32[block][4]: what elect, each, once's elect and each counted
    PRIMITIVES_SUM,   ///< output i64[w]: the sum of input, i32
    PRIMITIVES_BITS,  ///< output u64[w]: all bits of input, u64
    PRIMITIVES_ANY,   ///< output u32[block]: whether an input, i32, is `start`
    PRIMITIVES_SCAN,  ///< rows of a route: input u64 sets, words i32 slots; output {u64, i64}
    PRIMITIVES_COPY,  ///< `bytes` from input to output
    PRIMITIVES_FILL,  ///< output i32[count]: `start`
    PRIMITIVES_COPY_TO_MANY,  ///< bytes `first` on of input to the same of each of `rows`
    PRIMITIVES_ACCUMULATE,    ///< output: the sum of `rows`, entries `first` on
    PRIMITIVES_WEIGHTED,      ///< the same with a factor for each row: words, f32
    PRIMITIVES_WIDEN,         ///< output f32: the values of `count` entries of input
    PRIMITIVES_ROUND,         ///< output: `count` entries of the values of input, f32
    PRIMITIVES_BARRIER,       ///< output u32[w]: the sum of what all warps of the block stored
    PRIMITIVES_LAST_BLOCK,  ///< output u32[count]: input + 1 by all blocks; words[1..]: the last's
                            ///< sums
} primitives_operation;

/// One call; addresses are the device's.
typedef struct primitives_arguments {
    int32_t operation;     ///< primitives_operation
    int32_t element_type;  ///< moriep_element_type
    int32_t count;         ///< of inputs, rows or entries
    int32_t start;
    int64_t first, bytes;  ///< the latter: entries of ACCUMULATE and WEIGHTED
    uint64_t input, output, words;
    uint64_t rows;    ///< {u64 base, i64 row} [count]
    uint64_t offset;  ///< a row lies at base + offset + row * stride
    int64_t stride;
} primitives_arguments;

/// Block memory of a call, bytes.
enum { PRIMITIVES_SHARED_BYTES = 16384, PRIMITIVES_MAX_ROWS = 200 };

/// Runs a call on the host device's primitives, to its end.
void primitives_run_on_host(const primitives_arguments* arguments, int32_t blocks, int32_t warps);

/// The same on the current GPU, in libprimitives_<device>.so. Gives 0, or the runtime's error.
int32_t primitives_run_on_gpu(const primitives_arguments* arguments, int32_t blocks, int32_t warps);

#ifdef __cplusplus
}
#endif

#endif

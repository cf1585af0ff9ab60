// The unavoidable memory traffic of dispatch and combine, as plain loops: what the benchmark
// compares itself with. Shares no code with the kernels.
#ifndef CROOFLINE_H
#define CROOFLINE_H

#include <stdbool.h>
#include <stdint.h>

/// How a step's rows are connected.
enum {
    /// Item i is source row i, stored to each destination row of its list: read once, from memory
    /// the first time and from the cache for the others.
    ROOFLINE_SCATTER = 0,
    /// Item i is destination row i, the exclusive or of the source rows of its list: the cheapest
    /// way to use every byte that combine must read.
    ROOFLINE_GATHER = 1,
};

/// One pass over memory.
typedef struct roofline_step {
    /// ROOFLINE_SCATTER or ROOFLINE_GATHER.
    int32_t kind;
    int32_t reserved;
    /// The addresses of row 0.
    uint64_t source;
    uint64_t destination;
    /// Rows modulo which an item's own number is taken; keeps a scatter inside its source.
    int64_t item_rows;
    /// Bytes of a row.
    int64_t row_bytes;
    int64_t items;
    /// items + 1 positions in `list`: item i's rows are list[first[i]] up to list[first[i + 1]].
    const int32_t* first;
    const int32_t* list;
} roofline_step;

/// Runs the steps one after the other on `threads` threads that start together, each over its share
/// of the items, and gives the monotonic times in nanoseconds at which the first began and the last
/// ended. `streaming` stores past the caches; where the processor cannot, it stores through them.
/// Returns 0 or an errno.
int32_t roofline_run(const roofline_step* steps,
                     int32_t count,
                     int32_t threads,
                     bool streaming,
                     int64_t* began,
                     int64_t* ended);

/// Now on the same clock.
int64_t roofline_now(void);

/// Waits until a time of this clock; not at all when it has passed. Sleeps, but for the last
/// millisecond, which it yields away: how late a machine wakes sleepers is not part of what is
/// timed.
void roofline_wait_until(int64_t time);

#endif

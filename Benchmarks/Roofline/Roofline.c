#define _GNU_SOURCE
#include "CRoofline.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// ------------------------------------------------------------------------------------------------
// Rows

typedef const uint8_t* row_in;
typedef uint8_t* row_out;

/// Cached copy: what memcpy does for a row of this size.
static void copyCached(row_out to, row_in from, int64_t bytes) { memcpy(to, from, (size_t)bytes); }

/// Cached exclusive or, 8 bytes at a time; also the ends of the wide loops below.
static void combineNarrow(row_out to, const row_in* rows, int32_t count, int64_t at, int64_t end) {
    for (; at + 8 <= end; at += 8) {
        uint64_t sum = 0;
        for (int32_t i = 0; i < count; ++i) {
            uint64_t word;
            memcpy(&word, rows[i] + at, 8);
            sum ^= word;
        }
        memcpy(to + at, &sum, 8);
    }
    for (; at < end; ++at) {
        uint8_t sum = 0;
        for (int32_t i = 0; i < count; ++i) sum ^= rows[i][at];
        to[at] = sum;
    }
}

#if defined(__x86_64__)

#define WIDE __attribute__((target("avx2")))

static int64_t bytesToLine(const void* address) { return (int64_t)(-(uintptr_t)address & 63); }

/// Streaming copy: 64-byte lines past the caches, the ends through them.
WIDE static void copyStreaming(row_out to, row_in from, int64_t bytes) {
    int64_t at = bytesToLine(to) < bytes ? bytesToLine(to) : bytes;
    memcpy(to, from, (size_t)at);
    for (; at + 64 <= bytes; at += 64) {
        const __m256i low = _mm256_loadu_si256((const __m256i*)(from + at));
        const __m256i high = _mm256_loadu_si256((const __m256i*)(from + at + 32));
        _mm256_stream_si256((__m256i*)(to + at), low);
        _mm256_stream_si256((__m256i*)(to + at + 32), high);
    }
    memcpy(to + at, from + at, (size_t)(bytes - at));
}

/// Exclusive or of 256 bytes of every row at a time, kept in registers; the stores of each block
/// cached or streaming.
WIDE static void combineWide(
    row_out to, const row_in* rows, int32_t count, int64_t bytes, bool streaming) {
    int64_t at = bytesToLine(to) < bytes ? bytesToLine(to) : bytes;
    combineNarrow(to, rows, count, 0, at);
    for (; at + 256 <= bytes; at += 256) {
        __m256i sums[8];
        for (int u = 0; u < 8; ++u) sums[u] = _mm256_setzero_si256();
        for (int32_t i = 0; i < count; ++i) {
            for (int u = 0; u < 8; ++u) {
                const __m256i word = _mm256_loadu_si256((const __m256i*)(rows[i] + at + 32 * u));
                sums[u] = _mm256_xor_si256(sums[u], word);
            }
        }
        for (int u = 0; u < 8; ++u) {
            __m256i* place = (__m256i*)(to + at + 32 * u);
            if (streaming) {
                _mm256_stream_si256(place, sums[u]);
            } else {
                _mm256_store_si256(place, sums[u]);
            }
        }
    }
    combineNarrow(to, rows, count, at, bytes);
}

static bool isWide(void) { return __builtin_cpu_supports("avx2") != 0; }
static void fence(void) { _mm_sfence(); }

#else

static void copyStreaming(row_out to, row_in from, int64_t bytes) { copyCached(to, from, bytes); }
static void combineWide(
    row_out to, const row_in* rows, int32_t count, int64_t bytes, bool streaming) {
    (void)streaming;
    combineNarrow(to, rows, count, 0, bytes);
}
static bool isWide(void) { return false; }
static void fence(void) {}

#endif

// ------------------------------------------------------------------------------------------------
// Steps

/// Rows of one item, at most: a token's destinations, of which a world has at most 256.
enum { kMostRows = 256 };

static void scatter(const roofline_step* step, int64_t begin, int64_t end, bool streaming) {
    const bool wide = streaming && isWide();
    for (int64_t item = begin; item < end; ++item) {
        const row_in from =
            (row_in)(uintptr_t)step->source + item % step->item_rows * step->row_bytes;
        for (int32_t at = step->first[item]; at < step->first[item + 1]; ++at) {
            const row_out to =
                (row_out)(uintptr_t)step->destination + step->list[at] * step->row_bytes;
            if (wide) {
                copyStreaming(to, from, step->row_bytes);
            } else {
                copyCached(to, from, step->row_bytes);
            }
        }
    }
}

static void gather(const roofline_step* step, int64_t begin, int64_t end, bool streaming) {
    const bool wide = isWide();
    row_in rows[kMostRows];
    for (int64_t item = begin; item < end; ++item) {
        int32_t count = 0;
        for (int32_t at = step->first[item]; at < step->first[item + 1]; ++at) {
            if (count == kMostRows) break;
            rows[count++] = (row_in)(uintptr_t)step->source + step->list[at] * step->row_bytes;
        }
        const row_out to =
            (row_out)(uintptr_t)step->destination + item % step->item_rows * step->row_bytes;
        if (wide) {
            combineWide(to, rows, count, step->row_bytes, streaming);
        } else {
            combineNarrow(to, rows, count, 0, step->row_bytes);
        }
    }
}

// ------------------------------------------------------------------------------------------------
// Threads

/// Where threads wait until all are there, or until one could not be made.
typedef struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum { GATE_CLOSED, GATE_OPEN, GATE_CANCELLED } state;
} gate;

typedef struct worker {
    const roofline_step* steps;
    int32_t count;
    int32_t index;
    int32_t threads;
    bool streaming;
    gate* start;
    pthread_t thread;
    int64_t began;
    int64_t ended;
} worker;

int64_t roofline_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void roofline_wait_until(int64_t time) {
    const int64_t sleeps = time - 1000000;
    const struct timespec until = {sleeps / 1000000000, sleeps % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) continue;
    while (roofline_now() < time) sched_yield();
}

static bool passes(gate* start) {
    pthread_mutex_lock(&start->mutex);
    while (start->state == GATE_CLOSED) pthread_cond_wait(&start->changed, &start->mutex);
    const bool isOpen = start->state == GATE_OPEN;
    pthread_mutex_unlock(&start->mutex);
    return isOpen;
}

static void* work(void* argument) {
    worker* self = argument;
    if (!passes(self->start)) return NULL;
    self->began = roofline_now();
    for (int32_t index = 0; index < self->count; ++index) {
        const roofline_step* step = self->steps + index;
        const int64_t begin = step->items * self->index / self->threads;
        const int64_t end = step->items * (self->index + 1) / self->threads;
        if (step->kind == ROOFLINE_SCATTER) {
            scatter(step, begin, end, self->streaming);
        } else {
            gather(step, begin, end, self->streaming);
        }
    }
    if (self->streaming) fence();
    self->ended = roofline_now();
    return NULL;
}

int32_t roofline_run(const roofline_step* steps,
                     int32_t count,
                     int32_t threads,
                     bool streaming,
                     int64_t* began,
                     int64_t* ended) {
    worker* workers = calloc((size_t)threads, sizeof *workers);
    if (workers == NULL) return ENOMEM;
    gate start = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, GATE_CLOSED};
    int32_t failure = 0;
    int32_t made = 1;  // the caller is the first
    for (int32_t index = 0; index < threads; ++index) {
        workers[index] = (worker){.steps = steps,
                                  .count = count,
                                  .index = index,
                                  .threads = threads,
                                  .streaming = streaming,
                                  .start = &start};
    }
    for (; made < threads && failure == 0; made += failure == 0) {
        failure = pthread_create(&workers[made].thread, NULL, work, &workers[made]);
    }
    pthread_mutex_lock(&start.mutex);
    start.state = failure == 0 ? GATE_OPEN : GATE_CANCELLED;
    pthread_cond_broadcast(&start.changed);
    pthread_mutex_unlock(&start.mutex);
    work(&workers[0]);
    for (int32_t index = 1; index < made; ++index) pthread_join(workers[index].thread, NULL);
    *began = workers[0].began;
    *ended = workers[0].ended;
    for (int32_t index = 1; index < made; ++index) {
        if (workers[index].began < *began) *began = workers[index].began;
        if (workers[index].ended > *ended) *ended = workers[index].ended;
    }
    free(workers);
    return failure;
}

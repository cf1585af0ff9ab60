// What a traced kernel leaves behind: records in pinned memory, one for a phase's begin or end, a
// signal, or the end of a wait; never one for a row.
#ifndef MORIEP_TRACE_H
#define MORIEP_TRACE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum moriep_trace_kind {
    MORIEP_TRACE_BEGIN = 0,    ///< of a phase, by one warp
    MORIEP_TRACE_END = 1,      ///< of the last one of that name that this warp began
    MORIEP_TRACE_SIGNAL = 2,   ///< this rank tells `peer`; `phase` is the wait that this ends there
    MORIEP_TRACE_CAME = 3,     ///< what `peer` told has been seen here
    MORIEP_TRACE_GAVE_UP = 4,  ///< the wait for `peer` ended without it
    MORIEP_TRACE_VALUE = 5,    ///< the upper 30 bits are a number: what, `phase` says
} moriep_trace_kind;

/// 1 to 8 are waits, as in moriep_phase; from 16 on the launches of the verbs.
typedef enum moriep_trace_phase {
    MORIEP_TRACE_DISPATCH_BEGIN = 16,
    MORIEP_TRACE_DISPATCH_COUNT = 17,
    MORIEP_TRACE_DISPATCH_ORDER = 18,
    MORIEP_TRACE_DISPATCH_SEND = 19,
    MORIEP_TRACE_DISPATCH_PLACE = 20,
    MORIEP_TRACE_DISPATCH_AWAIT = 21,
    MORIEP_TRACE_DISPATCH_FORWARD = 22,
    MORIEP_TRACE_DISPATCH_RECEIVE = 23,
    MORIEP_TRACE_DISPATCH_UNPACK = 24,
    MORIEP_TRACE_COMBINE_SEND = 25,
    MORIEP_TRACE_COMBINE_WAIT = 26,
    MORIEP_TRACE_COMBINE_FORWARD = 27,
    MORIEP_TRACE_COMBINE_OWN = 28,
    MORIEP_TRACE_COMBINE_RECEIVE = 29,
    MORIEP_TRACE_COMBINE_REDUCE = 30,
    MORIEP_TRACE_COUNT_EXPERTS = 31,
    MORIEP_TRACE_PACK_EXPERTS = 32,
    MORIEP_TRACE_SUM_EXPERTS = 33,
    MORIEP_TRACE_RECEIVED_ROWS = 34,  ///< a value: rows that this round received
} moriep_trace_phase;

/// 16 bytes. `what` from its lowest bit on:
///   kind 3 | phase 6 | slot 4 | warp 5 | epoch 16 | peer 9 | index 10 | block 11
/// `index` tells words of one source in one phase apart: a chunk, or a queue pair, modulo 1024.
typedef struct moriep_trace_record {
    uint64_t time_ns;  ///< of the device's clock; stored last: 0: never written
    uint64_t what;
} moriep_trace_record;

/// Lies in device memory; behind it u32 [expert_count], how often this rank's tokens chose each
/// expert.
typedef struct moriep_trace {
    uint64_t records;  ///< device address of moriep_trace_record [capacity], pinned
    uint64_t capacity;
    uint64_t claimed;  ///< records begun so far; those from `capacity` on found no room
    uint64_t reserved;
} moriep_trace;

#ifdef __cplusplus
}
#endif

#endif

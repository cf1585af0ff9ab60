// What an operator is to its kernels: shape, layout, rings, failures and launches, as plain
// structs.
//
// The second half of the C ABI; moriep.h is the first, and includes this one.
#ifndef MORIEP_OPERATOR_H
#define MORIEP_OPERATOR_H

#include <stddef.h>
#include <stdint.h>

#include "moriep_trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The largest world that a kernel's set of ranks can name.
#define MORIEP_MAX_RANKS 256
/// Ranks of a node, at most, for the kernels between nodes: a set of them is one word.
#define MORIEP_MAX_NODE_RANKS 64
/// Nodes of a world, at most, for these kernels.
#define MORIEP_MAX_NODES 64
/// Tokens of one chunk: what InterNodeV1 and InterNodeV1LL send as one write and one word.
#define MORIEP_CHUNK_TOKENS 64
/// Descriptor rings of a rank, at most, and 8-byte words of a descriptor.
#define MORIEP_MAX_RINGS 8
#define MORIEP_DESCRIPTOR_WORDS 4

// ---------------------------------------------------------------------------------------------
// Kinds

typedef enum moriep_element_type {
    MORIEP_BFLOAT16 = 0,
    MORIEP_FLOAT32 = 1,
    MORIEP_FLOAT16 = 2,
    MORIEP_FLOAT8_E4M3 = 3,      ///< OCP
    MORIEP_FLOAT8_E4M3FNUZ = 4,  ///< gfx940's
    MORIEP_FLOAT8_E5M2 = 5,      ///< OCP
    MORIEP_FLOAT4_E2M1 = 6,      ///< OCP, two in a byte
} moriep_element_type;

/// What combine sends in place of bf16 rows. Values are the original's.
typedef enum moriep_quantization {
    MORIEP_QUANTIZATION_NONE = 0,
    MORIEP_QUANTIZATION_FP8_DIRECT_CAST = 1,  ///< OCP E4M3, saturating, without scales
    MORIEP_QUANTIZATION_FP8_BLOCKWISE = 2,    ///< OCP E4M3, an fp32 scale a block
    MORIEP_QUANTIZATION_FP4_BLOCKWISE = 3,    ///< OCP E2M1, an fp32 scale a block
} moriep_quantization;

/// Values are the guide's.
typedef enum moriep_kernel_type {
    MORIEP_INTRANODE = 0,
    MORIEP_INTERNODE = 1,
    MORIEP_INTERNODE_V1 = 2,
    MORIEP_INTERNODE_V1LL = 3,
    MORIEP_ASYNC_LL = 4,
} moriep_kernel_type;

typedef enum moriep_verb {
    MORIEP_VERB_DISPATCH = 0,
    MORIEP_VERB_COMBINE = 1,
    MORIEP_VERB_RECEIVED = 2,  ///< moriep_received_work: no other rank is involved
} moriep_verb;

/// Which half of a verb a launch runs.
typedef enum moriep_half {
    MORIEP_HALF_SEND = 1,
    MORIEP_HALF_RECEIVE = 2,
    MORIEP_HALF_BOTH = 3,
} moriep_half;

// ---------------------------------------------------------------------------------------------
// Shape and layout of an operator

/// What the layout of an operator's buffers depends on; the same on every rank.
typedef struct moriep_shape {
    int32_t kernel_type;   ///< moriep_kernel_type
    int32_t world_size;    ///< 1 to MORIEP_MAX_RANKS
    int32_t max_tokens;    ///< input tokens per rank, at most
    int32_t max_received;  ///< rows of the receive buffers, 1 to world_size * max_tokens
    int32_t experts_per_rank;
    int32_t expert_count;        ///< of all ranks; ids from here on are dropped
    int32_t top_k;               ///< experts per token
    int32_t slots;               ///< rounds in flight
    int32_t node_ranks;          ///< ranks of a node; the last node may have fewer
    int32_t queue_pairs;         ///< to each peer
    int32_t landing_sections;    ///< sources whose packets land at one rank, at most
    int32_t rings;               ///< descriptor rings, 0 to MORIEP_MAX_RINGS; 0: no network
    int32_t ring_entries;        ///< descriptors of one ring, a power of two
    int32_t expert_map;          ///< 1: experts live where `expert_ranks` says
    int32_t is_ordered;          ///< 1: IntraNode receives in order of source rank, then token
    int32_t overflow_fails;      ///< 1: a round with more rows than max_received is void
    int32_t quantization;        ///< moriep_quantization of combine
    int32_t quantization_block;  ///< elements of a block, a power of two from 32 to 256
    int64_t dispatch_row_bytes;  ///< hidden * element size, at most
    int64_t combine_row_bytes;
    int64_t scale_bytes;  ///< scales of one token; 0: none
} moriep_shape;

/// Byte offsets inside one slot's block. Kernels/Layout/Layout.h computes them.
typedef struct moriep_layout {
    // Symmetric: the same offset on every rank.
    uint64_t dispatch_signals;  ///< u64 [2][world_size], signal words
    uint64_t combine_signals;   ///< u64 [2][world_size], signal words
    uint64_t barrier_signals;   ///< u64 [2][world_size], signal words
    uint64_t count_signals;     ///< ordered: u64 [2][sources][destinations], signal words
    uint64_t slot_counters;     ///< u64 [2], 64 bytes apart
    uint64_t call_records;      ///< moriep_call [2 verbs][2]
    uint64_t words_end;         ///< bytes to zero at construction
    uint64_t received_tokens;   ///< [max_received][dispatch_row_bytes]
    uint64_t received_weights;  ///< f32 [max_received][top_k]
    uint64_t received_scales;   ///< [max_received][scale_bytes]
    uint64_t received_indices;  ///< i32 [max_received][top_k]
    uint64_t received_sources;  ///< i32 [max_received], rank * max_tokens + token
    uint64_t combine_input;  ///< [max(max_received, world_size * max_tokens)][row], plain or wire
    uint64_t combine_input_weights;  ///< f32 [the same rows][top_k]
    // Of these, what only the kernels between nodes have (empty otherwise):
    uint64_t barrier_end_signals;      ///< u64 [2][world_size], signal words
    uint64_t chunk_signals;            ///< V1: u64 [2][landing_sections][chunks], chunk words
    uint64_t combine_chunk_signals;    ///< V1: u64 [2][nodes][chunks], chunk words
    uint64_t section_signals;          ///< others: u64 [2][world_size][queue_pairs], signal words
    uint64_t combine_section_signals;  ///< others: the same
    uint64_t landing;          ///< dispatch packets as they come in: [landing_sections][rows]
    uint64_t staging;          ///< dispatch packets on their way: [remote nodes or ranks][rows]
    uint64_t combine_landing;  ///< combine packets as they come in: [nodes or ranks][rows]
    uint64_t combine_staging;  ///< combine packets on their way
    uint64_t symmetric_slot_bytes;

    // Local to the rank's device.
    uint64_t control;             ///< moriep_control
    uint64_t peer_waits;          ///< u64 [world_size], ns that warps have waited for each rank
    uint64_t destination_counts;  ///< u32 [world_size]
    uint64_t destination_ranks;   ///< u64 [max_tokens][ceil(world_size / 64)], a set of ranks
    uint64_t destination_slots;   ///< i32 [max_tokens][min(top_k, world_size)]; -1: dropped
    // V1: destination_ranks is u64 [max_tokens], a set of ranks of the own node.
    uint64_t destination_nodes;  ///< V1: u64 [max_tokens], a set of nodes, the own one included
    uint64_t node_rows;          ///< V1: i32 [max_tokens][min(top_k, nodes)], row of a section
    uint64_t chunk_counts;       ///< V1: i32 [nodes][chunks], rows sent in each chunk
    uint64_t forward_ranks;      ///< V1: u64 [landing_sections][rows], a set of the own node's
    uint64_t forward_slots;      ///< V1: i32 [landing_sections][rows][min(top_k, node_ranks)]
    uint64_t chunk_arrivals;     ///< V1: u32 [landing_sections + 1][chunks], parts finished
    uint64_t own_partials;       ///< V1: [max_tokens], sums over the own node
    uint64_t section_counts;     ///< others: i32 [2][world_size], rows sent to and come from each
    uint64_t section_rows;       ///< others: i32 [max_received], row of its source's section
    uint64_t active_ranks;       ///< i32 [world_size], 1: takes part in rounds; 0: masked
    uint64_t proxies;            ///< V1: i32 [nodes], who takes this rank's packets; -1: nobody
    uint64_t proxy_sections;     ///< V1: i32 [nodes], and in which of its sections
    uint64_t section_sources;    ///< V1: i32 [landing_sections], who sends to each; -1: nobody
    uint64_t
        expert_ranks;  ///< with a map: i32 [expert_count], where each expert lives; -1: nowhere
    uint64_t expert_places;   ///< with a map: i32 [expert_count], its place among its rank's
    uint64_t order_bases;     ///< ordered: i32 [world_size], first slot at each rank
    uint64_t standard_slots;  ///< i32 [max_received][top_k], row in the packed layout; -1: none
    uint64_t routes_begin;    ///< from here to routes_end: what a replay needs of a round
    uint64_t routes_end;
    uint64_t local_zero_end;          ///< bytes to zero at construction
    uint64_t combine_output;          ///< [max_tokens][combine_row_bytes]
    uint64_t combine_output_weights;  ///< f32 [max_tokens][top_k]
    uint64_t local_slot_bytes;

    // Of all slots together.
    uint64_t symmetric_bytes;
    uint64_t ring_tails;  ///< local: u32 [rings], 64 bytes apart: tickets taken
    uint64_t local_bytes;
    // Pinned host memory; the moriep_failure lies at its begin.
    uint64_t ring_consumed;     ///< u64 [rings], 64 bytes apart: see moriep_count_word
    uint64_t slot_completed;    ///< u64 [slots], 64 bytes apart: see moriep_count_word
    uint64_t ring_descriptors;  ///< u64 [rings][ring_entries][MORIEP_DESCRIPTOR_WORDS]
    uint64_t pinned_bytes;
} moriep_layout;

// ---------------------------------------------------------------------------------------------
// Rings: what kernels ask the proxy to send (Kernels/Shmem/Ring.h, Sources/MoriShmem/Proxy)
//
// A descriptor is four 8-byte words; bit 63 of each is the lap: 1 in the first turn around the
// ring, 0 in the second, and so on. The proxy takes a slot of the ring only when all four agree,
// and never clears it. The ring is zeroed once, at construction. Offsets are bytes from the begin
// of a rank's symmetric memory, the same layout on every rank.
//
//   word 0   lap 1 | payload bytes 31 | offset of the signal word / 8: 32
//   word 1   lap 1 | has a word 1 | verb 1 | slot 4 | queue 6 | phase 3 | source offset 48
//   word 2   lap 1 | bit 63 of the value 1 | 0: 2 | peer 12 | destination offset 48
//   word 3   lap 1 | bits 62 to 0 of the value
//
// The payload (none when its bytes are 0) is written first, then the word, on one queue pair: who
// sees the word sees the payload. `phase` is the number of times that this rank had awaited the
// network before in this verb, and one more. No payload and no word: nothing to do.
//
// A count word is a number of descriptors modulo 2^32, in the upper half of 8 bytes, where waiting
// host threads sleep on it. `ring_consumed`: taken from a ring; the slot may be stored to again.
// `slot_completed`: of a slot of the operator, those whose source memory may be stored to again.
// Both are the proxy's to store.

/// State of one slot that lives on the device, so that replayed graphs see it change.
typedef struct moriep_control {
    uint32_t epoch;           ///< round of the last dispatch begun; the first is 1
    uint32_t combined_epoch;  ///< last round whose combine passed its handshake
    int32_t token_count;      ///< own tokens of the round in force
    int32_t received_count;   ///< rows valid in the receive buffers
    int32_t dropped_count;    ///< rows that found no slot at their destination, this round
    int32_t failed;           ///< not 0: this round is void
    uint32_t dispatch_blocks_finished;
    uint32_t combine_blocks_finished;
    uint32_t failure_elected;  ///< slot 0's: not 0 once some warp owns the failure record
    uint32_t reserved;
    uint64_t timeout_ns;        ///< deadline of a wait, from the wait's own start
    uint64_t first_timeout_ns;  ///< the same until the first round is through: ranks start late
    uint32_t descriptors;       ///< pushed for this slot so far, modulo 2^32
    uint32_t phase;             ///< times that this verb has awaited the network
    uint32_t forward_blocks_finished;
    uint32_t reserved2;
    uint64_t trace;  ///< device address of a moriep_trace; 0: nobody takes one
} moriep_control;

// ---------------------------------------------------------------------------------------------
// Failures

typedef enum moriep_phase {
    MORIEP_PHASE_NONE = 0,
    MORIEP_PHASE_ROUND_BARRIER = 1,  ///< before a dispatch whose predecessor was not combined
    MORIEP_PHASE_DISPATCH_RECEIVE = 2,
    MORIEP_PHASE_COMBINE_READY = 3,
    MORIEP_PHASE_DISPATCH_FORWARD = 4,  ///< a chunk from another node
    MORIEP_PHASE_COMBINE_RECEIVE = 5,   ///< partial sums from another node
    MORIEP_PHASE_STAGING = 6,           ///< until the network has read the last round's packets
    MORIEP_PHASE_RING = 7,              ///< room in a descriptor ring
    MORIEP_PHASE_DISPATCH_ORDER = 8,    ///< how many rows each rank sends to each
} moriep_phase;

typedef enum moriep_failure_reason {
    MORIEP_FAILURE_NONE = 0,
    MORIEP_FAILURE_TIMED_OUT = 1,    ///< the word never came
    MORIEP_FAILURE_LATER_EPOCH = 2,  ///< the peer is in another round
    MORIEP_FAILURE_OTHER_CALL = 3,   ///< the peer called with other types or shapes
    MORIEP_FAILURE_ABORTED = 4,      ///< this rank or a peer raised the abort word
    MORIEP_FAILURE_TOKEN_COUNT = 5,  ///< the device-side token count is out of range
    MORIEP_FAILURE_INPUT_ROWS = 6,   ///< combine's input has fewer rows than were received
    MORIEP_FAILURE_RESOURCES = 7,    ///< the host device had no memory or threads for a launch
    MORIEP_FAILURE_OVERFLOW = 8,     ///< more rows came than there is room for
} moriep_failure_reason;

/// What a rank called with, so that ranks that disagree can be told so.
typedef struct moriep_call {
    uint32_t epoch;
    int32_t verb;          ///< moriep_verb
    int32_t element_type;  ///< moriep_element_type
    int32_t hidden;        ///< elements of a row
    int32_t top_k;
    int32_t scale_bytes;
    int32_t has_weights;
    int32_t external_input;  ///< combine: 1 external, 0 the registered buffer
    int32_t replays;         ///< dispatch: 1: to the slots of a recorded round
    int32_t quantization;  ///< moriep_quantization; dispatch: blockwise to `element_type`, or none
} moriep_call;

/// Written once, by the first warp of an operator that fails; lies in pinned host memory.
typedef struct moriep_failure {
    uint32_t state;    ///< 0 none, 1 complete (stored last, with release)
    uint32_t reason;   ///< moriep_failure_reason
    uint32_t phase;    ///< moriep_phase
    int32_t rank;      ///< who waited
    int32_t peer;      ///< for whom; with `aborted`, the rank that caused it, -1 unknown
    int32_t reporter;  ///< whose abort word was seen; -1 none
    uint32_t epoch;
    uint32_t slot;
    uint64_t expected;
    uint64_t found;
    uint64_t waited_ns;
    uint64_t waits_for[4];  ///< set of ranks whose words had not come, bit r % 64 of word r / 64
    uint32_t cause;         ///< with `aborted`, the reason in the abort word that was seen
    uint32_t reserved;
    moriep_call own_call;
    moriep_call peer_call;
} moriep_failure;

/// Abort word: reason (32) | culprit rank + 1 (32); 0: not raised. The reason is that of the first
/// rank that failed: who is told passes on what it was told.
/// `abort_words` of a world: u64 [world_size] in symmetric memory, word w written by rank w only.

// ---------------------------------------------------------------------------------------------
// Launches

/// The part of a launch that an operator keeps: where its buffers are.
typedef struct moriep_operator {
    moriep_shape shape;
    moriep_layout layout;
    int32_t rank;
    int32_t slot;
    uint64_t peers;        ///< device address of u64 [world_size]: each rank's symmetric block
    uint64_t abort_peers;  ///< device address of u64 [world_size]: each rank's abort words
    uint64_t host_abort;   ///< pinned u64: abort word of this rank's own host
    uint64_t local;        ///< this rank's local block
    uint64_t failure;      ///< pinned moriep_failure, at the begin of the pinned block
    uint64_t doorbell;     ///< pinned u64 of the proxy, on the host device; 0: none. Low half: 1
                           ///< while it sleeps; upper half: counts those who then woke it
    int32_t words_wake;    ///< whether words from other nodes wake host threads that await them
    int32_t reserved;
} moriep_operator;

typedef struct moriep_launch {
    int32_t blocks;
    int32_t warps_per_block;
    int32_t rdma_blocks;
    int32_t
        traced;  ///< 1: by the kernels that leave records in their slot's trace (moriep_trace.h)
} moriep_launch;

typedef struct moriep_dispatch_arguments {
    moriep_operator op;
    moriep_launch launch;
    moriep_call call;            ///< epoch is filled in on the device
    uint32_t signature;          ///< 8 bits over `call`
    int32_t token_count;         ///< rows of `tokens`
    int64_t row_bytes;           ///< as sent and received; at most the shape's
    int64_t input_row_bytes;     ///< of `tokens`; bf16's where the call quantizes
    uint64_t valid_token_count;  ///< device address of an i32 that replaces token_count; 0: none
    uint64_t tokens;
    uint64_t weights;  ///< 0: none
    uint64_t scales;   ///< 0: none
    uint64_t indices;
    uint64_t timeout_ns;  ///< of this call; 0: the operator's
    int32_t half;         ///< moriep_half
    int32_t reserved;
} moriep_dispatch_arguments;

typedef struct moriep_combine_arguments {
    moriep_operator op;
    moriep_launch launch;
    moriep_call call;
    uint32_t signature;
    int32_t input_rows;  ///< rows of the experts' output and `weights`, the fewer
    int64_t row_bytes;
    uint64_t input;    ///< external input; 0: the registered buffer
    uint64_t weights;  ///< of the received tokens; 0: none
    uint64_t timeout_ns;
    int32_t half;  ///< moriep_half
    int32_t reserved;
} moriep_combine_arguments;

/// What is done with received rows on their own rank: no other is involved.
typedef enum moriep_received_work {
    MORIEP_COUNT_EXPERTS = 0,  ///< `counts`: pairs of a row and one of this rank's experts
    MORIEP_PACK_EXPERTS = 1,   ///< rows to `packed`, grouped by expert, in the order of rows
    MORIEP_SUM_EXPERTS = 2,    ///< `packed` to `output`: weighted sums over a row's experts
} moriep_received_work;

typedef struct moriep_received_arguments {
    moriep_operator op;
    moriep_launch launch;
    int32_t work;          ///< moriep_received_work
    int32_t element_type;  ///< moriep_element_type, for sums
    int32_t capacity;      ///< rows of each expert in the packed layout
    int32_t reserved;
    int64_t row_bytes;
    int64_t scale_bytes;      ///< of one row; 0: none
    uint64_t tokens;          ///< [max_received][row_bytes]
    uint64_t indices;         ///< i32 [max_received][top_k]
    uint64_t weights;         ///< f32 [max_received][top_k]
    uint64_t scales;          ///< [max_received][scale_bytes]
    uint64_t packed;          ///< [experts_per_rank][capacity][row_bytes]
    uint64_t packed_scales;   ///< [experts_per_rank][capacity][scale_bytes]
    uint64_t packed_sources;  ///< i32 [experts_per_rank][capacity]
    uint64_t counts;          ///< i32 [experts_per_rank]
    uint64_t overflow;        ///< i32 [experts_per_rank], rows that found no room
    uint64_t output;          ///< [max_received][row_bytes]
} moriep_received_arguments;

#ifdef __cplusplus
}
#endif

#endif

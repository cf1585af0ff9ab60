// What traced kernels leave behind (moriep_trace.h). In the kernels that nobody traces, every
// function here is empty.
//
// Records are a warp's: phases by one lane, what a lane has awaited by that lane. A record takes
// its place by one addition in device memory and goes into pinned memory, which the host reads when
// the work is done.
#pragma once

#include "Shmem/Operator.h"

namespace MORI_KERNELS {

#if MORI_TRACED
constexpr bool kTraced = true;
#else
constexpr bool kTraced = false;
#endif

namespace trace {

/// Where a traced operator's slot keeps its records; null when nobody takes a trace any more.
MORI_DEVICE moriep_trace* of(const Operator& op) {
    return pointer<moriep_trace>(op.control()->trace);
}

/// One record; what finds no room is counted.
MORI_DEVICE void store(const Operator& op, uint64_t time, uint64_t what) {
    moriep_trace* trace = of(op);
    if (trace == nullptr) return;
    const uint64_t place = machine::addCount(&trace->claimed, 1);
    if (place >= trace->capacity) return;
    machine::storeRecord(pointer<moriep_trace_record>(trace->records) + place, time, what);
}

/// The lower 34 bits of a record.
MORI_DEVICE uint64_t whatOf(const Operator& op, int kind, int phase) {
    return uint64_t(kind) | uint64_t(phase) << 3 | uint64_t(op.slot() & 15) << 9 |
           uint64_t(machine::warpOfBlock() & 31) << 13 |
           uint64_t(op.control()->epoch & 0xFFFFu) << 18;
}

/// A record about a peer, or about none: -1.
MORI_DEVICE void record(
    const Operator& op, int kind, int phase, int peer, int index, uint64_t time) {
    const uint64_t what = whatOf(op, kind, phase) | uint64_t(peer & 0x1FF) << 34 |
                          uint64_t(index & 0x3FF) << 43 |
                          uint64_t(machine::blockOfGrid() & 0x7FF) << 53;
    store(op, time, what);
}

/// A warp begins or ends a phase.
template <class AnyWarp>
MORI_DEVICE void mark(const AnyWarp& warp, const Operator& op, int kind, int phase) {
    if constexpr (kTraced) {
        warp.elect([&](const auto&) { record(op, kind, phase, -1, 0, machine::now()); });
    }
}

/// One lane is about to tell `peer` what ends its wait of `phase`.
template <int phase>
MORI_DEVICE void signal(const Operator& op, int peer, int index) {
    if constexpr (kTraced) {
        record(op, MORIEP_TRACE_SIGNAL, phase, peer, index, machine::now());
    }
}

/// One lane's wait for `peer` has ended.
MORI_DEVICE void came(const Operator& op, bool came, int phase, int peer, int index) {
    if constexpr (kTraced) {
        const int kind = came ? MORIEP_TRACE_CAME : MORIEP_TRACE_GAVE_UP;
        record(op, kind, phase, peer, index, machine::now());
    }
}

/// One lane waited from `start` until now, for its own network; 0: it did not have to.
MORI_DEVICE void waited(const Operator& op, int phase, uint64_t start) {
    if constexpr (kTraced) {
        if (start == 0) return;
        record(op, MORIEP_TRACE_BEGIN, phase, -1, 0, start);
        record(op, MORIEP_TRACE_END, phase, -1, 0, machine::now());
    }
}

/// One lane has learnt a number.
MORI_DEVICE void value(const Operator& op, int phase, int64_t number) {
    if constexpr (kTraced) {
        const uint64_t clamped = number < 0x3FFFFFFF ? static_cast<uint64_t>(number) : 0x3FFFFFFF;
        store(op, machine::now(), whatOf(op, MORIEP_TRACE_VALUE, phase) | clamped << 34);
    }
}

/// Which word of a wait is meant, where a source has one only.
struct OneWord {
    MORI_DEVICE int operator()(int) const { return 0; }
};

/// Counts how often this rank's tokens chose each expert; every warp of a grid has its part.
MORI_DEVICE void countExperts(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    moriep_trace* trace = of(op);
    if (trace == nullptr || op.failed()) return;
    uint32_t* counts = reinterpret_cast<uint32_t*>(trace + 1);
    const int* experts = pointer<const int>(arguments.indices);
    const int warps = block.count() * block.warps();
    const int warp = block.index() * block.warps() + block.warp().index();
    const int64_t pairs = int64_t(op.control()->token_count) * op.shape().top_k;
    const Range range = Range::part(pairs, warp, warps);
    // Rounds of other slots may run at the same time.
    const bool isAlone = warps == 1 && op.shape().slots == 1;
    block.warp().each(static_cast<int>(range.end - range.begin), [&](int i, const WarpOnce&) {
        const int expert = experts[range.begin + i];
        if (expert >= 0 && expert < op.shape().expert_count)
            machine::countExpert(counts + expert, isAlone);
    });
}

/// What a traced grid counts beside its work: only dispatches read experts.
template <int phase, class Arguments>
MORI_DEVICE void countBeside(Block&, const Arguments&) {}
template <int phase>
MORI_DEVICE void countBeside(Block& block, const moriep_dispatch_arguments& arguments) {
    // An ordered dispatch has counted rows before it sends them.
    const bool isOrdered = arguments.op.shape.is_ordered != 0 && arguments.call.replays == 0;
    constexpr bool counts = phase == MORIEP_TRACE_DISPATCH_COUNT;
    constexpr bool sends = phase == MORIEP_TRACE_DISPATCH_SEND;
    if (counts || (sends && !isOrdered)) countExperts(block, arguments);
}

/// What stands before a kernel, and behind it.
template <int phase, class Arguments>
MORI_DEVICE void begin(Block& block, const Arguments& arguments) {
    mark(block.warp(), Operator(arguments.op), MORIEP_TRACE_BEGIN, phase);
    countBeside<phase>(block, arguments);
}
template <int phase, class Arguments>
MORI_DEVICE void end(Block& block, const Arguments& arguments) {
    mark(block.warp(), Operator(arguments.op), MORIEP_TRACE_END, phase);
}

/// A kernel between the two.
template <int phase, class Arguments, class Kernel>
MORI_DEVICE void run(Block& block, const Arguments& arguments, Kernel&& kernel) {
    begin<phase>(block, arguments);
    kernel(block, arguments);
    end<phase>(block, arguments);
}

}  // namespace trace
}  // namespace MORI_KERNELS

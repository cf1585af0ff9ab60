#include "Runtime/Host/Stream/Launch.h"

#include <exception>

#include "Device/ElementList.h"
#include "Runtime/BlockMemory.h"
#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Memory/Copy.h"
#include "Runtime/Host/Stream/TracedLaunch.h"
#include "Runtime/Host/Stream/Verbs.h"

namespace mori::host {
namespace {

moriep_status checkLaunch(const moriep_operator& op, const moriep_launch& launch, int verb) {
    if (!isKernelType(op.shape.kernel_type)) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "kernel type %d", op.shape.kernel_type);
    }
    if (launch.blocks < 1 || launch.warps_per_block < 1) {
        return fail(MORIEP_INVALID_ARGUMENT,
                    0,
                    "a grid of %d blocks of %d warps",
                    launch.blocks,
                    launch.warps_per_block);
    }
    if (int64_t(launch.blocks) * launch.warps_per_block > kMaxResidentWarps) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%d blocks of %d warps; the host device holds %d warps at once",
                    launch.blocks,
                    launch.warps_per_block,
                    kMaxResidentWarps);
    }
    const uint64_t bytes = blockMemoryBytes(verb, op.shape, launch.warps_per_block);
    if (bytes > kSharedBytes) {
        return fail(MORIEP_NOT_RESIDENT,
                    0,
                    "%llu bytes of block memory for %d warps a block; a block has %zu",
                    static_cast<unsigned long long>(bytes),
                    launch.warps_per_block,
                    kSharedBytes);
    }
    return MORIEP_SUCCESS;
}

/// Rows that together outgrow the last-level cache are stored past it. All ranks of a node share
/// that cache, so the world's rows count.
bool outgrowsCache(const moriep_shape& shape, int64_t rows, int64_t rowBytes) {
    const int64_t copies = maxDestinations(shape);
    return races::streamsAlways() || rows * copies * rowBytes * shape.world_size >
                                         static_cast<int64_t>(lastLevelCacheBytes());
}

/// A launch for which memory or threads were missing leaves a void round, not a dead process. It is
/// found before any warp runs. The launches that would have told the caller's buffers so are not
/// run either, hence `leave`.
template <class F>
void failForResources(const moriep_operator& fields, int phase, F&& leave) {
    Block::runAlone([&](const BlockWarp& warp) {
        const Operator op(fields);
        const Verdict verdict{MORIEP_FAILURE_RESOURCES, op.rank(), -1, 0, 0, 0, 0};
        warp.elect([&](const BlockOnce& once) {
            failRound(op, phase, op.control()->epoch, verdict, nullptr, nullptr, once);
        });
        leave(warp, op);
    });
}

/// A dispatch without launches received nothing.
void leaveNothingReceived(const BlockWarp&, const Operator& op) {
    op.control()->received_count = 0;
}

/// A combine without launches fills what it was to sum with NaN, as combineReduce would.
template <class Element>
void fillVoidSums(const BlockWarp& warp,
                  const Operator& op,
                  const moriep_combine_arguments& arguments) {
    const int64_t tokens = op.control()->token_count;
    fillVoid<Element>(warp,
                      pointer<typename Element::Storage>(op.local(op.layout().combine_output)),
                      {0, tokens * arguments.row_bytes / static_cast<int64_t>(Element::kBytes)});
    if (arguments.call.has_weights == 0) return;
    fillVoid<Float32>(warp,
                      pointer<float>(op.local(op.layout().combine_output_weights)),
                      {0, tokens * op.shape().top_k});
}
void leaveVoidSums(const BlockWarp& warp,
                   const Operator& op,
                   const moriep_combine_arguments& arguments) {
    if (arguments.call.quantization != MORIEP_QUANTIZATION_NONE) {
        return fillVoidSums<BFloat16>(warp, op, arguments);
    }
    switch (arguments.call.element_type) {
#define MORI_VOID(type, Element, number, ...) \
    case number:                              \
        return fillVoidSums<Element>(warp, op, arguments);
        MORI_FOR_ELEMENTS(MORI_VOID)
#undef MORI_VOID
    }
}

}  // namespace

moriep_status checkDispatch(const moriep_dispatch_arguments& arguments) {
    const int32_t type = arguments.call.element_type;
    if (arguments.call.quantization != MORIEP_QUANTIZATION_NONE && castOf(type) < 0) {
        return fail(MORIEP_NOT_SUPPORTED, 0, "a dispatch that quantizes to type %d", type);
    }
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_DISPATCH);
}

moriep_status checkCombine(const moriep_combine_arguments& arguments) {
    const int32_t type = arguments.call.element_type;
    if (!isElementType(type)) return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", type);
    if (!isQuantization(arguments.call.quantization, type)) {
        return fail(MORIEP_NOT_SUPPORTED,
                    0,
                    "quantization %d of element type %d",
                    arguments.call.quantization,
                    type);
    }
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_COMBINE);
}

moriep_status checkReceived(const moriep_received_arguments& arguments) {
    const int32_t type = arguments.element_type;
    if (!isElementType(type)) return fail(MORIEP_NOT_SUPPORTED, 0, "element type %d", type);
    return checkLaunch(arguments.op, arguments.launch, MORIEP_VERB_RECEIVED);
}

void runReceived(GridRunner& grid, const moriep_received_arguments& arguments) try {
    if (arguments.launch.traced != 0) return runTracedReceived(grid, arguments);
    verbs::received(grid, arguments);
} catch (const std::exception&) {
    failForResources(
        arguments.op, MORIEP_PHASE_DISPATCH_RECEIVE, [](const BlockWarp&, const Operator&) {});
}

void runDispatch(GridRunner& grid, const moriep_dispatch_arguments& arguments) try {
    const bool streams =
        outgrowsCache(arguments.op.shape, arguments.token_count, arguments.row_bytes);
    if (arguments.launch.traced != 0) return runTracedDispatch(grid, arguments, streams);
    verbs::dispatch(grid, arguments, streams);
} catch (const std::exception&) {
    failForResources(arguments.op, MORIEP_PHASE_DISPATCH_RECEIVE, leaveNothingReceived);
}

void runCombine(GridRunner& grid, const moriep_combine_arguments& arguments) try {
    const int64_t tokens = Operator(arguments.op).control()->token_count;
    const bool streams = outgrowsCache(arguments.op.shape, tokens, arguments.row_bytes);
    if (arguments.launch.traced != 0) return runTracedCombine(grid, arguments, streams);
    verbs::combine(grid, arguments, streams);
} catch (const std::exception&) {
    failForResources(
        arguments.op, MORIEP_PHASE_COMBINE_READY, [&](const BlockWarp& warp, const Operator& op) {
            leaveVoidSums(warp, op, arguments);
        });
}

}  // namespace mori::host

// How a round begins on a rank, whatever the kernels: one warp, the first launch of a dispatch.
#pragma once

#include "Shmem/Barrier.h"

namespace MORI_KERNELS {

/// Tokens of this round: what the host says, or what the device-side count says in its place.
MORI_DEVICE int validTokenCount(const moriep_dispatch_arguments& arguments) {
    if (arguments.valid_token_count == 0) return arguments.token_count;
    return *pointer<const int>(arguments.valid_token_count);
}

/// Opens the round on this rank: a new epoch; then, where there is a network, the wait until it has
/// read the last round's packets; then a barrier if that round was not combined (P4).
MORI_DEVICE void dispatchBegin(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& warp) {
        moriep_control* control = op.control();
        const uint32_t epoch = control->epoch + 1;
        const bool wasCombined = control->combined_epoch == control->epoch;
        const int tokens = validTokenCount(arguments);
        const bool countIsLegal = tokens >= 0 && tokens <= arguments.token_count;
        warp.sync();  // every lane has read before one stores
        warp.elect([&](const BlockOnce& once) {
            control->epoch = epoch;
            control->token_count = countIsLegal ? tokens : 0;
            control->received_count = 0;
            control->dropped_count = 0;
            control->failed = 0;
            control->phase = 0;
            if (isMutant(Mutant::counterZeroedLate)) *op.slotCounter(epoch, op.rank()) = 0;
            // Published with the signals that follow it on this stream.
            moriep_call* call = op.callRecord(MORIEP_VERB_DISPATCH, epoch, op.rank());
            *call = arguments.call;
            call->epoch = epoch;

            Verdict verdict{MORIEP_FAILURE_NONE, -1, -1, 0, 0, 0, 0};
            const AbortWord abort = AbortWord::look(op);
            if (abort.word != 0) {
                verdict.reason = MORIEP_FAILURE_ABORTED;
                verdict.peer = abort.culprit();
                verdict.reporter = abort.reporter;
                verdict.cause = abort.reason();
            } else if (!countIsLegal) {
                verdict.reason = MORIEP_FAILURE_TOKEN_COUNT;
                verdict.peer = op.rank();
                verdict.expected = static_cast<uint64_t>(arguments.token_count);
                verdict.found = static_cast<uint64_t>(static_cast<int64_t>(tokens));
            }
            if (!verdict.came()) {
                failRound(op, MORIEP_PHASE_ROUND_BARRIER, epoch, verdict, call, nullptr, once);
            }
        });
        warp.sync();
        if (control->failed != 0) return;
        if (!awaitStaging(warp, op, arguments.timeout_ns)) return;
        // Nobody combined the round before, so no handshake says that the peers are done with what
        // this round stores to.
        if (!wasCombined && !isMutant(Mutant::barrierSkipped))
            barrier(warp, op, epoch, arguments.timeout_ns);
    });
}

}  // namespace MORI_KERNELS

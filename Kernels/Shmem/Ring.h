// How a kernel sends to other nodes: it pushes descriptors into rings that the proxy drains (P12).
//
// moriep_operator.h documents the descriptor; Sources/MoriShmem/Proxy takes it from here.
#pragma once

#include "Shmem/Signal.h"

namespace MORI_KERNELS {

/// One write of payload and, behind it on the same queue pair, one word: who sees the word sees
/// the payload (P8, P9). Either may be missing.
struct Transfer {
    int peer;
    int queue;
    uint64_t source;       ///< address in this rank's symmetric memory
    uint64_t destination;  ///< offset in the slot's block, the same at every rank
    int64_t bytes;
    bool hasWord;
    uint64_t word;  ///< offset of the word in the slot's block
    uint64_t value;
};

MORI_DEVICE void encodeDescriptor(const Operator& op,
                                  int verb,
                                  const Transfer& transfer,
                                  uint32_t phase,
                                  uint64_t lap,
                                  uint64_t (&words)[MORIEP_DESCRIPTOR_WORDS]) {
    const uint64_t source = transfer.bytes > 0 ? op.symmetricOffset(transfer.source) : 0;
    const uint64_t destination = op.slotOffset(transfer.destination);
    const uint64_t word = transfer.hasWord ? op.slotOffset(transfer.word) / 8 : 0;
    words[0] = lap << 63 | static_cast<uint64_t>(transfer.bytes) << 32 | word;
    words[1] = lap << 63 | uint64_t(transfer.hasWord ? 1 : 0) << 62 | uint64_t(verb) << 61 |
               uint64_t(op.slot()) << 57 | uint64_t(transfer.queue) << 51 |
               uint64_t(phase < 7 ? phase : 7) << 48 | source;
    words[2] =
        lap << 63 | (transfer.value >> 63) << 62 | uint64_t(transfer.peer) << 48 | destination;
    words[3] = lap << 63 | (transfer.value & ~(uint64_t(1) << 63));
}

/// Hands one transfer to the proxy; its payload was published before. Waits for room in the ring
/// if need be, and for nothing else.
MORI_DEVICE void pushTransfer(const Operator& caller,
                              int verb,
                              const Transfer& transfer,
                              uint64_t callTimeout,
                              const BlockOnce& once) {
    if (isMutant(Mutant::wordOvertakesPayload) && transfer.hasWord && transfer.bytes > 0) {
        Transfer word = transfer;
        word.bytes = 0;
        word.queue = (transfer.queue + 1) % caller.shape().queue_pairs;
        pushTransfer(caller, verb, word, callTimeout, once);
        Transfer payload = transfer;
        payload.hasWord = false;
        return pushTransfer(caller, verb, payload, callTimeout, once);
    }
    const Operator op = caller.reread();
    moriep_control* control = op.control();
    const int ring = transfer.peer % op.shape().rings;
    const uint32_t entries = static_cast<uint32_t>(op.shape().ring_entries);
    const uint32_t ticket = machine::addDevice(op.ringTail(ring), 1, once);
    machine::addDevice(&control->descriptors, 1, once);
    WaitTime time;
    // Pairs with the proxy's store of its consumed count.
    const Verdict verdict = awaitWord(op,
                                      op.ringConsumed(ring),
                                      op.rank(),
                                      timeoutOf(op, callTimeout),
                                      Waking::yes,
                                      time,
                                      [&](uint64_t word) {
                                          const uint32_t ahead = ticket - uint32_t(word >> 32);
                                          const bool hasRoom =
                                              ahead < entries || isMutant(Mutant::ringOverrun);
                                          return hasRoom ? Look::came : Look::notYet;
                                      });
    trace::waited(op, MORIEP_PHASE_RING, time.start);
    if (!verdict.came()) {
        // The entry is still the proxy's: nothing can be stored there. The ticket stays empty, the
        // proxy stops at it, and the rings begin anew with the world (P17).
        // Nobody but its own network: it is where the search for the culprit ends.
        failWait(op, MORIEP_PHASE_RING, verb, verdict, [](auto&&) {}, once);
        return;
    }
    const uint64_t lap = (ticket / entries & 1) ^ 1;
    uint64_t words[MORIEP_DESCRIPTOR_WORDS];
    const Operator again = caller.reread();
    encodeDescriptor(again, verb, transfer, again.control()->phase + 1, lap, words);
    machine::storeDescriptor(again.descriptor(ring, ticket), words, once);
    machine::ringDoorbell(again.doorbell(), once);
}

/// Waits until the network has read everything that this slot gave it: then the staging memory may
/// be stored to again. At the start of a dispatch, when it has long happened (P13).
MORI_DEVICE bool awaitStaging(const BlockWarp& warp, const Operator& op, uint64_t callTimeout) {
    if (op.shape().rings == 0 || isMutant(Mutant::stagingReused)) return true;
    const uint32_t pushed = op.control()->descriptors;
    const bool failed = warp.any(1, [&](int, const BlockOnce& once) {
        WaitTime time;
        // Pairs with the proxy's store of the slot's completed count.
        const Verdict verdict =
            awaitWord(op,
                      op.slotCompleted(),
                      op.rank(),
                      timeoutOf(op, callTimeout),
                      Waking::yes,
                      time,
                      [&](uint64_t word) {
                          return uint32_t(word >> 32) == pushed ? Look::came : Look::notYet;
                      });
        trace::waited(op, MORIEP_PHASE_STAGING, time.start);
        if (verdict.came()) return false;
        failWait(op, MORIEP_PHASE_STAGING, MORIEP_VERB_DISPATCH, verdict, [](auto&&) {}, once);
        return true;
    });
    warp.sync();
    return !failed;
}

/// Takes note that this verb has awaited the network once more, for the statistics' phases.
MORI_DEVICE void countPhase(const BlockWarp& warp, const Operator& op) {
    warp.elect([&](const BlockOnce&) { op.control()->phase += 1; });
}

}  // namespace MORI_KERNELS

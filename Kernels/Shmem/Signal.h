// Signal words: how one rank tells another that a phase of a round is done, and the bounded wait.
//
// A word is epoch (32) | signature (8) | count (24). Each has one writer for life, and there are
// two by epoch parity: a rank can run at most one round ahead, so a word is never stored over
// before it was read, and `==` on the epoch is enough (protocol rule P1).
#pragma once

#include "Shmem/Trace.h"

namespace MORI_KERNELS {

struct Signal {
    uint32_t epoch;
    uint32_t signature;
    uint32_t count;

    MORI_DEVICE uint64_t word() const {
        return uint64_t(epoch) << 32 | uint64_t(signature & 0xFFu) << 24 | (count & 0xFFFFFFu);
    }
    static MORI_DEVICE Signal of(uint64_t word) {
        return {uint32_t(word >> 32), uint32_t(word >> 24) & 0xFFu, uint32_t(word) & 0xFFFFFFu};
    }
};

/// The time that one lane has waited, in one deadline for all words that it awaits in turn.
struct WaitTime {
    uint64_t start = 0;    ///< of the first word that was not there; 0: all were so far
    uint64_t counted = 0;  ///< nanoseconds since then that belong to words that have come
};

/// How one wait ended.
struct Verdict {
    int reason;  ///< moriep_failure_reason; 0: the word came
    int peer;    ///< whom it waited for; with `aborted`, the culprit or -1
    int reporter;
    uint64_t expected;
    uint64_t found;
    uint64_t waited;
    uint32_t cause;  ///< with `aborted`, the reason in the abort word; else 0

    MORI_DEVICE bool came() const { return reason == MORIEP_FAILURE_NONE; }
};

/// The abort words as one look: 0, or the first that is raised.
struct AbortWord {
    uint64_t word;  ///< reason (32) | culprit + 1 (32)
    int reporter;

    MORI_DEVICE int culprit() const { return int(uint32_t(word)) - 1; }
    MORI_DEVICE uint32_t reason() const { return uint32_t(word >> 32); }

    static MORI_DEVICE AbortWord look(const Operator& op) {
        const uint64_t own = machine::pollSystem(op.hostAbort());
        if (own != 0) return {own, op.rank()};
        for (int writer = 0; writer < op.worldSize(); ++writer) {
            const uint64_t word = machine::pollSystem(op.abortWords(op.rank()) + writer);
            if (word != 0) return {word, writer};
        }
        return {0, -1};
    }
};

/// What one look at an awaited word means.
enum class Look {
    notYet,
    came,
    otherCall,   ///< the right epoch, another signature
    laterEpoch,  ///< the writer is in another round
};

/// A look at a signal word.
MORI_DEVICE Look lookAtSignal(uint64_t word, Signal expected) {
    const Signal found = Signal::of(word);
    if (isMutant(Mutant::staleEpoch) && word != 0 && found.epoch == expected.epoch - 2) {
        return Look::came;
    }
    if (isMutant(Mutant::growingWord) && int32_t(found.epoch - expected.epoch) > 0) {
        return Look::came;
    }
    if (found.epoch == expected.epoch) {
        const bool isSameCall = found.signature == expected.signature;
        return isSameCall || isMutant(Mutant::signatureIgnored) ? Look::came : Look::otherCall;
    }
    if (word != 0 && int32_t(found.epoch - expected.epoch) > 0) return Look::laterEpoch;
    return Look::notYet;
}

/// Whether whoever stores a word wakes the host threads that sleep on it.
enum class Waking { yes, no };

/// Counts that a word of `peer` came which a lane had waited for: what passed since the lane's word
/// before it. Words that came while the lane looked at others are not counted.
MORI_DEVICE void countWait(const Operator& caller, int peer, WaitTime& time) {
    const Operator op = caller.reread();
    const uint64_t waited = machine::now() - time.start;
    machine::addCount(op.peerWaits() + peer, waited - time.counted);
    time.counted = waited;
}

/// Waits until `look(word)` is content with what `peer` stores, at most `timeout` nanoseconds from
/// `time.start`, which is set to now when it is 0: one deadline for all words that a lane awaits in
/// turn. Runs in one lane or in several side by side; ends in every case.
template <class F>
MORI_DEVICE Verdict awaitWord(const Operator& op,
                              const uint64_t* word,
                              int peer,
                              uint64_t timeout,
                              Waking waking,
                              WaitTime& time,
                              F&& look) {
    Verdict verdict{MORIEP_FAILURE_NONE, peer, -1, 0, 0, 0, 0};
    for (int turn = 0;; ++turn) {
        verdict.found = machine::pollSystem(word);
        const Look seen = look(verdict.found);
        if (seen != Look::notYet) {
            verdict.reason = seen == Look::came        ? MORIEP_FAILURE_NONE
                             : seen == Look::otherCall ? MORIEP_FAILURE_OTHER_CALL
                                                       : MORIEP_FAILURE_LATER_EPOCH;
            verdict.peer = peer;
            // What is awaited for less than it takes to look at the clock is no wait.
            if (turn > 0 && time.start != 0) countWait(op, peer, time);
            return verdict;
        }
        if (verdict.reason != MORIEP_FAILURE_NONE) return verdict;  // this was the last look
        if (machine::checksClock(turn)) {
            const uint64_t now = machine::now();
            if (time.start == 0) time.start = now;
            verdict.waited = now - time.start;
            const AbortWord abort = AbortWord::look(op.reread());
            // Whatever ends the wait, the word is read once more: a process that was stopped
            // wakes up late and finds that its peer had long answered.
            if (abort.word != 0) {
                verdict.reason = MORIEP_FAILURE_ABORTED;
                verdict.peer = abort.culprit();
                verdict.reporter = abort.reporter;
                verdict.cause = abort.reason();
                continue;
            }
            if (verdict.waited >= timeout && !isMutant(Mutant::endlessWait)) {
                verdict.reason = MORIEP_FAILURE_TIMED_OUT;
                continue;
            }
        }
        machine::relax(turn, word, verdict.found, waking == Waking::yes);
    }
}

/// Waits until `word`, which only `peer` stores, is of the expected epoch.
MORI_DEVICE Verdict awaitSignal(const Operator& op,
                                const uint64_t* word,
                                int peer,
                                Signal expected,
                                uint64_t timeout,
                                Waking waking,
                                WaitTime& time) {
    Verdict verdict = awaitWord(op, word, peer, timeout, waking, time, [&](uint64_t found) {
        return lookAtSignal(found, expected);
    });
    verdict.expected = expected.word();
    return verdict;
}

/// Makes this operator's round void: the first failing warp writes the record for the host and
/// raises this rank's abort word at every peer. `waitsFor(add)` calls `add` with each rank whose
/// word has not come: by these edges the hosts find out who failed (P16).
template <class WaitsFor>
MORI_DEVICE void failRound(const Operator& op,
                           int phase,
                           uint32_t epoch,
                           const Verdict& verdict,
                           const moriep_call* ownCall,
                           const moriep_call* peerCall,
                           WaitsFor&& waitsFor,
                           const WarpOnce& once) {
    machine::exchangeDevice(op.failedWord(), 1, once);
    if (machine::exchangeDevice(op.failureElection(), 1, once) != 0) return;
    moriep_failure* record = op.failure();
    record->reason = static_cast<uint32_t>(verdict.reason);
    record->phase = static_cast<uint32_t>(phase);
    record->rank = op.rank();
    record->peer = verdict.peer;
    record->reporter = verdict.reporter;
    record->epoch = epoch;
    record->slot = static_cast<uint32_t>(op.slot());
    record->expected = verdict.expected;
    record->found = verdict.found;
    record->waited_ns = verdict.waited;
    record->cause = verdict.cause;
    // The record is zero until its only writer comes here.
    waitsFor([&](int peer) { record->waits_for[peer / 64] |= uint64_t(1) << (peer % 64); });
    if (ownCall != nullptr) record->own_call = *ownCall;
    if (peerCall != nullptr) record->peer_call = *peerCall;
    machine::storeHost(&record->state, 1, once);
    const uint32_t reason = verdict.reason == MORIEP_FAILURE_ABORTED
                                ? verdict.cause
                                : static_cast<uint32_t>(verdict.reason);
    const uint64_t abort = uint64_t(reason) << 32 | uint32_t(verdict.peer + 1);
    // Ranks of other hosts are told by the host (Bootstrap.abort), which looks at the record.
    for (int peer = 0; peer < op.worldSize(); ++peer) {
        if (!op.hasAbortWords(peer) || isMutant(Mutant::silentFailure)) continue;
        machine::raiseSystem(op.abortWords(peer) + op.rank(), abort, once);
    }
}

/// The same where no word of a peer was awaited.
MORI_DEVICE void failRound(const Operator& op,
                           int phase,
                           uint32_t epoch,
                           const Verdict& verdict,
                           const moriep_call* ownCall,
                           const moriep_call* peerCall,
                           const WarpOnce& once) {
    failRound(op, phase, epoch, verdict, ownCall, peerCall, [](auto&&) {}, once);
}

/// The deadline of a wait in this launch: the call's own, else the operator's.
MORI_DEVICE uint64_t timeoutOf(const Operator& op, uint64_t call) {
    if (call != 0) return call;
    const moriep_control* control = op.control();
    return control->combined_epoch == 0 ? control->first_timeout_ns : control->timeout_ns;
}

/// Makes the round void because of one failed wait; `verb` tells where the calls are.
template <class WaitsFor>
MORI_DEVICE void failWait(const Operator& caller,
                          int phase,
                          int verb,
                          const Verdict& verdict,
                          WaitsFor&& waitsFor,
                          const WarpOnce& once) {
    const Operator op = caller.reread();
    const uint32_t epoch = op.control()->epoch;
    machine::acquireSystem();
    // The call of a rank on another node is out of reach.
    const bool quotes = verdict.reason == MORIEP_FAILURE_OTHER_CALL && op.isReachable(verdict.peer);
    failRound(op,
              phase,
              epoch,
              verdict,
              op.callRecord(verb, epoch, op.rank()),
              quotes ? op.callRecord(verb, epoch, verdict.peer) : nullptr,
              waitsFor,
              once);
}

/// The warp awaits `words` signals side by side and gives one verdict for all of them.
/// `word(i)` is the i-th word's address, or null where none is awaited; `peer(i)` who stores it.
/// `index(i)` tells words of one source apart, for a trace.
template <class Word, class Peer, class Index = trace::OneWord>
MORI_DEVICE bool awaitSignals(const BlockWarp& warp,
                              const Operator& op,
                              int words,
                              int phase,
                              int verb,
                              Signal expected,
                              uint64_t callTimeout,
                              Waking waking,
                              Word&& word,
                              Peer&& peer,
                              Index&& index = Index()) {
    trace::mark(warp, op, MORIEP_TRACE_BEGIN, phase);
    const uint64_t timeout = timeoutOf(op, callTimeout);
    WaitTime time;
    const bool failed = warp.any(words, [&](int i, const BlockOnce& once) {
        const uint64_t* address = word(i);
        if (address == nullptr) return false;
        const Verdict verdict = awaitSignal(op, address, peer(i), expected, timeout, waking, time);
        if constexpr (kTraced) trace::came(op, verdict.came(), phase, peer(i), index(i));
        if (verdict.came()) return false;
        const auto waitsFor = [&](auto&& add) {
            for (int other = 0; other < words; ++other) {
                const uint64_t* awaited = word(other);
                if (awaited == nullptr) continue;
                if (lookAtSignal(machine::pollSystem(awaited), expected) == Look::notYet) {
                    add(peer(other));
                }
            }
        };
        failWait(op, phase, verb, verdict, waitsFor, once);
        return true;
    });
    machine::acquireSystem();
    warp.sync();
    trace::mark(warp, op, MORIEP_TRACE_END, phase);
    return !failed;
}

/// The warp awaits one word of `kind` from each active one of `ranks`, which store them themselves.
template <int index = 0>
MORI_DEVICE bool awaitRanks(const BlockWarp& warp,
                            const Operator& op,
                            Ranks ranks,
                            uint64_t kind,
                            int phase,
                            int verb,
                            Signal expected,
                            uint64_t callTimeout) {
    return awaitSignals(
        warp,
        op,
        ranks.count,
        phase,
        verb,
        expected,
        callTimeout,
        Waking::yes,
        [&](int i) -> const uint64_t* {
            if (!op.isActive(ranks.first + i)) return nullptr;
            return op.signal(kind, expected.epoch, op.rank(), ranks.first + i);
        },
        [&](int i) { return ranks.first + i; },
        [](int) { return index; });
}

/// The warp tells each active one of `ranks` that this rank reached `signal`; `count(peer)` gives
/// each word's count. `phase` is the wait that this ends at the peers, and `index` which word of
/// it.
template <int phase, int index = 0, class F>
MORI_DEVICE void signalRanks(const BlockWarp& warp,
                             const Operator& op,
                             Ranks ranks,
                             uint64_t kind,
                             Signal signal,
                             F&& count) {
    warp.each(ranks.count, [&](int turn, const BlockOnce& once) {
        // Every rank starts with the peer after itself, so that links share the load.
        const int next = op.rank() - ranks.first + 1 + turn;
        const int peer = ranks.first + (next < ranks.count ? next : next - ranks.count);
        if (!op.isActive(peer)) return;
        const Signal own{signal.epoch, signal.signature, count(peer)};
        trace::signal<phase>(op, peer, index);
        machine::storeSystem(op.signal(kind, signal.epoch, peer, op.rank()), own.word(), once);
    });
}

}  // namespace MORI_KERNELS

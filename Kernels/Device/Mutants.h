// Seeded mistakes, one of which a checked build can switch on: the tests of the tests.
//
// Each is a mistake that somebody could make, at the place where they would make it. `make
// test-mutants` fails if the tests do not notice one. Only the package trait Checked compiles them
// in; everywhere else, and on every GPU, isMutant is a constant and what asks it is no code.
#pragma once

#include "Device/Machine.h"

// Name, and what is wrong.
#define MORI_FOR_MUTANTS(X)                                                                      \
    X(publishWithoutFence, "publish is a barrier and no fence (P10)")                            \
    X(publishByOneWarp, "only the first warp of a block fences in publish (P10)")                \
    X(waitWithoutAcquire, "a wait sees its word and does not acquire (P10)")                     \
    X(lastBlockWithoutAcquire, "the last block speaks for blocks that it did not acquire (P10)") \
    X(streamingWithoutFence, "streaming stores are not fenced before the words (P11)")           \
    X(signalBeforePayload, "the last block signals before its own warps are done")               \
    X(lastBlockTooEarly, "the last block but one speaks for all: a skipped completion")          \
    X(reusedSlot, "a block reserves one receive slot too few, and the next one stores over it")  \
    X(staleEpoch, "a wait takes the word of two rounds ago for this round's (P1)")               \
    X(growingWord, "one word instead of two by parity, and a wait for this epoch or later (P1)") \
    X(combineSparesPeers, "combine waits only for ranks that it needs rows from (P2)")           \
    X(counterZeroedLate, "the slot counter is zeroed when its own round begins (P3)")            \
    X(barrierSkipped, "no barrier after a round that was not combined (P4)")                     \
    X(wordOvertakesPayload, "a word goes by another queue pair than its payload (P8)")           \
    X(ringOverrun, "a producer does not wait for room in its ring (P12)")                        \
    X(stagingReused, "staging memory is used again before the network has read it (P13)")        \
    X(chunkForgotten, "a source announces one chunk too few: off by one (P7)")                   \
    X(endlessWait, "a wait ignores its deadline (P15)")                                          \
    X(silentFailure, "a rank that fails does not raise its abort words (P15)")                   \
    X(voidRoundKeepsRows, "a void combine leaves what was in its rows (P15)")                    \
    X(signatureIgnored, "a wait does not compare signatures (P18)")

namespace mori {

enum class Mutant {
    none,
#define MORI_NAME(name, words) name,
    MORI_FOR_MUTANTS(MORI_NAME)
#undef MORI_NAME
};

#if MORI_EP_CHECKED && MORI_MACHINE_HOST
namespace host {
/// The one that is switched on; Runtime/Host/Checked/Mutants.cpp.
Mutant activeMutant();
}  // namespace host

inline bool isMutant(Mutant mutant) { return host::activeMutant() == mutant; }
#else
MORI_DEVICE constexpr bool isMutant(Mutant) { return false; }
#endif

}  // namespace mori

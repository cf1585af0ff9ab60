/* Recovery after a failure: void rounds, new memory, a new base of epochs (P15, P17).
 *
 * Three ranks exchange a row with each other, round after round. At some time a deadline is reached that
 * nobody kept, because rank 2 is slow; a rank that died is one that is slow for ever. Then ranks 0 and 1
 * go on without it, or with -DALL all three do, while what rank 2 had begun goes on as late as it likes.
 *
 * What is abstracted:
 *   rank         dispatch and combine as in Round.pml, with waits that may fail; then
 *                SymmetricMemory.recover: everyone is told, everyone comes, numbers are agreed on, memory is
 *                allocated anew and zeroed, everyone is ready, and only then rounds go on
 *   generation   which memory: what a rank that was left behind has mapped is generation 0
 *   arrived, ready   the bootstrap, whose messages are neither lost nor late
 *
 * right: -DROUNDS=3
 * right: -DROUNDS=3 -DALL
 * wrong: -DROUNDS=2 -DNO_FENCE      P17: the memory stays the same and is only zeroed
 * wrong: -DROUNDS=2 -DNO_BASE       P17: each rank goes on from its own epoch
 * wrong: -DROUNDS=2 -DNO_VOID       P17: a rank that had completed the failed round keeps it
 * wrong: -DROUNDS=2 -DNO_BARRIER    P17: rounds go on before every rank's words are zero
 * wrong: -DROUNDS=2 -DOWN_MASK      P17: a rank still counts on the one that the others left behind
 * wrong: -DROUNDS=2 -DNO_ABORT      P15: a rank whose wait failed tells nobody
 */
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define RANKS 3
#define SLOTS 4
#ifdef ALL
#define SURVIVORS 3
#else
#define SURVIVORS 2
#endif
#ifdef NO_FENCE
#define MEMORY(generation) 0
#else
#define MEMORY(generation) generation
#endif
#define WORD(kind, reader, writer) \
    words[(((MEMORY(generation) * 2 + (kind)) * RANKS + (reader)) * RANKS + (writer)) * 2 + (epoch & 1)]
#define SLOT_COUNTER(rank, epoch) counter[(MEMORY(generation) * RANKS + (rank)) * 2 + ((epoch) & 1)]
#define ROW(rank, slot) output[(MEMORY(generation) * RANKS + (rank)) * SLOTS + (slot)]
#define DISPATCH 0
#define COMBINE 1
#define PEER(step) ((me + (step)) % RANKS)
#define ACTIVE(rank) ((rank) < members)
#define CAME(kind, step) (!ACTIVE(PEER(step)) || WORD(kind, me, PEER(step)) == epoch)

byte words[2 * 2 * RANKS * RANKS * 2];
byte counter[2 * RANKS * 2];
byte output[2 * RANKS * SLOTS]; /* epoch * 4 + round */
bit told[RANKS];                /* the abort words of generation 0 */
bit isLate;                     /* a deadline has been reached */
bit arrived[RANKS], ready[RANKS], finished[RANKS];
byte begun[RANKS], complete[RANKS];

/* The wait for every active rank: the word is looked at once more before a failure counts. */
inline await(kind) {
    if
    :: atomic { CAME(kind, 1) && CAME(kind, 2) -> skip }
    :: atomic { generation == 0 && (told[me] || isLate) && !(CAME(kind, 1) && CAME(kind, 2)) ->
        goto failure }
    fi
}

inline tell(kind) {
    d_step {
        if
        :: ACTIVE(PEER(1)) -> WORD(kind, PEER(1), me) = epoch
        :: else
        fi;
        if
        :: ACTIVE(PEER(2)) -> WORD(kind, PEER(2), me) = epoch
        :: else
        fi
    }
}

inline sendRow(step) {
    if
    :: ACTIVE(PEER(step)) ->
        atomic { slot = SLOT_COUNTER(PEER(step), epoch);
                 SLOT_COUNTER(PEER(step), epoch) = slot + 1 };
        atomic {
            if
            :: slot < SLOTS -> ROW(PEER(step), slot) = epoch << 2 | round
            :: else
            fi;
            slot = 0
        }
    :: else
    fi
}

/* Every active rank's row of this round is here, and nothing else. */
inline lookAtRows() {
    d_step {
        slot = 0;
        do
        :: slot < members - 1 ->
            assert(ROW(me, slot) == (epoch << 2 | round));
            slot++
        :: else -> break
        od;
        slot = 0
    }
}

proctype rank(byte me) {
    byte generation, epoch, round, slot, number;
    byte members = RANKS;

again:
    do
    :: round == ROUNDS -> break
    :: round < ROUNDS ->
        atomic { epoch++; round++ };
        /* Kernels look at the abort word when they begin. */
        if
        :: generation == 0 && told[me] -> goto failure
        :: else
        fi;
        sendRow(1);
        sendRow(2);
        tell(DISPATCH);
        await(DISPATCH);
        SLOT_COUNTER(me, epoch + 1) = 0;
        lookAtRows();
        lookAtRows();
        tell(COMBINE);
        await(COMBINE);
        complete[me] = round
    od;
    finished[me] = 1;
    /* Closing is collective: until all have finished, somebody may need this rank to recover. */
    if
    :: finished[0] && finished[1] && (members == 2 || finished[2]) -> goto over
    :: generation == 0 && told[me] -> finished[me] = 0
#ifndef ALL
    :: me == 2 && isLate -> goto over /* the world went on without it */
#endif
    fi;

failure:
    assert(generation == 0);
#ifndef NO_ABORT
    d_step { told[0] = 1; told[1] = 1; told[2] = 1 };
#endif
    if
    :: me >= SURVIVORS -> goto over
    :: else
    fi;
    /* recover: what this rank has is said, and everyone's is awaited. */
    atomic { begun[me] = epoch; arrived[me] = 1 };
#ifdef ALL
    arrived[0] && arrived[1] && arrived[2];
#else
    arrived[0] && arrived[1];
#endif
    d_step {
        generation = 1;
#ifdef OWN_MASK
        members = (me == 0 -> RANKS : SURVIVORS);
#else
        members = SURVIVORS;
#endif
#ifndef NO_BASE
        number = 0;
        do
        :: number < SURVIVORS ->
            epoch = (begun[number] > epoch -> begun[number] : epoch);
            number++
        :: else -> break
        od;
#endif
        round = complete[me];
#ifndef NO_VOID
        number = 0;
        do
        :: number < SURVIVORS ->
            round = (complete[number] < round -> complete[number] : round);
            number++
        :: else -> break
        od;
#endif
        number = 0
    };
    /* This rank's own part of the new memory. */
    d_step {
        do
        :: number < RANKS * 2 ->
            words[((MEMORY(1) * 2 + DISPATCH) * RANKS + me) * RANKS * 2 + number] = 0;
            words[((MEMORY(1) * 2 + COMBINE) * RANKS + me) * RANKS * 2 + number] = 0;
            number++
        :: else -> break
        od;
        SLOT_COUNTER(me, 0) = 0;
        SLOT_COUNTER(me, 1) = 0;
        number = 0;
        ready[me] = 1
    };
#ifndef NO_BARRIER
#ifdef ALL
    ready[0] && ready[1] && ready[2];
#else
    ready[0] && ready[1];
#endif
#endif
    goto again;
over:
    skip
}

proctype clock() {
    if
    :: isLate = 1
    :: true
    fi
}

init {
    atomic { run rank(0); run rank(1); run rank(2); run clock() }
}

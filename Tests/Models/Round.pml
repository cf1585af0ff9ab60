/* A round between ranks that map each other's memory, IntraNode, and with -DSECTIONS one whose rows land in
 * a section for each source, InterNode and AsyncLL (P1, P2, P3, P4, P10).
 *
 * What is abstracted:
 *   rank             the launches of a rank in the order of its stream: dispatchBegin (Kernels/Shmem/Round.h),
 *                    dispatchSend, dispatchReceive, the experts, combineSend, combineWait, combineReduce
 *                    (Kernels/IntraNode, Kernels/InterNode, Kernels/Shmem)
 *   words            the signal words, in the memory of the rank that reads them: epoch and count
 *   counter          the slot counters: a reservation is one addition, the store of the row another step
 *   output           dispatchOut, row by row
 *   combined         the combine buffer of a rank, as a whole; with sections what lands of it at each source
 *
 * All words of a kind are stored in one step, and awaited in one: a word has one writer and one reader,
 * who only waits for it, so it cannot matter that others move in between.
 * Every rank chooses in every round whether it has a row for each of the others; rows for itself cross no
 * edge. What is left out: failures (Recovery.pml), overflow, more than one row for a rank, and of sections
 * that packets are under way (Forward.pml has them).
 *
 * right: -DRANKS=2 -DROUNDS=4 -DDISCARDS
 * right: -DRANKS=3 -DROUNDS=2
 * right: -DRANKS=3 -DROUNDS=3 -DFEW_ROUTES
 * right: -DRANKS=3 -DROUNDS=2 -DFEW_ROUTES -DDISCARDS
 * right: -DRANKS=3 -DROUNDS=3 -DFEW_ROUTES -DSECTIONS
 * right: -DRANKS=2 -DROUNDS=4 -DSECTIONS -DDISCARDS
 * wrong: -DSECTIONS -DONE_WORD P1: one growing word for an edge, awaited with >=
 * wrong: -DSILENT              P1: a rank without a row for a peer stores no word
 * wrong: -DNEEDED_ONLY         P2: combine waits only for the ranks that this one sent rows to
 * wrong: -DZERO_AT_BEGIN       P3: a slot counter is zeroed when its round begins
 * wrong: -DLATE_ZERO           P3: the next counter is zeroed behind the combine word
 * wrong: -DRANKS=2 -DDISCARDS -DNO_BARRIER   P4: no barrier after a round that was not combined
 * wrong: -DRANKS=2 -DSECTIONS -DDISCARDS -DNO_BARRIER   P4: the same
 * wrong: -DWORD_FIRST          P10: the word is stored before the row
 * wrong: -DEARLY_COMBINE_WORD  P2: the combine word is stored before the experts have read
 */
#ifndef RANKS
#define RANKS 3
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#define SLOTS 4 /* of dispatchOut; more than a right round needs */

#define EPOCH(word) ((word) >> 1)
#define COUNT(word) ((word) & 1)
#define PLACE(kind, reader, writer) ((((kind) * RANKS + (reader)) * RANKS + (writer)) * 2)
#ifdef ONE_WORD
#define WORD(kind, reader, writer) words[PLACE(kind, reader, writer)]
#define CAME(word) (EPOCH(word) >= epoch)
#else
#define WORD(kind, reader, writer) words[PLACE(kind, reader, writer) + (epoch & 1)]
/* A later epoch never counts as success: whoever finds one is stuck, and spin says so. */
#define CAME(word) (EPOCH(word) == epoch)
#endif
#define PARITY(number) ((number) & 1)
#define DISPATCH 0
#define COMBINE 1
#define BARRIER 2
#ifdef SECTIONS
#define ROWS_OF(peer) (me * RANKS + (peer))
#else
#define ROWS_OF(peer) ((peer) * RANKS)
#endif
#define PEER(step) ((me + (step)) % RANKS)

#if RANKS == 2
#define ALL_CAME(kind) CAME(WORD(kind, me, PEER(1)))
#define NEEDED_CAME(kind) (!goes[PEER(1)] || CAME(WORD(kind, me, PEER(1))))
#else
#define ALL_CAME(kind) (CAME(WORD(kind, me, PEER(1))) && CAME(WORD(kind, me, PEER(2))))
#define NEEDED_CAME(kind) \
    ((!goes[PEER(1)] || CAME(WORD(kind, me, PEER(1)))) && \
     (!goes[PEER(2)] || CAME(WORD(kind, me, PEER(2)))))
#endif

byte words[3 * RANKS * RANKS * 2]; /* by kind, reader, writer and parity */
byte counter[RANKS * 2];
byte output[RANKS * SLOTS]; /* epoch * 4 + source of the row */
byte combined[RANKS * RANKS]; /* the epoch of the rows that lie there; by rank, and source or 0 */

bit route[RANKS * RANKS * 2]; /* ghost: whether a row goes there, by reader, writer and parity */
bit isDiscarded[ROUNDS + 1];  /* ghost: not combining is collective */

/* Every row that was sent here in this round is here, once, and nothing else. */
inline lookAtRows(last) {
    d_step {
        seen = 0;
        slot = 0;
        do
#ifdef SECTIONS
        :: slot < RANKS && (slot == me || !COUNT(WORD(DISPATCH, me, slot))) -> slot++
        :: slot < RANKS && slot != me && COUNT(WORD(DISPATCH, me, slot)) ->
#else
        :: slot < count ->
#endif
            assert(output[me * SLOTS + slot] >> 2 == epoch);
            seen = seen | (1 << (output[me * SLOTS + slot] & 3));
            /* What nobody may look at any more would only tell states apart. */
            if
            :: last -> output[me * SLOTS + slot] = 0
            :: else
            fi;
            slot++
        :: else -> break
        od;
        step = 1;
        do
        :: step < RANKS ->
            assert(((seen >> PEER(step)) & 1) == route[(me * RANKS + PEER(step)) * 2 + (epoch & 1)]);
            step++
        :: else -> break
        od;
        seen = 0; slot = 0; step = 1
    }
}

inline sendWords() {
    d_step {
        step = 1;
        do
        :: step < RANKS ->
#ifdef SILENT
            if
            :: !goes[PEER(step)]
            :: else -> WORD(DISPATCH, PEER(step), me) = epoch << 1 | 1
            fi;
#else
            WORD(DISPATCH, PEER(step), me) = epoch << 1 | goes[PEER(step)];
#endif
            step++
        :: else -> break
        od;
        step = 1
    }
}

inline sendRows() {
    step = 1;
    do
    :: step < RANKS && !goes[PEER(step)] -> step++
    :: step < RANKS && goes[PEER(step)] ->
#ifdef SECTIONS
        slot = me;
#else
        atomic { slot = counter[PEER(step) * 2 + PARITY(epoch)];
                 counter[PEER(step) * 2 + PARITY(epoch)] = slot + 1 };
#endif
        assert(slot < SLOTS);
        atomic { output[PEER(step) * SLOTS + slot] = epoch << 2 | me; slot = 0; step++ }
    :: step == RANKS -> break
    od
}

inline tell(kind) {
    d_step {
        step = 1;
        do
        :: step < RANKS -> WORD(kind, PEER(step), me) = epoch << 1; step++
        :: else -> break
        od;
        step = 1
    }
}

proctype rank(byte me) {
    byte epoch, step, slot, count, seen;
    bit goes[RANKS];
    bool wasCombined = true;

    do
    :: epoch == ROUNDS -> break
    :: epoch < ROUNDS ->
        /* dispatchBegin */
        epoch++;
#ifdef ZERO_AT_BEGIN
        counter[me * 2 + PARITY(epoch)] = 0;
#endif
#ifndef NO_BARRIER
        if
        :: !wasCombined -> tell(BARRIER); ALL_CAME(BARRIER)
        :: else
        fi;
#endif
        /* dispatchSend */
        atomic {
            step = 1;
            do
            :: step < RANKS ->
                if
                :: goes[PEER(step)] = 0
                :: goes[PEER(step)] = 1
                fi;
#ifdef FEW_ROUTES
                /* All of a rank's rows go to the others, or none, or one. */
                if
                :: step == 2 && me == 0 -> goes[PEER(2)] = goes[PEER(1)]
                :: step == 2 && me == 1 -> goes[PEER(2)] = 1 - goes[PEER(1)]
                :: else
                fi;
#endif
                route[(PEER(step) * RANKS + me) * 2 + (epoch & 1)] = goes[PEER(step)];
                step++
            :: else -> break
            od
        };
#ifdef WORD_FIRST
        sendWords();
        sendRows();
#else
        sendRows();
        sendWords();
#endif
        /* dispatchReceive: the waits pair with the words of every rank's dispatchSend. */
        atomic {
            ALL_CAME(DISPATCH);
            count = COUNT(WORD(DISPATCH, me, PEER(1)));
#if RANKS > 2
            count = count + COUNT(WORD(DISPATCH, me, PEER(2)))
#endif
        };
#if !defined(LATE_ZERO) && !defined(ZERO_AT_BEGIN)
        counter[me * 2 + PARITY(epoch + 1)] = 0;
#endif
        /* The experts, from their first look to their last. */
#ifdef EARLY_COMBINE_WORD
        if
        :: !isDiscarded[epoch] -> tell(COMBINE)
        :: else
        fi;
#endif
#ifdef SECTIONS
        lookAtRows(1); /* they are unpacked before the experts come */
#else
        lookAtRows(0);
        lookAtRows(1);
#endif
        if
        :: isDiscarded[epoch] -> wasCombined = false
        :: else ->
            /* combineSend */
#ifdef SECTIONS
            d_step {
                step = 1;
                do
                :: step < RANKS ->
                    if
                    :: COUNT(WORD(DISPATCH, me, PEER(step))) ->
                        combined[PEER(step) * RANKS + me] = epoch;
                        WORD(COMBINE, PEER(step), me) = epoch << 1
                    :: else
                    fi;
                    step++
                :: else -> break
                od;
                step = 1
            };
#else
            combined[me * RANKS] = epoch;
#ifndef EARLY_COMBINE_WORD
            tell(COMBINE);
#endif
#ifdef LATE_ZERO
            counter[me * 2 + PARITY(epoch + 1)] = 0;
#endif
#endif
            /* combineWait: pairs with the words of every rank's combineSend. */
#if defined(NEEDED_ONLY) || defined(SECTIONS)
            NEEDED_CAME(COMBINE);
#else
            ALL_CAME(COMBINE);
#endif
            wasCombined = true;
            /* combineReduce */
            d_step {
                assert(!goes[PEER(1)] || combined[ROWS_OF(PEER(1))] == epoch);
#if RANKS > 2
                assert(!goes[PEER(2)] || combined[ROWS_OF(PEER(2))] == epoch)
#endif
            }
        fi
    od
}

init {
    byte number;

    atomic {
#ifdef DISCARDS
        for (number : 1 .. ROUNDS) {
            if
            :: isDiscarded[number] = 0
            :: isDiscarded[number] = 1
            fi
        }
#endif
        for (number : 0 .. RANKS - 1) { run rank(number) }
    }
}

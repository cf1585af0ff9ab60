/* The ring between kernels and the proxy, and the staging memory behind it (P12, P13).
 *
 * What is abstracted:
 *   block            pushTransfer in Kernels/Shmem/Ring.h: a ticket by one addition, the wait for room,
 *                    the words of a descriptor in any order; before it the packing of a chunk into
 *                    staging memory (Kernels/InterNodeV1/Dispatch.h, sendChunk)
 *   stream           a rank's rounds: awaitStaging (Ring.h) in dispatchBegin (Kernels/Shmem/Round.h),
 *                    then the blocks of dispatchSend, then the next round
 *   proxy            drain(ring:) in Sources/MoriShmem/Proxy/ChannelState+Rings.swift and
 *                    publishConsumed in ChannelState.swift; words are read one by one
 *   network          reads a payload as late as it may, when it completes; publishCompleted
 *
 * What is left out: what the bits of a word mean, room on queues (a full queue stops the proxy at a
 * descriptor, as an empty entry does), several rings (they share nothing but the counts), the wrap of
 * 32-bit tickets, doorbells (they only end a sleep).
 *
 * right: -DBLOCKS=2 -DENTRIES=2 -DROUNDS=3
 * right: -DBLOCKS=3 -DENTRIES=2 -DROUNDS=2
 * right: -DBLOCKS=2 -DENTRIES=1 -DROUNDS=2 -DTIMEOUTS
 * right: -DBLOCKS=3 -DENTRIES=2 -DROUNDS=2 -DTIMEOUTS
 * wrong: -DONE_LAP_BIT           P12: the lap in one word of a descriptor only
 * wrong: -DVALID_BIT             P12: a bit that says valid, which nobody clears
 * wrong: -DBLOCKS=3 -DROUNDS=2 -DNO_ROOM_WAIT     P12: a producer does not wait for room
 * wrong: -DBLOCKS=3 -DROUNDS=2 -DONE_TOO_MANY     P12: room for one descriptor more than there are entries
 * wrong: -DBLOCKS=3 -DROUNDS=2 -DEARLY_CONSUMED   P12: an entry counts as consumed before its words were read
 * wrong: -DTIMEOUTS -DSTORES_ANYWAY   P12: a producer whose wait failed stores its descriptor
 * wrong: -DNO_STAGING_WAIT       P13: a round packs without having waited for the last one's packets
 * wrong: -DSTAGING_AT_CONSUMED   P13: staging memory is free when its descriptor was taken
 */
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#define WORDS 2
#define TICKETS (BLOCKS * ROUNDS)

/* A descriptor's word: the lap, and what it says, here its ticket counted from 1. */
bit lap[ENTRIES * WORDS];
byte says[ENTRIES * WORDS];

byte tail;          /* tickets given out */
byte consumedWord;  /* what producers see of the proxy's position */
byte completedWord; /* what the stream sees of the network's completions */
byte pushed;        /* control->descriptors */
bool failed;        /* control->failed, and the record of a wait that ended at its deadline */

byte staging[BLOCKS];  /* the round whose packets lie in a block's chunk of staging memory */
byte owner[TICKETS];   /* ghost: round of a ticket's descriptor, times 8, plus its block */
byte gap = TICKETS;    /* ghost: the first ticket that stays empty */
byte landed[BLOCKS];   /* ghost: the round of the last packets that reached the peer */
byte position;         /* descriptors that the proxy took */
bool over;             /* ghost: every round is through, or the ring has stopped */
byte running;          /* blocks of the launch that are not finished */
byte round;

/* Taken descriptors whose payload the network has not read: one queue a block. */
chan queue[BLOCKS] = [ROUNDS] of { byte };

proctype block(byte me) {
    byte ticket, word, entry;
    bit done[WORDS];

    staging[me] = round;
    atomic { ticket = tail; tail++; pushed++; owner[ticket] = round * 8 + me; }
    /* The wait for room pairs with the proxy's store of consumedWord. */
#ifndef NO_ROOM_WAIT
    if
#ifdef ONE_TOO_MANY
    :: ticket - consumedWord <= ENTRIES
#else
    :: ticket - consumedWord < ENTRIES
#endif
#ifdef TIMEOUTS
    :: atomic { ticket - consumedWord >= ENTRIES ->
        failed = true;
        gap = (ticket < gap -> ticket : gap) };
#ifndef STORES_ANYWAY
        goto finished;
#endif
#endif
    fi;
#endif
    entry = ticket % ENTRIES;
    do
    :: word < WORDS && !done[0] ->
        atomic { done[0] = 1; word++;
                 lap[entry * WORDS] = (ticket / ENTRIES + 1) & 1;
                 says[entry * WORDS] = ticket + 1 }
    :: word < WORDS && !done[1] ->
        atomic { done[1] = 1; word++;
                 lap[entry * WORDS + 1] = (ticket / ENTRIES + 1) & 1;
                 says[entry * WORDS + 1] = ticket + 1 }
    :: word == WORDS -> break
    od;
    atomic { word = 0; ticket = 0; entry = 0; done[0] = 0; done[1] = 0 }
finished:
    running--;
}

proctype stream() {
    byte index;

    for (round : 1 .. ROUNDS) {
        /* awaitStaging pairs with the network's store of completedWord. */
#ifdef NO_STAGING_WAIT
#elif defined(STAGING_AT_CONSUMED)
        consumedWord == pushed || failed;
#else
        completedWord == pushed || failed;
#endif
        if
        :: failed -> break
        :: else
        fi;
        atomic {
            running = BLOCKS;
            for (index : 0 .. BLOCKS - 1) { run block(index) }
        }
        running == 0;  /* the next launch of a stream begins when this one has ended */
    }
    if
    :: !failed -> completedWord == pushed
    :: else
    fi;
    over = true;
}

#ifdef VALID_BIT
#define IS_HERE(word) (says[(position % ENTRIES) * WORDS + word] != 0)
#else
#define IS_HERE(word) (lap[(position % ENTRIES) * WORDS + word] == ((position / ENTRIES + 1) & 1))
#endif

proctype proxy() {
    byte first, second;

    do
    :: atomic { position < TICKETS && IS_HERE(0) -> first = says[(position % ENTRIES) * WORDS] };
#ifdef EARLY_CONSUMED
        consumedWord = position + 1;
#endif
        if
#ifdef ONE_LAP_BIT
        :: atomic { true ->
#else
        :: atomic { IS_HERE(1) ->
#endif
            second = says[(position % ENTRIES) * WORDS + 1] };
            d_step {
                assert(first == position + 1);   /* nothing lost, doubled or overwritten */
                assert(second == position + 1);  /* nothing torn */
            }
            atomic {
                queue[owner[position] % 8]!(owner[position] / 8);
                position++;
                first = 0;
                second = 0
            }
#if !defined(ONE_LAP_BIT)
        :: atomic { !IS_HERE(1) -> first = 0 }  /* the next turn looks again */
#endif
        fi
    :: atomic { consumedWord < position -> consumedWord = position }
    :: over && (failed || position == TICKETS) && !(position < TICKETS && IS_HERE(0)) -> break
    od;
    /* All that was given before the first empty ticket was taken, and nothing behind it. */
    assert(position == gap);
}

proctype network() {
    byte from, what;

    do
    :: atomic { queue[0]?what -> from = 0; goto deliver }
#if BLOCKS > 1
    :: atomic { queue[1]?what -> from = 1; goto deliver }
#endif
#if BLOCKS > 2
    :: atomic { queue[2]?what -> from = 2; goto deliver }
#endif
    :: over && (failed || completedWord == TICKETS) -> break;
deliver:
        atomic {
            assert(staging[from] == what);       /* the packets of that round, whole */
            assert(landed[from] == what - 1);    /* each once, in order */
            landed[from] = what;
            completedWord++;
            from = 0;
            what = 0
        }
    od
}

init {
    atomic { run stream(); run proxy(); run network() }
}

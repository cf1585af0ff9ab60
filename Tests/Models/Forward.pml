/* A round between two nodes, ranks 0 and 1 and rank 2: InterNodeV1 and InterNodeV1LL (P1, P2, P7, P8).
 *
 * What is abstracted:
 *   rank        the launches of a rank in the order of its stream (Kernels/InterNodeV1): rows of the own
 *               node are placed by their source, those of the other node go to the source's proxy there
 *               in chunks, and the proxy places them and speaks for all it placed
 *   network     a packet is under way as long as it likes; a chunk and its word become visible in this
 *               order (P9), chunks on different queue pairs in any order
 *   section     where a source's chunks land at its proxy, chunkWord the words behind them
 *   partial     where the sum of the other node's rows lands, partialWord the word behind it
 *
 * The tables: rank 2 sends to rank 0, ranks 0 and 1 send to rank 2 (Proxies.h). Each rank chooses in every
 * round how many chunks it has, 1 or CHUNKS, and which ranks get a row of each. What is left out:
 * failures, rounds that are not combined (Round.pml), overflow, staging memory (Ring.pml).
 *
 * right: -DCHUNKS=1 -DROUNDS=2
 * right: -DCHUNKS=1 -DROUNDS=3 -DFEW_ROUTES
 * right: -DCHUNKS=2 -DROUNDS=2 -DFEW_ROUTES
 * wrong: -DCHUNKS=1 -DROUNDS=3 -DONE_WORD   P1: one growing word for an edge, awaited with >=
 * wrong: -DCHUNKS=1 -DNEEDED_ONLY           P2: combine waits only for ranks whose rows it sums
 * wrong: -DCHUNKS=1 -DSILENT                P7: a chunk without rows for the node sends no word
 * wrong: -DCHUNKS=2 -DEARLY_TOTAL           P7: the proxy tells its counts before the last chunk
 * wrong: -DCHUNKS=2 -DFIXED_CHUNKS          P7: the proxy takes as many chunks as there can be
 * wrong: -DCHUNKS=1 -DWORD_APART            P8: chunk and word go through two queue pairs
 * wrong: -DCHUNKS=1 -DNO_PARTIAL_WAIT       P2: the partial sum is not awaited
 */
#ifndef CHUNKS
#define CHUNKS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define RANKS 3
#define SLOTS 6

#ifdef ONE_WORD
#define PARITY(epoch) 0
#define CAME(word) ((word) >= epoch)
#else
#define PARITY(epoch) ((epoch) & 1)
/* A later epoch never counts as success: whoever finds one is stuck, and spin says so. */
#define CAME(word) ((word) == epoch)
#endif
#define FAR(rank) ((rank) == 2)
#define HALF(source, chunk) ((source) * CHUNKS + (chunk))

byte section[RANKS * CHUNKS];       /* epoch * 8 + the ranks that get a row */
byte chunkWord[RANKS * CHUNKS * 2]; /* epoch; by source, chunk and parity */
byte chunkTotal[RANKS * CHUNKS * 2]; /* what the word says besides: chunks in all * 2 + has rows */
byte partial[RANKS];                /* epoch */
byte partialWord[RANKS * 2];
byte dispatchWord[RANKS * RANKS * 2]; /* epoch; by reader, writer and parity */
byte dispatchCount[RANKS * RANKS * 2];
byte combineWord[RANKS * RANKS * 2];
byte counter[RANKS * 2];
byte output[RANKS * SLOTS]; /* epoch * 8 + source * 2 + chunk */
byte combined[RANKS];

byte route[RANKS * RANKS * 2]; /* ghost: chunks with a row there, as bits; by reader, writer and parity */

/* A chunk under way: epoch, ranks, chunks in all. A queue for each source and chunk: chunk c goes by queue
 * pair c. */
chan wire[RANKS * CHUNKS] = [2] of { byte, byte, byte };
chan wordWire[RANKS * CHUNKS] = [2] of { byte, byte };
chan back[RANKS] = [2] of { byte };

inline place(reader, source, chunk) {
    atomic { slot = counter[(reader) * 2 + (epoch & 1)];
             counter[(reader) * 2 + (epoch & 1)] = slot + 1 };
    assert(slot < SLOTS);
    atomic { output[(reader) * SLOTS + slot] = epoch << 3 | (source) << 1 | (chunk); slot = 0 };
    placed[reader]++
}

inline lookAtRows(last) {
    d_step {
        slot = 0;
        do
        :: slot < count ->
            assert(output[me * SLOTS + slot] >> 3 == epoch);
            from = (output[me * SLOTS + slot] >> 1) & 3;
            /* Each row once. */
            assert(!((seen[from] >> (output[me * SLOTS + slot] & 1)) & 1));
            seen[from] = seen[from] | (1 << (output[me * SLOTS + slot] & 1));
            if
            :: last -> output[me * SLOTS + slot] = 0
            :: else
            fi;
            slot++
        :: else -> break
        od;
        from = 0;
        do
        :: from < RANKS ->
            assert(seen[from] == route[(me * RANKS + from) * 2 + (epoch & 1)]);
            seen[from] = 0;
            from++
        :: else -> break
        od;
        slot = 0; from = 0
    }
}

inline forward(source) {
    chunk = 0;
    total = 1;
    do
    :: chunk < total ->
        /* Pairs with the network's store of the word. */
        atomic {
            CAME(chunkWord[HALF(source, chunk) * 2 + PARITY(epoch)]);
            total = chunkTotal[HALF(source, chunk) * 2 + PARITY(epoch)]
        };
        atomic {
            if
            :: total & 1 ->
                assert(section[HALF(source, chunk)] >> 3 == epoch);
                ranks = section[HALF(source, chunk)] & 7;
                section[HALF(source, chunk)] = 0;
                sums[source] = 1
            :: else -> ranks = 0 /* nothing landed with this word, so its section is not looked at */
            fi;
            chunkTotal[HALF(source, chunk) * 2 + PARITY(epoch)] = 0;
            total = total >> 1;
#ifdef FIXED_CHUNKS
            total = CHUNKS
#endif
        };
        if
        :: ranks & 1 -> place(0, source, chunk)
        :: else
        fi;
        if
        :: ranks & 2 -> place(1, source, chunk)
        :: else
        fi;
        if
        :: ranks & 4 -> place(2, source, chunk)
        :: else
        fi;
        chunk++
#ifdef EARLY_TOTAL
        ;
        if
        :: chunk == 1 -> tellCounts()
        :: else
        fi
#endif
    :: else -> break
    od;
    atomic { chunk = 0; total = 0; ranks = 0 }
}

/* To each rank of the node, this one too: one step, as each word has one writer and one reader. */
inline tellCounts() {
    d_step {
        if
        :: FAR(me) ->
            dispatchCount[(2 * RANKS + me) * 2 + PARITY(epoch)] = placed[2];
            dispatchWord[(2 * RANKS + me) * 2 + PARITY(epoch)] = epoch
        :: else ->
            dispatchCount[(0 * RANKS + me) * 2 + PARITY(epoch)] = placed[0];
            dispatchWord[(0 * RANKS + me) * 2 + PARITY(epoch)] = epoch;
            dispatchCount[(1 * RANKS + me) * 2 + PARITY(epoch)] = placed[1];
            dispatchWord[(1 * RANKS + me) * 2 + PARITY(epoch)] = epoch
        fi
    }
}

inline sendPartial(source) {
    /* The sum of what this node's ranks made of the source's rows. */
    if
    :: sums[source] ->
        atomic {
            if
            :: FAR(me) -> assert(combined[2] == epoch)
            :: else ->
                assert(!route[(0 * RANKS + source) * 2 + (epoch & 1)] || combined[0] == epoch);
                assert(!route[(1 * RANKS + source) * 2 + (epoch & 1)] || combined[1] == epoch)
            fi;
            back[source]!epoch;
            sums[source] = 0
        }
    :: else
    fi
}

proctype rank(byte me) {
    byte epoch, slot, count, from, chunk, total, ranks, chunks;
    byte seen[RANKS], placed[RANKS], masks[CHUNKS];
    bit sums[RANKS];
    bit toNeighbour, isFar;

    do
    :: epoch == ROUNDS -> break
    :: epoch < ROUNDS ->
        epoch++;
        /* dispatchSend: chooses, then sends a chunk for the other node after the other. */
        atomic {
            chunks = 1;
#if CHUNKS > 1
            if
            :: chunks = 1
#ifdef FEW_ROUTES
            :: FAR(me) -> chunks = 2
#else
            :: chunks = 2
#endif
            fi;
#endif
            for (chunk : 0 .. CHUNKS - 1) {
                masks[chunk] = 0;
                if
                :: chunk >= chunks
                :: chunk < chunks
                :: chunk < chunks && !FAR(me) -> masks[chunk] = 4
                :: chunk < chunks && FAR(me) -> masks[chunk] = 1
                :: chunk < chunks && FAR(me) -> masks[chunk] = 2
                :: chunk < chunks && FAR(me) -> masks[chunk] = 3
                fi
            }
            if
            :: toNeighbour = 0
            :: !FAR(me) -> toNeighbour = 1
            fi;
#ifdef FEW_ROUTES
            /* Rank 0 sends to both others or to none, rank 1 to rank 2 at most, rank 2, which alone has more
             * chunks than one, to both or none. */
            for (chunk : 0 .. CHUNKS - 1) {
                if
                :: me == 0 -> masks[chunk] = toNeighbour * 4
                :: me == 1 -> toNeighbour = 0
                :: FAR(me) && masks[chunk] -> masks[chunk] = 3
                :: else
                fi;
                if
                :: chunk >= chunks -> masks[chunk] = 0
                :: else
                fi
            }
#endif
            for (chunk : 0 .. RANKS - 1) { route[(chunk * RANKS + me) * 2 + (epoch & 1)] = 0 }
            if
            :: toNeighbour -> route[((1 - me) * RANKS + me) * 2 + (epoch & 1)] = 1
            :: else
            fi;
            isFar = 0;
            for (chunk : 0 .. CHUNKS - 1) {
                for (from : 0 .. RANKS - 1) {
                    if
                    :: (masks[chunk] >> from) & 1 ->
                        isFar = 1;
                        route[(from * RANKS + me) * 2 + (epoch & 1)] =
                            route[(from * RANKS + me) * 2 + (epoch & 1)] | (1 << chunk)
                    :: else
                    fi
                }
            }
            chunk = 0; from = 0
        };
        do
        :: chunk < chunks ->
            atomic {
#ifdef SILENT
                if
                :: masks[chunk] -> wire[HALF(me, chunk)]!epoch, masks[chunk], chunks
                :: else
                fi;
#else
                wire[HALF(me, chunk)]!epoch, masks[chunk], chunks;
#ifdef WORD_APART
                wordWire[HALF(me, chunk)]!epoch, (chunks << 1 | (masks[chunk] != 0));
#endif
#endif
                masks[chunk] = 0;
                chunk++
            }
        :: else -> break
        od;
        atomic { chunk = 0; chunks = 0; placed[0] = 0; placed[1] = 0; placed[2] = 0 };
        /* dispatchPlace */
        if
        :: toNeighbour -> place((1 - me), me, 0)
        :: else
        fi;
        /* dispatchForward */
        if
        :: FAR(me) -> forward(0); forward(1)
        :: me == 0 -> forward(2)
        :: else
        fi;
        tellCounts();
        atomic { placed[0] = 0; placed[1] = 0; placed[2] = 0 };
        /* dispatchReceive: pairs with the words of every rank of the node. */
        atomic {
            if
            :: FAR(me) ->
                CAME(dispatchWord[(2 * RANKS + 2) * 2 + PARITY(epoch)]);
                count = dispatchCount[(2 * RANKS + 2) * 2 + PARITY(epoch)]
            :: !FAR(me) && CAME(dispatchWord[(me * RANKS + 0) * 2 + PARITY(epoch)]) &&
                    CAME(dispatchWord[(me * RANKS + 1) * 2 + PARITY(epoch)]) ->
                count = dispatchCount[(me * RANKS + 0) * 2 + PARITY(epoch)] +
                        dispatchCount[(me * RANKS + 1) * 2 + PARITY(epoch)]
            fi
        };
        counter[me * 2 + ((epoch + 1) & 1)] = 0;
        lookAtRows(0);
        lookAtRows(1);
        /* combineSend */
        combined[me] = epoch;
        d_step {
            count = 0;
            if
            :: FAR(me) -> dispatchCount[(2 * RANKS + 2) * 2 + PARITY(epoch)] = 0
            :: else ->
                dispatchCount[(me * RANKS + 0) * 2 + PARITY(epoch)] = 0;
                dispatchCount[(me * RANKS + 1) * 2 + PARITY(epoch)] = 0
            fi;
            if
            :: !FAR(me) -> combineWord[((1 - me) * RANKS + me) * 2 + PARITY(epoch)] = epoch
            :: else
            fi
        };
        /* combineWait */
        if
        :: FAR(me)
#ifdef NEEDED_ONLY
        :: !FAR(me) && !toNeighbour && !(me == 0 && sums[2])
#endif
        :: !FAR(me) && CAME(combineWord[(me * RANKS + (1 - me)) * 2 + PARITY(epoch)])
        fi;
        /* combineForward */
        if
        :: FAR(me) -> sendPartial(0); sendPartial(1)
        :: me == 0 -> sendPartial(2)
        :: else
        fi;
        /* combineReceive: only where rows went. */
#ifndef NO_PARTIAL_WAIT
        if
        :: !isFar
        :: isFar && CAME(partialWord[me * 2 + PARITY(epoch)])
        fi;
#endif
        /* combineReduce */
        atomic {
            assert(!isFar || partial[me] == epoch);
            assert(!toNeighbour || combined[1 - me] == epoch);
            isFar = 0;
            toNeighbour = 0;
            /* Its readers have looked; what is left would only tell states apart. */
            for (from : 0 .. RANKS - 1) { route[(from * RANKS + me) * 2 + (epoch & 1)] = 0 }
            from = 0
        }
    od
}

/* Makes one queue's packets visible, each when it likes. */
proctype network(byte queue) {
    byte epoch, ranks, total;
end:
    do
    :: atomic {
        wire[queue]?epoch, ranks, total ->
        if
        :: ranks -> section[queue] = epoch << 3 | ranks
        :: else
        fi;
#ifndef WORD_APART
        chunkTotal[queue * 2 + PARITY(epoch)] = total << 1 | (ranks != 0);
        chunkWord[queue * 2 + PARITY(epoch)] = epoch;
#endif
        epoch = 0; ranks = 0; total = 0 }
#ifdef WORD_APART
    :: atomic {
        wordWire[queue]?epoch, total ->
        chunkTotal[queue * 2 + PARITY(epoch)] = total;
        chunkWord[queue * 2 + PARITY(epoch)] = epoch;
        epoch = 0; total = 0 }
#endif
    od
}

proctype networkBack(byte source) {
    byte epoch;
end:
    do
    :: atomic { back[source]?epoch ->
        partial[source] = epoch;
        partialWord[source * 2 + PARITY(epoch)] = epoch;
        epoch = 0 }
    od
}

init {
    byte number;

    atomic {
        for (number : 0 .. RANKS * CHUNKS - 1) { run network(number) }
        for (number : 0 .. RANKS - 1) { run networkBack(number) }
        for (number : 0 .. RANKS - 1) { run rank(number) }
    }
}

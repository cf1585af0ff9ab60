// A bounded barrier over all ranks, before a dispatch whose predecessor was not combined (P4).
//
// Within a node, and where there is no network, every rank tells every rank. InterNode and AsyncLL
// tell the ranks of other nodes too, by the network. V1 has queue pairs to its proxies only:
//   1. every rank tells its node
//   2. every rank tells its proxy at each other node: all of this node are here
//   3. every rank tells its node: my sources are here
#pragma once

#include "Shmem/Proxies.h"
#include "Shmem/Ring.h"

namespace MORI_KERNELS {

/// Tells every rank of `ranks`, and awaits the same of them. `kind` names the words; `step` of the
/// three above is for a trace.
template <int step>
MORI_DEVICE bool meetRanks(const BlockWarp& warp,
                           const Operator& op,
                           Ranks ranks,
                           uint64_t kind,
                           uint32_t epoch,
                           uint64_t callTimeout) {
    const Signal signal{epoch, 0, 0};
    // Pairs with the wait below of every rank of `ranks`.
    signalRanks<MORIEP_PHASE_ROUND_BARRIER, step>(
        warp, op, ranks, kind, signal, [](int) { return 0u; });
    return awaitRanks<step>(warp,
                            op,
                            ranks,
                            kind,
                            MORIEP_PHASE_ROUND_BARRIER,
                            MORIEP_VERB_DISPATCH,
                            signal,
                            callTimeout);
}

/// Tells a rank of another node that this rank came to the barrier.
MORI_DEVICE void tellBarrier(
    const Operator& op, int peer, uint32_t epoch, uint64_t callTimeout, const BlockOnce& once) {
    Transfer transfer{};
    transfer.peer = peer;
    transfer.hasWord = true;
    transfer.word = op.signalOffset(op.layout().barrier_signals, epoch, op.rank());
    transfer.value = Signal{epoch, 0, 0}.word();
    trace::signal<MORIEP_PHASE_ROUND_BARRIER>(op, peer, 2);
    pushTransfer(op, MORIEP_VERB_DISPATCH, transfer, callTimeout, once);
}

/// Awaits the barrier words of ranks of other nodes: the i-th of `count` is `peer(i)`, -1: none.
template <class Peer>
MORI_DEVICE bool awaitBarrierOf(const BlockWarp& warp,
                                const Operator& op,
                                int count,
                                uint32_t epoch,
                                uint64_t callTimeout,
                                Peer&& peer) {
    countPhase(warp, op);
    // Pairs with tellBarrier.
    return awaitSignals(
        warp,
        op,
        count,
        MORIEP_PHASE_ROUND_BARRIER,
        MORIEP_VERB_DISPATCH,
        Signal{epoch, 0, 0},
        callTimeout,
        op.networkWakes() ? Waking::yes : Waking::no,
        [&](int i) -> const uint64_t* {
            const int from = peer(i);
            if (from < 0) return nullptr;
            return op.signal(op.layout().barrier_signals, epoch, op.rank(), from);
        },
        peer,
        [](int) { return 2; });
}

MORI_DEVICE bool barrier(const BlockWarp& warp,
                         const Operator& op,
                         uint32_t epoch,
                         uint64_t callTimeout) {
    const moriep_shape& shape = op.shape();
    const moriep_layout& layout = op.layout();
    if (shape.rings == 0) {
        return meetRanks<1>(warp, op, op.reachable(), layout.barrier_signals, epoch, callTimeout);
    }
    const Ranks own = op.nodeRanks();
    if (hasRankSections(shape)) {
        warp.each(op.worldSize(), [&](int peer, const BlockOnce& once) {
            if (!own.contains(peer) && op.isActive(peer))
                tellBarrier(op, peer, epoch, callTimeout, once);
        });
        return meetRanks<1>(warp, op, own, layout.barrier_signals, epoch, callTimeout) &&
               awaitBarrierOf(warp, op, op.worldSize(), epoch, callTimeout, [&](int peer) {
                   return own.contains(peer) || !op.isActive(peer) ? -1 : peer;
               });
    }
    const Proxies proxies(op);
    if (!meetRanks<1>(warp, op, own, layout.barrier_signals, epoch, callTimeout)) return false;
    warp.each(op.nodes(), [&](int node, const BlockOnce& once) {
        const int proxy = proxies.proxy(node);
        if (proxy >= 0) tellBarrier(op, proxy, epoch, callTimeout, once);
    });
    return awaitBarrierOf(warp,
                          op,
                          shape.landing_sections,
                          epoch,
                          callTimeout,
                          [&](int section) { return proxies.source(section); }) &&
           meetRanks<3>(warp, op, own, layout.barrier_end_signals, epoch, callTimeout);
}

}  // namespace MORI_KERNELS

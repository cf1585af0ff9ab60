// Rounds that end without being combined, and rounds that were let go of.

extension EPDispatchCombineOp {
    /// Ends a round without combining it.
    ///
    /// On every rank alike: the next dispatch waits for all.
    ///
    /// - Throws: `aborted`, `closed`.
    public func discard(_ received: consuming DispatchOutput) throws(MoriError) {
        try discard(received.lease)
    }

    /// Ends a round between its two halves of dispatch; its packets are never looked at.
    ///
    /// On every rank alike: the next dispatch waits for all.
    ///
    /// - Throws: `aborted`, `closed`.
    public func discard(_ pending: consuming PendingDispatch) throws(MoriError) {
        try discard(pending.lease)
    }

    /// Ends a round between its two halves of combine; its sums are never made.
    ///
    /// On every rank alike: the next dispatch waits for all.
    ///
    /// - Throws: `aborted`, `closed`.
    public func discard(_ pending: consuming PendingCombine) throws(MoriError) {
        try discard(pending.lease)
    }

    private func discard(_ lease: RoundLease) throws(MoriError) {
        try checkUsable()
        try check(lease)
        lease.settle()
        releaseSlot(lease.slot)
    }

    /// Gives back an output that was dropped, or refused by `combine`.
    ///
    /// - Throws: `invalidArgument` when none was.
    public func reclaim() throws(MoriError) -> DispatchOutput {
        let (slot, round, _) = try reclaim("output") { $0 == .received }
        return output(of: round, slot: slot)
    }

    /// Gives back a pending dispatch that was dropped, or refused by `dispatchReceive`.
    ///
    /// - Throws: `invalidArgument` when none was.
    public func reclaimPendingDispatch() throws(MoriError) -> PendingDispatch {
        let (slot, round, stage) = try reclaim("pending dispatch") { $0 == .dispatchSent }
        return PendingDispatch(lease: lease(of: round, slot: slot, stage: stage))
    }

    /// Gives back a pending combine that was dropped, or refused by `combineReceive`.
    ///
    /// - Throws: `invalidArgument` when none was.
    public func reclaimPendingCombine() throws(MoriError) -> PendingCombine {
        let (slot, round, stage) = try reclaim("pending combine") {
            if case .combineSent = $0 { true } else { false }
        }
        return PendingCombine(lease: lease(of: round, slot: slot, stage: stage))
    }

    private func reclaim(
        _ name: String, where isWanted: (RoundStage) -> Bool
    ) throws(MoriError) -> (slot: Int, round: DispatchRound, stage: RoundStage) {
        try checkUsable()
        let found = state.withLock { state -> (Int, DispatchRound, RoundStage)? in
            for (index, slot) in state.slots.enumerated() {
                if case .abandoned(let round, let stage) = slot, isWanted(stage) {
                    state.slots[index] = .inUse
                    return (index, round, stage)
                }
            }
            return nil
        }
        guard let found else {
            throw MoriError(
                .invalidArgument, "no \(name) of this operator was dropped or refused")
        }
        return found
    }

    /// Says of a round that occupies a slot how far it is; when it is dropped, the slot knows.
    func lease(of round: DispatchRound, slot: Int, stage: RoundStage) -> RoundLease {
        RoundLease(slot: slot, round: round, stage: stage, kernels: kernels) { [weak self] lease in
            self?.state.withLock { state in
                // A round that a recovery made void occupies no slot any more.
                guard state.kernels === lease.kernels else { return }
                state.slots[lease.slot] = .abandoned(lease.round, lease.stage)
            }
        }
    }
}

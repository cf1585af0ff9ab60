// Dispatch and combine in halves. A send ends once its rows are on their way; until the receive nothing
// of the device is held, so shared experts, or another batch's attention, run in between.
//
//   IntraNode            send: rows into the peers' memory;       receive: the wait, the sums
//   InterNode, AsyncLL   send: packets to all ranks;              receive: the wait, rows copied together
//   V1, V1LL             send: chunks to other nodes, rows of the own node;
//                        receive: chunks forwarded to the node; of combine also the partial sums, which
//                        need the rows of the node's other ranks

extension EPDispatchCombineOp {
    /// Sends each token once to every rank that hosts one of its experts, and does not wait.
    ///
    /// Takes what `dispatch` takes. With `slots: 2` a second batch can be sent before the first is
    /// received; every rank sends and receives in the same order.
    ///
    /// - Returns: What `dispatchReceive` takes.
    /// - Throws: as `dispatch`: `capacityExceeded` when every slot has a round already.
    ///
    /// The corresponding Python name is `dispatch_send`.
    public func dispatchSend(
        _ tokens: DeviceTensor, weights: DeviceTensor? = nil, scales: DeviceTensor? = nil,
        indices: DeviceTensor, validTokenCount: DeviceTensor? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> PendingDispatch {
        let input = OperatorKernels.DispatchInput(
            tokens: tokens, weights: weights, scales: scales, indices: indices,
            validTokenCount: validTokenCount)
        let (slot, round) = try begin(
            input, half: .send, launch: launch, timeout: timeout, on: stream)
        return PendingDispatch(lease: lease(of: round, slot: slot, stage: .dispatchSent))
    }

    /// Receives what every rank sent.
    ///
    /// - Parameters:
    ///   - pending: What `dispatchSend` gave. Consumed; when this call throws,
    ///     `reclaimPendingDispatch()` gives it back.
    ///   - launch: Blocks and warps of this call; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes; another one than the send's is ordered after it.
    /// - Returns: What this rank received, as `dispatch` gives it.
    /// - Throws: `invalidArgument` for what another operator gave; `aborted`, `closed`.
    ///
    /// The corresponding Python name is `dispatch_recv`.
    public func dispatchReceive(
        _ pending: consuming PendingDispatch, launch: LaunchConfiguration? = nil,
        timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> DispatchOutput {
        let traced = try beginCall("dispatchReceive")
        let lease = pending.lease
        try check(lease)
        try check(timeout: timeout)
        let round = lease.round
        let call = OperatorKernels.Call(
            verb: .dispatch, slot: lease.slot,
            launch: try launchParameters(for: .dispatch, override: launch, workload(round)),
            elementType: round.elementType, hiddenDim: round.hiddenDim, timeout: timeout,
            hasWeights: round.hasWeights, half: .receive, isTraced: traced != nil)
        try order(stream)
        let kernels = kernels
        let sample = meter?.begin(on: stream)
        try kernels.dispatch(
            call, nil, hasScales: round.scaleElementType != nil, tokenCount: round.tokenCount,
            on: stream)
        meter?.end(
            sample, of: measured(round, .receive, slot: lease.slot), with: kernels, on: stream)
        traced?.end(slot: lease.slot)
        lease.settle()
        return output(of: round, slot: lease.slot)
    }

    /// Sends the experts' output back, and does not wait.
    ///
    /// Takes what `combine` takes, weights included.
    ///
    /// - Returns: What `combineReceive` takes.
    /// - Throws: as `combine`.
    ///
    /// The corresponding Python name is `combine_send`.
    public func combineSend(
        _ expertOutput: DeviceTensor, of received: consuming DispatchOutput,
        weights: DeviceTensor? = nil, input: CombineInput? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> PendingCombine {
        let rows = OperatorKernels.CombineRows(output: expertOutput, weights: weights)
        let call = try send(
            rows, of: received, input: input, half: .send, launch: launch, timeout: timeout,
            on: stream)
        received.lease.settle()
        return PendingCombine(
            lease: lease(
                of: received.lease.round, slot: received.lease.slot, stage: .combineSent(call)))
    }

    /// Sums what every rank sent back.
    ///
    /// - Parameters:
    ///   - pending: What `combineSend` gave. Consumed; when this call throws,
    ///     `reclaimPendingCombine()` gives it back.
    ///   - launch: Blocks and warps of this call; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes; another one than the send's is ordered after it.
    /// - Returns: This rank's sums, as `combine` gives them.
    /// - Throws: `invalidArgument` for what another operator gave; `aborted`, `closed`.
    ///
    /// The corresponding Python name is `combine_recv`.
    public func combineReceive(
        _ pending: consuming PendingCombine, launch: LaunchConfiguration? = nil,
        timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> CombineOutput {
        let traced = try beginCall("combineReceive")
        let lease = pending.lease
        try check(lease)
        try check(timeout: timeout)
        guard case .combineSent(let call) = lease.stage else {
            throw MoriError(.invalidArgument, "this round was not sent by combineSend")
        }
        try enqueue(
            call, nil, slot: lease.slot, half: .receive, launch: launch, timeout: timeout,
            isTraced: traced != nil, on: stream)
        traced?.end(slot: lease.slot)
        lease.settle()
        releaseSlot(lease.slot)
        return output(of: lease, call)
    }
}

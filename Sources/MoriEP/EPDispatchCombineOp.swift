/// Dispatch and combine of one mixture-of-experts layer, or of several that share their buffers.
///
/// Enqueueing is synchronous and never blocks; every rank enqueues the same calls in the same
/// order. A round is one dispatch and its combine.
///
/// ```swift
/// let received = try op.dispatch(tokens, weights: weights, indices: indices, on: stream)
/// let output = experts(received.tokens, received.indices, received.receivedTokenCount)
/// let combined = try op.combine(output, of: received, on: stream)
/// try await stream.completion()
/// ```
///
/// The corresponding Python name is `EpDispatchCombineOp`.
public final class EPDispatchCombineOp: Sendable {
    /// What it was made for.
    public let config: EPDispatchCombineConfig
    /// The world it lives in.
    public let world: SymmetricMemory
    /// Rows of the receive buffers.
    ///
    /// The corresponding Python name is `max_num_tokens_to_recv`.
    public let maxReceivedTokens: Int

    /// This rank's memory and the verbs over it; others after the world has recovered.
    var kernels: OperatorKernels { state.withLock { $0.kernels } }
    /// Asked once: a launch looks nothing up.
    let deviceProperties: Device.Properties
    /// Which launch it wants for a call.
    let launches: LaunchPolicy
    /// Counts its rounds; nil where nobody collects metrics.
    let meter: OperatorMeter?
    let state: Locked<State>

    /// What the host remembers of an operator's rounds.
    struct State {
        enum Slot {
            case free
            /// Dispatched; somebody holds the output.
            case inUse
            /// Dispatched, and what stood for the round was dropped.
            case abandoned(DispatchRound, RoundStage)
        }
        /// What every call asks.
        struct Standing {
            var kernels: OperatorKernels
            var isClosed = false
            /// What records this operator's calls and kernels; nil: nothing does.
            var trace: OperatorTrace?
        }
        var slots: [Slot]
        var standing: Standing
        /// What a recovery has prepared and not gone over to yet.
        var prepared: OperatorKernels?
        var firstIncompleteRound: Int?
        /// What will go on to record after a pause.
        var pausedTrace: OperatorTrace?
        /// What `setTimeout` set last; a recovery keeps it.
        var timeout: Duration?
        /// The stream of the last call: later calls on another one are ordered after it (P20).
        var lastStream: DeviceStream?

        var kernels: OperatorKernels {
            get { standing.kernels }
            set { standing.kernels = newValue }
        }
        var isClosed: Bool {
            get { standing.isClosed }
            set { standing.isClosed = newValue }
        }
        var trace: OperatorTrace? {
            get { standing.trace }
            set { standing.trace = newValue }
        }
    }

    /// Allocates an operator on every rank.
    ///
    /// Collective: all ranks with equal settings.
    ///
    /// - Throws: `invalidConfiguration` with the nearest legal value, or with the line and key that
    ///   are wrong in a file of tuning rules; `ranksDisagree` naming the field, the ranks and their
    ///   values; `outOfMemory` with the heap size to set; `timedOut`
    ///   naming ranks that did not come.
    public init(
        _ config: EPDispatchCombineConfig, in world: SymmetricMemory
    ) async throws(MoriError) {
        try world.checkUsable()
        // Agreement first: a rank whose own settings are illegal says so to the others too.
        let problem = Result { () throws(MoriError) in
            try config.validate(worldSize: world.worldSize)
        }
        let device = try world.device.properties()
        let launches = Result { () throws(MoriError) in
            try LaunchPolicy(
                world.environment, kernelType: config.kernelType, worldSize: world.worldSize,
                device: device)
        }
        // Ranks may launch differently, but one that cannot read its rules must not be waited for.
        let rules = (name: "launch rules", value: launches.failure.map { "\($0)" } ?? "usable")
        do throws(MoriError) {
            try await world.checkAgreement(
                on: config.agreement + [rules], about: "an operator's configuration")
        } catch {
            // Its own reason says more than that the others have none.
            _ = try launches.get()
            throw error
        }
        try problem.get()
        self.launches = try launches.get()
        try Self.checkHosts(of: config, in: world)
        self.config = config
        self.world = world
        maxReceivedTokens = config.maxReceivedTokens(worldSize: world.worldSize)
        deviceProperties = device
        meter = OperatorMeter(config, in: world)
        let kernels = try await OperatorKernels(config, in: world, generation: world.generation)
        state = Locked(
            State(
                slots: Array(repeating: .free, count: config.slots),
                standing: State.Standing(kernels: kernels)))
        // Nobody may write into a peer whose words are not zero yet.
        try await world.barrier()
        world.enroll(self)
    }

    /// Ranks of one node map each other's memory, so they must be on one host.
    private static func checkHosts(
        of config: EPDispatchCombineConfig, in world: SymmetricMemory
    ) throws(MoriError) {
        let hosts = world.heap.hosts
        let nodes = OperatorShape(config, worldSize: world.worldSize).proxies
        for node in 0..<nodes.nodeCount {
            let ranks = nodes.ranks(of: node).filter(world.activeRanks.contains)
            guard let first = ranks.first,
                let apart = ranks.first(where: { hosts[$0] != hosts[first] })
            else { continue }
            let advice =
                config.kernelType == .intraNode
                ? "intraNode moves tokens inside one host: take one of the kernels between nodes"
                : "devicesPerNode is \(config.devicesPerNode): set it to the ranks of one host"
            throw MoriError(
                .invalidConfiguration,
                "ranks \(first) and \(apart) are on different hosts and would be one node; \(advice)",
                ranks: [first, apart])
        }
    }

    deinit {
        // Buffers outlive the last launch that uses them; the symmetric ones stay with the world.
        let (stream, kernels) = state.withLock { ($0.lastStream, $0.kernels) }
        stream?.retain(kernels)
    }

    /// The bytes that the operator has allocated on this rank.
    public var memoryPlan: MemoryPlan { kernels.plan }

    /// The smallest round that was not complete on every rank when the world last recovered; nil before.
    ///
    /// Rounds are counted from 1, in each slot.
    public var firstIncompleteRound: Int? { state.withLock { $0.firstIncompleteRound } }

    /// The bytes that an operator would allocate on each rank of a world of this size.
    ///
    /// - Throws: `invalidConfiguration`.
    public static func memoryPlan(
        for config: EPDispatchCombineConfig, worldSize: Int
    ) throws(MoriError) -> MemoryPlan {
        try config.validate(worldSize: worldSize)
        return try OperatorKernels.plan(config, worldSize: worldSize)
    }

    /// What this rank has asked of the network so far; nothing where all ranks are on one node.
    ///
    /// Exact once the network is done with everything that the work so far gave it, for which this
    /// waits, a second at most. The difference of two snapshots is what happened in between.
    public func networkStatistics() async -> NetworkStatistics {
        for _ in 0..<1000 where !kernels.networkIsDrained {
            try? await Task.sleep(for: .milliseconds(1))
        }
        return kernels.networkStatistics ?? NetworkStatistics()
    }

    /// Begins to look for the largest number of dependent network phases anew.
    package func resetNetworkPhases() { kernels.resetNetworkPhases() }

    /// Has no effect: rounds clean up after themselves.
    ///
    /// Kept for code that comes from Python.
    ///
    /// The corresponding Python name is `reset`.
    public func reset() {}

    /// Sets the deadline of every later wait of this rank, in replayed graphs too.
    ///
    /// - Parameters:
    ///   - timeout: From the wait's own start, more than zero.
    ///   - stream: Where the change goes: waits of work enqueued later see it.
    /// - Throws: `invalidArgument`; `aborted`, `closed`.
    public func setTimeout(_ timeout: Duration, on stream: DeviceStream) throws(MoriError) {
        try checkUsable()
        try check(timeout: timeout)
        try order(stream)
        try kernels.setTimeout(timeout, on: stream)
        state.withLock { $0.timeout = timeout }
    }

    /// The buffer from which peers read combine's input in place, [capacity, hidden].
    ///
    /// Write row i of the experts' output for received row i, then combine with
    /// `input: .registered`.
    ///
    /// - Throws: `invalidArgument` when the type or hidden size exceeds the configuration's.
    ///
    /// The corresponding Python name is `get_registered_combine_input_buffer`.
    public func registeredCombineInput(
        of elementType: ElementType? = nil, hiddenDim: Int? = nil, slot: Int = 0
    ) throws(MoriError) -> DeviceTensor {
        let elementType = elementType ?? config.effectiveCombineElementType
        let hiddenDim = hiddenDim ?? config.hiddenDim
        guard state.withLock({ $0.slots.indices }).contains(slot) else {
            throw MoriError(
                .invalidArgument, "slot \(slot); legal are 0 to \(config.slots - 1)")
        }
        try checkCombineRow(elementType: elementType, hiddenDim: hiddenDim)
        return kernels.tensor(
            .combineInput, slot: slot, shape: [maxReceivedTokens, hiddenDim],
            elementType: elementType)
    }

    /// Gives the memory back, once the last tensor that lies in it is gone.
    ///
    /// Collective: waits for every rank, so that none loses what another still reads. Closing twice
    /// does nothing.
    public func close() async throws(MoriError) {
        forgetTrace()
        let (wasClosed, stream) = state.withLock { state in
            defer {
                state.isClosed = true
                state.lastStream = nil
            }
            return (state.isClosed, state.lastStream)
        }
        guard !wasClosed else { return }
        // A failed round was reported where it was awaited; here only its end matters.
        try? await stream?.completion()
        await meter?.settle(kernels)
        guard world.fault == nil && kernels.recordedFailure == nil else { return }
        try await kernels.free()
    }
}

extension Result {
    /// What was thrown; nil for a success.
    fileprivate var failure: Failure? {
        if case .failure(let failure) = self { failure } else { nil }
    }
}

// -----------------------------------------------------------------------------------------------
// The state of rounds

extension EPDispatchCombineOp: DeviceStream.FaultSource {
    /// What ended this operator's rounds, in the words of whoever knows best: the world knows which
    /// rank died, the kernels only whom they waited for.
    package var fault: MoriError? { fault(of: kernels) }

    private func fault(of kernels: OperatorKernels) -> MoriError? {
        guard let record = kernels.failureRecord, let recorded = kernels.recordedFailure else {
            return nil
        }
        // The world must know of it either way, or its close would wait for ranks that are gone.
        if record.isUndecided {
            world.search(in: kernels.generation)
        } else {
            world.fail(recorded, culprit: recorded.ranks.first, in: kernels.generation)
        }
        guard recorded.code == .aborted, var fault = world.fault else { return recorded }
        fault.wait = fault.wait ?? recorded.wait
        return fault
    }

    /// Finds out who failed, where all that is known is who was waited for (P16).
    package func settleFault() async {
        let kernels = kernels
        guard let record = kernels.failureRecord else { return }
        if record.isUndecided { return await world.findCulprit(in: kernels.generation) }
        // Some rank's host ended the round. Its words come over the bootstrap, and a peer's kernel that
        // its abort word has reached may be faster.
        guard record.wasEndedByHost else { return }
        let end = ContinuousClock.now + .milliseconds(50)
        while world.fault == nil, ContinuousClock.now < end {
            try? await Task.sleep(for: .milliseconds(1))
        }
    }

    package var isFaultSettled: Bool {
        let kernels = kernels
        guard kernels.failureRecord?.isUndecided == true, kernels.generation.culprits == nil else {
            return true
        }
        world.search(in: kernels.generation)
        return false
    }

    /// Throws when no round can begin or end any more.
    func checkUsable() throws(MoriError) { _ = try activeTrace() }

    /// A call of the host begins; throws when no round can begin or end any more.
    ///
    /// - Returns: The record of the call; nil: nothing records.
    func beginCall(_ name: StaticString) throws(MoriError) -> OperatorTrace.HostCall? {
        try activeTrace()?.call(name)
    }

    /// What records this operator, nil: nothing does; throws when no round can begin or end any more.
    func activeTrace() throws(MoriError) -> OperatorTrace? {
        // One value of a type of its own: a tuple's would be looked up at run time.
        let standing = state.withLock { $0.standing }
        guard !standing.isClosed else {
            throw MoriError(.closed, "this operator was closed")
        }
        if let fault = fault(of: standing.kernels) {
            throw MoriError(
                .aborted, "an earlier round failed: \(fault)", wait: fault.wait,
                ranks: fault.ranks)
        }
        try world.checkUsable()
        return standing.trace
    }

    /// Puts later work of `stream` behind everything that this operator enqueued elsewhere.
    func order(_ stream: DeviceStream) throws(MoriError) {
        guard stream.device == world.device else {
            throw MoriError(
                .invalidArgument,
                "a stream of \(stream.device) for an operator on \(world.device)")
        }
        let last = state.withLock { state in
            defer { state.lastStream = stream }
            return state.lastStream
        }
        stream.report(self)
        // A capture runs nothing now, and may not wait for another stream's work: whoever launches
        // the graph orders it.
        guard let last, last !== stream, try !stream.isCapturing() else { return }
        let event = try DeviceEvent(on: stream.device)
        try last.record(event)
        try stream.wait(for: event)
    }

    /// Takes a slot for a new round.
    func takeSlot() throws(MoriError) -> Int {
        try state.withLock { (state) throws(MoriError) in
            for (index, slot) in state.slots.enumerated() {
                if case .free = slot {
                    state.slots[index] = .inUse
                    return index
                }
            }
            for case .abandoned(_, let stage) in state.slots {
                throw MoriError(
                    .abandoned,
                    "\(stage.name) was dropped; take it back with \(stage.reclaim) and finish or"
                        + " discard it, on every rank alike")
            }
            throw MoriError(
                .capacityExceeded,
                "\(config.slots) rounds are in flight already; combine or discard one first, or"
                    + " set slots to \(config.slots + 1)")
        }
    }

    func releaseSlot(_ slot: Int) { state.withLock { $0.slots[slot] = .free } }

    func checkCombineRow(elementType: ElementType, hiddenDim: Int) throws(MoriError) {
        guard elementType.isTokenType else {
            throw MoriError(
                .invalidArgument,
                "combine of \(elementType); legal are "
                    + ElementType.tokenTypes.map(\.description).joined(separator: ", "))
        }
        try checkWholeBytes("combine rows", elementType, hidden: hiddenDim)
        let bytes = elementType.byteCount(of: hiddenDim)
        guard hiddenDim > 0 && bytes <= config.combineRowByteCount else {
            throw MoriError(
                .invalidArgument,
                "combine rows of \(hiddenDim) \(elementType) are \(bytes) bytes; this operator has"
                    + " room for 1 to \(config.combineRowByteCount): hiddenDim"
                    + " \(config.hiddenDim) of \(config.effectiveCombineElementType)")
        }
    }
}

import CoreMetrics
package import Logging
public import MoriDevice

/// A world of ranks that reach each other's memory: where operators live.
///
/// Ranks are processes (`join`) or threads of one process (`local`). Nothing is global: several
/// worlds may live in one process. What is collective says so; every rank must do it, in the same
/// order. A rank that dies ends the world's rounds with an error that names it; `recover` lets the
/// others go on.
///
/// The corresponding Python module is `mori.shmem`.
public final class SymmetricMemory: Sendable {
    /// This rank, in `0..<worldSize`.
    ///
    /// OpenSHMEM says "PE".
    ///
    /// The corresponding Python name is `shmem_mype`.
    public let rank: Int
    /// Ranks of the world.
    ///
    /// The corresponding Python name is `shmem_npes`.
    public let worldSize: Int
    /// This rank among those of its node.
    public let localRank: Int
    /// Ranks on this rank's node.
    public let localWorldSize: Int
    /// The device whose memory it is.
    public let device: Device
    /// How long a round waits for a rank; `MORI_EP_TIMEOUT`.
    ///
    /// nil: `defaultRoundTimeout`, and `firstRoundTimeout` until the first round is through.
    public let roundTimeout: Duration?

    package let logger: Logger
    /// What counts the world's failures and recoveries; nil where nobody asked for it.
    package let metrics: WorldMetrics?
    /// What connects operators whose ranks are on several nodes.
    package let networking: Networking
    /// What the environment said when the world was made.
    package let environment: MoriEnvironment
    let keeper: HeapKeeper
    let state: Locked<State>

    struct State: Sendable {
        var isClosed = false { didSet { isUsable = !isClosed && fault == nil } }
        var isRecovering = false
        var fault: MoriError? { didSet { isUsable = !isClosed && fault == nil } }
        /// Whether neither is there: what every call asks first.
        private(set) var isUsable = true
        /// What the world is made of; another one after each recovery.
        var generation: WorldGeneration
        /// What recovery has to make anew, in the order in which it was made.
        var members: [WorldMember] = []
        /// How many there were so far: the same on every rank.
        var memberCount = 0
        /// What has recorded something for `exportTrace`.
        var traceSources: [any TraceSource] = []
        /// The bootstraps of former generations, which end by themselves.
        var partings: [Task<Void, Never>] = []
    }

    /// What the world is made of at present.
    package var generation: WorldGeneration { state.withLock { $0.generation } }
    /// How its ranks meet.
    package var bootstrap: any Bootstrap { generation.bootstrap }
    /// Where operators allocate.
    package var heap: SymmetricHeap { generation.heap }

    /// The ranks that take part in rounds, ascending: all of them, until `recover` leaves some behind.
    public var activeRanks: [Int] { generation.activeRanks }

    /// Bytes of symmetric memory that may be allocated in all; `MORI_SHMEM_HEAP_SIZE`.
    public var heapByteLimit: Int { environment.heapByteLimit }
    /// How long collective calls wait for a rank that does not come; `MORI_BOOTSTRAP_TIMEOUT`.
    public var bootstrapTimeout: Duration { environment.bootstrapTimeout }

    /// The heap's limit where nothing sets one: the guide's 6 GiB for DeepSeek-V3's shape, with
    /// room for a second operator.
    public static let defaultHeapByteLimit = 8 << 30
    /// The deadline of a round's waits where nothing sets one.
    public static let defaultRoundTimeout: Duration = .seconds(30)
    /// The same for the first round: ranks start at different times.
    public static let firstRoundTimeout: Duration = .seconds(300)

    /// What a rank brings into a world.
    struct Settings {
        var device: Device
        var localRank: Int
        var localWorldSize: Int
        var environment: MoriEnvironment
        var networking: Networking
        var logger: Logger
        var metrics: (any MetricsFactory)?
    }

    /// Makes this rank's part of a world.
    ///
    /// Collective.
    init(
        _ settings: Settings, bootstrap: any Bootstrap, keeper: HeapKeeper
    ) async throws(MoriError) {
        rank = bootstrap.rank
        worldSize = bootstrap.worldSize
        localRank = settings.localRank
        localWorldSize = settings.localWorldSize
        device = settings.device
        environment = settings.environment
        roundTimeout = environment.roundTimeout
        logger = settings.logger
        metrics = WorldMetrics(settings.metrics, rank: bootstrap.rank)
        networking = settings.networking
        self.keeper = keeper
        let timeout = settings.environment.bootstrapTimeout
        let hosts = try await bootstrap.allGather(
            "host", settings.networking.hostIdentity, timeout: timeout)
        let heap = try SymmetricHeap(
            device: settings.device, byteLimit: settings.environment.heapByteLimit,
            timeout: timeout, bootstrap: bootstrap, keeper: keeper, generation: 0,
            hosts: hosts.map { hosts.firstIndex(of: $0) ?? 0 })
        try await Self.checkAgreement(
            on: [("device", settings.device.kind.rawValue)], about: "this world",
            over: bootstrap, timeout: timeout)
        let generation = try await WorldGeneration(0, bootstrap: bootstrap, heap: heap)
        state = Locked(State(generation: generation))
        listen(to: generation)
        metrics?.note(activeRanks: worldSize)
        try await bootstrap.barrier("world", timeout: timeout)
        logger.debug(
            "joined a world",
            metadata: [
                "rank": "\(rank)", "worldSize": "\(worldSize)", "localRank": "\(localRank)",
                "device": "\(device)",
            ])
    }

    deinit {
        // Operators and their work keep the world alive: no kernel of this rank runs any more.
        keeper.leave(state.withLock { $0.generation.number }, rank)
    }

    /// Begins to take events of a generation's bootstrap.
    func listen(to generation: WorldGeneration) {
        generation.bootstrap.onEvent { [weak self, weak generation] event in
            guard let self, let generation else { return }
            // What a former generation still says is about rounds that are void already.
            receive(event, in: generation)
        }
    }

    // -------------------------------------------------------------------------------------------
    // Failures

    /// Why the world's rounds ended; nil while they go on.
    package var fault: MoriError? { state.withLock { $0.fault } }

    /// Ends the rounds of every rank: for a rank whose own input was refused, so that its peers do
    /// not wait for it until their deadline.
    ///
    /// Every later call answers `aborted`. Where the rounds had ended already, for this rank's
    /// network or because of a peer, the others are told that reason and not this one.
    public func abort(_ reason: String) {
        // A rank that gives up because of a failure may be faster than whoever reports the failure.
        if let fault {
            return bootstrap.abort(
                culprit: fault.ranks.first ?? rank, message: fault.message)
        }
        fail(
            MoriError(.aborted, "rank \(rank) aborted: \(reason)", ranks: [rank]), culprit: rank)
        bootstrap.abort(culprit: rank, message: reason)
    }

    private func receive(_ event: BootstrapEvent, in generation: WorldGeneration) {
        switch event {
        case .peerLost(let peer):
            fail(
                MoriError(
                    .peerLost,
                    "rank \(peer) died or lost its connection; rank \(rank) ended its rounds",
                    ranks: [peer]), culprit: peer, in: generation)
        case .aborted(let peer, let culprit, let message):
            fail(
                MoriError(
                    .aborted, "rank \(peer) aborted: \(message)", ranks: [culprit ?? peer]),
                culprit: culprit ?? peer, in: generation)
        case .waits(let peer, let others):
            generation.inquest.note(peer, waitsFor: others)
            if self.generation === generation { search(in: generation) }
        }
    }

    /// Takes the first failure for this world's and drains the kernels that wait.
    ///
    /// What kernels only heard, that some rank ended the round, gives way to the words of whoever
    /// knows why. A failure of a former generation is none of this one.
    ///
    /// - Parameters:
    ///   - error: What happened.
    ///   - culprit: The rank that caused it.
    ///   - source: The generation in which it happened; nil: the present one.
    package func fail(_ error: MoriError, culprit: Int?, in source: WorldGeneration? = nil) {
        let (generation, isFirst) = state.withLock { state -> (WorldGeneration?, Bool) in
            guard !state.isClosed, source == nil || state.generation === source,
                state.fault.map({ $0.isHearsay && !error.isHearsay }) ?? true
            else { return (nil, false) }
            defer { state.fault = error }
            return (state.generation, state.fault == nil)
        }
        guard let generation else { return }
        // Better words for the same failure are no second one.
        if isFirst { metrics?.countFailure(error) }
        logger.debug(
            "the world's rounds ended",
            metadata: [
                "rank": "\(rank)", "code": "\(error.code)", "ranks": "\(error.ranks)",
                "error": "\(error)",
            ])
        generation.raiseAbort(culprit: culprit)
    }

    /// Throws what ended this world.
    package func checkUsable() throws(MoriError) {
        guard !state.withLock({ $0.isUsable }) else { return }
        let (isClosed, fault) = state.withLock { ($0.isClosed, $0.fault) }
        guard !isClosed else {
            throw MoriError(.closed, "rank \(rank)'s part of this world was closed")
        }
        if let fault {
            throw MoriError(
                .aborted, "this world's rounds ended earlier: \(fault)", wait: fault.wait,
                ranks: fault.ranks)
        }
    }

    // -------------------------------------------------------------------------------------------
    // Collective calls

    /// Waits until every rank is here.
    ///
    /// Collective.
    ///
    /// - Throws: `timedOut` with the ranks that did not come; `peerLost`; `aborted`.
    ///
    /// The corresponding Python name is `shmem_barrier_all`.
    public func barrier() async throws(MoriError) {
        try checkUsable()
        try await bootstrap.barrier("user", timeout: bootstrapTimeout)
    }

    /// Gives every rank's bytes to every rank.
    ///
    /// Collective; for small values, at the start or end.
    ///
    /// - Throws: `timedOut` with the ranks that did not come; `peerLost`; `aborted`.
    public func allGather(_ bytes: [UInt8]) async throws(MoriError) -> [[UInt8]] {
        try checkUsable()
        return try await bootstrap.allGather("user", bytes, timeout: bootstrapTimeout)
    }

    /// Throws on every rank when the ranks' settings differ, naming setting, ranks and values.
    package func checkAgreement(
        on settings: [(name: String, value: String)], about subject: String
    ) async throws(MoriError) {
        try await Self.checkAgreement(
            on: settings, about: subject, over: bootstrap, timeout: bootstrapTimeout)
    }

    private static func checkAgreement(
        on settings: [(name: String, value: String)], about subject: String,
        over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) {
        let own = settings.map { "\($0.name)=\($0.value)" }
        let first = bootstrap.members[0]
        let all = try await bootstrap.allGather(
            "agreement", Array(own.joined(separator: "\n").utf8), timeout: timeout)
        let lines = all.map { bytes in
            String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        }
        // Against the first rank's, so that every rank throws the same.
        for rank in bootstrap.members where lines[rank] != lines[first] {
            let other = lines[rank]
            let difference =
                zip(lines[first], other).first { $0 != $1 }
                ?? (lines[first].last ?? "nothing", other.last ?? "nothing")
            throw MoriError(
                .ranksDisagree,
                "\(subject): rank \(first) has \(difference.0), rank \(rank) \(difference.1);"
                    + " all ranks must have the same", ranks: [first, rank])
        }
    }

    /// Leaves the world: waits for every rank, then gives the memory back.
    ///
    /// Collective.
    ///
    /// Closing twice does nothing. After a failure it does not wait for ranks that are gone.
    ///
    /// The corresponding Python name is `shmem_finalize`.
    public func close() async throws(MoriError) {
        let (wasClosed, generation, partings) = state.withLock { state in
            defer {
                state.isClosed = true
                state.traceSources = []
            }
            return (state.isClosed, state.generation, state.partings)
        }
        guard !wasClosed else { return }
        let failed = await hasFailed(in: generation)
        let freed = await outcome { () async throws(MoriError) in
            // After a failure the ranks no longer meet: the memory goes with the world.
            if !failed { try await generation.heap.free(generation.abortWords) }
        }
        await generation.bootstrap.close(timeout: failed ? .seconds(1) : bootstrapTimeout)
        for parting in partings { await parting.value }
        try freed.get()
    }
}

extension MoriError {
    /// Whether a kernel saw an abort word and nothing more.
    var isHearsay: Bool { code == .aborted && wait != nil }
}

/// What an asynchronous body returns or throws.
func outcome<Success: Sendable>(
    _ body: () async throws(MoriError) -> Success
) async -> Result<Success, MoriError> {
    do {
        return .success(try await body())
    } catch {
        return .failure(error)
    }
}

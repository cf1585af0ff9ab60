import CMoriSystem
package import Logging
public import MoriDevice

/// A world of ranks that reach each other's memory: where operators live.
///
/// Ranks are processes (`join`) or threads of one process (`local`). Nothing is global: several
/// worlds may live in one process. What is collective says so; every rank must do it, in the same
/// order. A rank that dies ends the world's rounds with an error that names it.
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

    /// Where operators allocate.
    package let heap: SymmetricHeap
    package let bootstrap: any Bootstrap
    package let logger: Logger
    /// Symmetric u64 [worldSize] by which ranks end each other's rounds, one word a writer.
    package let abortWords: SymmetricBuffer
    /// Pinned u64 by which this rank's own host ends them.
    package let hostAbort: DeviceBuffer
    /// What connects operators whose ranks are on several nodes.
    package let networking: Networking
    /// What the environment said when the world was made.
    package let environment: MoriEnvironment
    private let state = Locked(State())

    private struct State {
        var isClosed = false
        var fault: MoriError?
    }

    /// Bytes of symmetric memory that may be allocated in all; `MORI_SHMEM_HEAP_SIZE`.
    public var heapByteLimit: Int { heap.byteLimit }
    /// How long collective calls wait for a rank that does not come; `MORI_BOOTSTRAP_TIMEOUT`.
    public var bootstrapTimeout: Duration { heap.timeout }

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
        networking = settings.networking
        self.bootstrap = bootstrap
        let hosts = try await bootstrap.allGather(
            "host", settings.networking.hostIdentity, timeout: settings.environment.bootstrapTimeout
        )
        heap = try SymmetricHeap(
            device: settings.device, byteLimit: settings.environment.heapByteLimit,
            timeout: settings.environment.bootstrapTimeout, bootstrap: bootstrap, keeper: keeper,
            hosts: hosts.map { hosts.firstIndex(of: $0) ?? 0 })
        try await Self.checkAgreement(
            on: [("device", settings.device.kind.rawValue)], about: "this world",
            over: bootstrap, timeout: settings.environment.bootstrapTimeout)
        hostAbort = try DeviceBuffer(zeroedPinnedByteCount: 8, on: settings.device)
        abortWords = try await heap.allocate(
            byteCount: 8 * bootstrap.worldSize, for: "the world's abort words")
        try await heap.zero(abortWords, byteCount: 8 * bootstrap.worldSize)
        bootstrap.onEvent { [weak self] event in self?.receive(event) }
        try await bootstrap.barrier("world", timeout: settings.environment.bootstrapTimeout)
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

    private func receive(_ event: BootstrapEvent) {
        switch event {
        case .peerLost(let peer):
            fail(
                MoriError(
                    .peerLost,
                    "rank \(peer) died or lost its connection; rank \(rank) ended its rounds",
                    ranks: [peer]), culprit: peer)
        case .aborted(let peer, let culprit, let message):
            fail(
                MoriError(
                    .aborted, "rank \(peer) aborted: \(message)", ranks: [culprit ?? peer]),
                culprit: culprit ?? peer)
        }
    }

    /// Takes the first failure for this world's and drains the kernels that wait.
    ///
    /// What kernels only heard, that some rank ended the round, gives way to the words of whoever
    /// knows why.
    package func fail(_ error: MoriError, culprit: Int?) {
        let isNews = state.withLock { state in
            guard !state.isClosed, state.fault.map({ $0.isHearsay && !error.isHearsay }) ?? true
            else { return false }
            state.fault = error
            return true
        }
        guard isNews else { return }
        logger.debug("the world's rounds ended", metadata: ["error": "\(error)"])
        // reason 4 (MORIEP_FAILURE_ABORTED) | culprit + 1; see moriep_operator.h.
        let word = UInt64(4) << 32 | UInt64((culprit ?? -1) + 1)
        guard let pointer = unsafe UnsafeMutablePointer<UInt64>(bitPattern: hostAbort.address)
        else { return }
        unsafe mori_store_release_u64(pointer, word)
    }

    /// Throws what ended this world.
    package func checkUsable() throws(MoriError) {
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
        let all = try await bootstrap.allGather(
            "agreement", Array(own.joined(separator: "\n").utf8), timeout: timeout)
        let lines = all.map { bytes in
            String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        }
        // Against rank 0's, so that every rank throws the same.
        for (rank, other) in lines.enumerated() where other != lines[0] {
            let difference =
                zip(lines[0], other).first { $0 != $1 }
                ?? (lines[0].last ?? "nothing", other.last ?? "nothing")
            throw MoriError(
                .ranksDisagree,
                "\(subject): rank 0 has \(difference.0), rank \(rank) \(difference.1); all ranks"
                    + " must have the same", ranks: [0, rank])
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
        let (wasClosed, fault) = state.withLock { state in
            defer { state.isClosed = true }
            return (state.isClosed, state.fault)
        }
        guard !wasClosed else { return }
        let freed = await outcome { () async throws(MoriError) in
            // After a failure the ranks no longer meet: the memory goes with the world.
            if fault == nil { try await heap.free(abortWords) }
        }
        await bootstrap.close(timeout: fault == nil ? bootstrapTimeout : .seconds(1))
        try freed.get()
    }
}

extension MoriError {
    /// Whether a kernel saw an abort word and nothing more.
    fileprivate var isHearsay: Bool { code == .aborted && wait != nil }
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

public import CoreMetrics
public import Logging
public import MoriDevice

extension SymmetricMemory {
    /// Makes a world whose ranks are threads or tasks of this process.
    ///
    /// Drive each rank from its own task or thread: a rank's operators wait for the others'.
    ///
    /// - Parameters:
    ///   - worldSize: Ranks, 1 to 256.
    ///   - device: Whose memory and kernels; by default what `MORI_EP_DEVICE` asks for, ranks
    ///     taking the devices of a node in turn.
    ///   - heapByteLimit: Bytes of symmetric memory per rank; default `MORI_SHMEM_HEAP_SIZE`.
    ///   - roundTimeout: The deadline of a round's waits; default `MORI_EP_TIMEOUT`.
    ///   - logger: Where the world logs, at debug and below.
    ///   - metrics: Where the world counts (docs/metrics.md); nil: the factory that holds where this
    ///     is called, `MetricsSystem.factory`, and nothing where none was bootstrapped.
    /// - Returns: One object for each rank, by rank.
    /// - Throws: `invalidArgument` for a size out of range, `invalidConfiguration` for a variable
    ///   that cannot be read, `noDevice`.
    public static func local(
        worldSize: Int, device: Device? = nil, heapByteLimit: Int? = nil,
        roundTimeout: Duration? = nil, logger: Logger = .current,
        metrics: (any MetricsFactory)? = nil
    ) async throws(MoriError) -> [SymmetricMemory] {
        try await local(
            worldSize: worldSize, device: device, heapByteLimit: heapByteLimit,
            roundTimeout: roundTimeout, logger: logger, metrics: metrics, fabric: nil,
            environment: nil)
    }

    /// The same, over a fabric that operators use whatever MORI_EP_FABRIC says, or in an environment
    /// that is not the process's.
    package static func local(
        worldSize: Int, device: Device? = nil, heapByteLimit: Int? = nil,
        roundTimeout: Duration? = nil, logger: Logger = .current,
        metrics: (any MetricsFactory)? = nil,
        fabric: (any Fabric)?, environment: MoriEnvironment? = nil
    ) async throws(MoriError) -> [SymmetricMemory] {
        try check(worldSize: worldSize)
        if let roundTimeout, roundTimeout <= .zero {
            throw MoriError(
                .invalidArgument, "a round timeout of \(roundTimeout); legal is more than zero")
        }
        // Not with ??, which loses the type of what is thrown.
        var environment = if let environment { environment } else { try MoriEnvironment() }
        if let heapByteLimit { environment.heapByteLimit = heapByteLimit }
        if let roundTimeout { environment.roundTimeout = roundTimeout }
        let logger = environment.adjust(logger)
        let keeper = HeapKeeper()
        for rank in 0..<worldSize { keeper.begin(0, rank) }
        // One proxy serves all ranks of the process.
        let networking = Networking(environment, hostIdentity: [], fabric: fabric)
        var parts: [(LocalBootstrap, Settings)] = []
        for bootstrap in LocalBootstrap.world(size: worldSize) {
            parts.append(
                (
                    bootstrap,
                    Settings(
                        device: try choose(device, environment, localRank: bootstrap.rank),
                        localRank: bootstrap.rank, localWorldSize: worldSize,
                        environment: environment,
                        networking: networking, logger: logger,
                        metrics: metrics ?? WorldMetrics.bootstrapped)
                ))
        }
        // Construction is collective: all ranks at once.
        let made = await withTaskGroup(of: (Int, Result<SymmetricMemory, MoriError>).self) {
            group in
            for (bootstrap, settings) in parts {
                group.addTask {
                    let world = await outcome { () async throws(MoriError) in
                        try await SymmetricMemory(settings, bootstrap: bootstrap, keeper: keeper)
                    }
                    return (bootstrap.rank, world)
                }
            }
            var worlds = [Result<SymmetricMemory, MoriError>?](repeating: nil, count: worldSize)
            for await (rank, world) in group { worlds[rank] = world }
            return worlds
        }
        var worlds: [SymmetricMemory] = []
        for case .some(let world) in made { worlds.append(try world.get()) }
        return worlds
    }

    /// Refuses a size that no world can have, before anybody waits for its ranks.
    static func check(worldSize: Int) throws(MoriError) {
        guard (1...maxWorldSize).contains(worldSize) else {
            throw MoriError(
                .invalidArgument,
                "a world of \(worldSize) ranks; legal are 1 to \(maxWorldSize)")
        }
    }

    /// Ranks of a world, at most: what the kernels' sets of ranks can name.
    public static let maxWorldSize = 256
}

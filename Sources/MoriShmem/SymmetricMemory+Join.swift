public import CoreMetrics
import Glibc
public import Logging
public import MoriDevice

extension SymmetricMemory {
    /// Where a process learns which rank it is.
    public enum Launcher: Hashable, Sendable {
        /// From the variables of torchrun (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`,
        /// `MASTER_PORT`), Open MPI (`OMPI_COMM_WORLD_*`) or Slurm (`SLURM_*`).
        ///
        /// Ranks prove that they belong to the world with `MORI_BOOTSTRAP_SECRET`. Without one the
        /// store accepts only the world's hosts, where the launcher lists them: then whoever can
        /// open a connection from one of these hosts can claim a rank that has not come yet. Set
        /// the secret on shared machines.
        case environment
    }

    /// Makes this process a rank of a world that a launcher started.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - launcher: Where the rank, the world's size and rank 0's address come from.
    ///   - device: Whose memory and kernels; by default what `MORI_EP_DEVICE` asks for, with the
    ///     local rank as its number.
    ///   - logger: Where the world logs, at debug and below.
    ///   - metrics: Where the world counts (docs/metrics.md); nil: the factory that holds where this
    ///     is called, `MetricsSystem.factory`, and nothing where none was bootstrapped.
    /// - Returns: This rank's part of the world.
    /// - Throws: `invalidConfiguration` when no launcher's variables are set or one cannot be read;
    ///   `timedOut` naming the ranks that did not come; `ranksDisagree`; `bootstrapFailed`.
    ///
    /// The corresponding Python name is `shmem_torch_process_group_init`.
    public static func join(
        _ launcher: Launcher, device: Device? = nil, logger: Logger = .current,
        metrics: (any MetricsFactory)? = nil
    ) async throws(MoriError) -> SymmetricMemory {
        let variables = ProcessVariables.all
        let environment = try MoriEnvironment(variables)
        let logger = environment.adjust(logger)
        guard let launched = try LauncherEnvironment(variables) else {
            throw MoriError(
                .invalidConfiguration,
                "no launcher's variables are set; start with torchrun, mpirun, srun or `mori-ep"
                    + " launch`, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or join by"
                    + " rank, world size and unique id")
        }
        try check(worldSize: launched.worldSize)
        let device = try choose(device, environment, localRank: launched.localRank)
        let bootstrap = try await TCPBootstrap.join(
            launched.parameters(
                timeout: environment.bootstrapTimeout, interface: environment.socketInterface),
            logger: logger)
        let settings = Settings(
            device: device, localRank: launched.localRank,
            localWorldSize: launched.localWorldSize,
            environment: environment,
            networking: Networking(
                environment, hostIdentity: hostIdentity(environment), fabric: nil),
            logger: logger, metrics: metrics ?? WorldMetrics.bootstrapped)
        return try await make(settings, bootstrap)
    }

    /// Makes this process a rank of the world that `uniqueID` names.
    ///
    /// Collective.
    ///
    /// Rank 0 makes the id with `UniqueID()` and sends its bytes to the others by any means.
    ///
    /// - Parameters:
    ///   - rank: This rank, in `0..<worldSize`.
    ///   - worldSize: Ranks, 1 to 256.
    ///   - uniqueID: The same on every rank.
    ///   - device: Whose memory and kernels; by default what `MORI_EP_DEVICE` asks for, with the
    ///     rank among those of this host as its number.
    ///   - logger: Where the world logs, at debug and below.
    ///   - metrics: Where the world counts (docs/metrics.md); nil: the factory that holds where this
    ///     is called, `MetricsSystem.factory`, and nothing where none was bootstrapped.
    /// - Returns: This rank's part of the world.
    /// - Throws: `timedOut` naming the ranks that did not come; `bootstrapFailed` for an id of
    ///   another world; `ranksDisagree`; `invalidArgument`.
    ///
    /// The corresponding Python name is `shmem_init_attr`.
    public static func join(
        rank: Int, worldSize: Int, uniqueID: UniqueID, device: Device? = nil,
        logger: Logger = .current, metrics: (any MetricsFactory)? = nil
    ) async throws(MoriError) -> SymmetricMemory {
        try check(worldSize: worldSize)
        let environment = try MoriEnvironment()
        let logger = environment.adjust(logger)
        let bootstrap = try await TCPBootstrap.join(
            TCPBootstrap.Parameters(
                rank: rank, worldSize: worldSize, uniqueID: uniqueID,
                timeout: environment.bootstrapTimeout), logger: logger)
        do throws(MoriError) {
            let hosts = try await bootstrap.allGather(
                "host", hostIdentity(environment), timeout: environment.bootstrapTimeout)
            let neighbours = hosts.indices.filter { hosts[$0] == hosts[rank] }
            let localRank = neighbours.firstIndex(of: rank) ?? 0
            let settings = Settings(
                device: try choose(device, environment, localRank: localRank),
                localRank: localRank,
                localWorldSize: neighbours.count,
                environment: environment,
                networking: Networking(
                    environment, hostIdentity: hostIdentity(environment), fabric: nil),
                logger: logger, metrics: metrics ?? WorldMetrics.bootstrapped)
            return try await make(settings, bootstrap)
        } catch {
            await bootstrap.close(timeout: .seconds(1))
            throw error
        }
    }

    /// The caller's device, else the one that the environment gives this local rank.
    static func choose(
        _ device: Device?, _ environment: MoriEnvironment, localRank: Int
    ) throws(MoriError) -> Device {
        if let device { return device }
        return try .selected(environment.device, localRank: localRank)
    }

    private static func make(
        _ settings: Settings, _ bootstrap: TCPBootstrap
    ) async throws(MoriError) -> SymmetricMemory {
        do throws(MoriError) {
            let keeper = HeapKeeper()
            keeper.begin(0, bootstrap.rank)
            return try await SymmetricMemory(settings, bootstrap: bootstrap, keeper: keeper)
        } catch {
            await bootstrap.close(timeout: .seconds(1))
            throw error
        }
    }

    /// What the processes of one running machine have in common: MORI_NODE_ID, else its boot's
    /// number and its name.
    private static func hostIdentity(_ environment: MoriEnvironment) -> [UInt8] {
        if let name = environment.nodeID { return Array(name.utf8) }
        return ["/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/hostname"].flatMap(contents)
    }

    /// The first bytes of a small file; none where it cannot be read.
    private static func contents(of path: String) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { _ = Glibc.close(file) }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = unsafe read(file, &buffer, buffer.count)
        return Array(buffer.prefix(max(count, 0)))
    }
}

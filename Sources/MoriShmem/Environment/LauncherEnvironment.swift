package import MoriDevice

/// Which rank of which world a launcher made this process.
///
/// Knows torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE), Open MPI (OMPI_COMM_WORLD_*) and
/// Slurm (SLURM_*), and asks for them in this order. MASTER_ADDR and MASTER_PORT count under all
/// three.
package struct LauncherEnvironment: Hashable, Sendable {
    /// The launcher: "torchrun", "Open MPI" or "Slurm".
    package var origin: String
    /// The rank of this process, in `0..<worldSize`.
    package var rank: Int
    /// The number of ranks.
    package var worldSize: Int
    /// The rank among those of this host, in `0..<localWorldSize`; chooses the device.
    package var localRank: Int
    /// The number of ranks on this host.
    package var localWorldSize: Int
    /// The name or address of rank 0's host.
    package var masterAddress: String
    /// The port near which rank 0 listens, in `1..<65536`.
    package var masterPort: Int
    /// The hosts of all ranks, where the launcher lists them.
    package var hosts: [String]?
    /// The bytes of MORI_BOOTSTRAP_SECRET.
    package var secret: [UInt8]?
    /// The launcher's name for the job, the same on all ranks; empty when there is none.
    package var job: String

    /// The port where neither MASTER_PORT nor Slurm's job id gives one.
    package static let defaultPort = 29400

    /// Reads the variables; nil when no launcher has set its own.
    ///
    /// - Throws: `.invalidConfiguration` naming the variable, its value and what is legal, or the
    ///   variable that is missing.
    package init?(
        _ environment: [String: String] = ProcessVariables.all
    ) throws(MoriError) {
        let variables = EnvironmentVariables(environment)
        if variables["RANK"] != nil, variables["WORLD_SIZE"] != nil {
            try self.init(torchrun: variables)
        } else if variables["OMPI_COMM_WORLD_RANK"] != nil {
            try self.init(openMPI: variables)
        } else if variables["SLURM_PROCID"] != nil,
            let tasks = variables.first(of: ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"])
        {
            try self.init(slurm: variables, tasks: tasks)
        } else if let lone = variables.first(of: ["RANK", "WORLD_SIZE"]) {
            throw MoriError(
                .invalidConfiguration,
                "\(lone) is set without \(lone == "RANK" ? "WORLD_SIZE" : "RANK"); set both or none"
            )
        } else {
            return nil
        }
    }

    /// How these ranks meet.
    ///
    /// - Parameters:
    ///   - timeout: How long joining may take.
    ///   - interface: The network interface that rank 0 listens on; nil: all.
    /// - Returns: What `TCPBootstrap.join` takes.
    package func parameters(
        timeout: Duration, interface: String? = nil
    ) -> TCPBootstrap.Parameters {
        let launcher = TCPBootstrap.Parameters.Launcher(
            address: masterAddress, port: masterPort, isLocal: localWorldSize == worldSize,
            hosts: hosts, secret: secret ?? [], job: job, interface: interface)
        return TCPBootstrap.Parameters(
            rank: rank, worldSize: worldSize, meetingPoint: .launcher(launcher), timeout: timeout)
    }

    private init(torchrun variables: EnvironmentVariables) throws(MoriError) {
        let world = try World(variables, rank: "RANK", size: "WORLD_SIZE")
        let isLoopback = variables["MASTER_ADDR"].map(isLoopbackName) ?? false
        // Started by hand on one host, the local variables would only repeat the others.
        let isLocal = isLoopback || world.size == 1
        let local = try world.local(
            variables, rank: "LOCAL_RANK", size: "LOCAL_WORLD_SIZE", isLocal: isLocal)
        try self.init(
            "torchrun", world, local, variables, job: variables["TORCHELASTIC_RUN_ID"] ?? "")
    }

    private init(openMPI variables: EnvironmentVariables) throws(MoriError) {
        let world = try World(
            variables, rank: "OMPI_COMM_WORLD_RANK", size: "OMPI_COMM_WORLD_SIZE")
        let local = try world.local(
            variables, rank: "OMPI_COMM_WORLD_LOCAL_RANK", size: "OMPI_COMM_WORLD_LOCAL_SIZE",
            isLocal: world.size == 1)
        try self.init("Open MPI", world, local, variables, job: variables["PMIX_NAMESPACE"] ?? "")
    }

    private init(slurm variables: EnvironmentVariables, tasks: String) throws(MoriError) {
        let world = try World(variables, rank: "SLURM_PROCID", size: tasks)
        let listName = variables.first(of: ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"])
        let hosts = try listName.map { name throws(MoriError) in
            try variables.parse(
                name, "a host list like \"node[01-03,7],other\"", SlurmList.hosts)
        }
        let size = try Self.slurmLocalSize(variables, world, hosts: hosts)
        let rank = try variables.integer("SLURM_LOCALID", in: 0...(size - 1))
        guard let rank else { throw EnvironmentVariables.missing("SLURM_LOCALID") }
        let jobNumber = try variables.integer("SLURM_JOB_ID", in: 0...Int(UInt32.max))
        let step = variables.first(of: ["SLURM_STEP_ID", "SLURM_STEPID"])
        let job = [variables["SLURM_JOB_ID"], step.flatMap { variables[$0] }].compactMap(\.self)
        try self.init(
            "Slurm", world, World(rank: rank, size: size), variables,
            job: job.joined(separator: "."), hosts: hosts,
            // Jobs that share a host get ports apart, below the range of ephemeral ports.
            port: jobNumber.map { 12_000 + $0 % 1000 * 17 })
    }

    private init(
        _ origin: String, _ world: World, _ local: World, _ variables: EnvironmentVariables,
        job: String, hosts: [String]? = nil, port: Int? = nil
    ) throws(MoriError) {
        self.origin = origin
        rank = world.rank
        worldSize = world.size
        localRank = local.rank
        localWorldSize = local.size
        self.hosts = hosts
        self.job = job
        secret = variables[Settings.secret.name].map { Array($0.utf8) }
        masterPort =
            try variables.integer("MASTER_PORT", in: 1...65535) ?? port ?? Self.defaultPort
        if let address = variables["MASTER_ADDR"] {
            masterAddress = address
        } else if local.size == world.size {
            masterAddress = IPAddress.loopback.description
        } else if let first = hosts?.first {
            masterAddress = first
        } else {
            throw MoriError(
                .invalidConfiguration,
                "\(origin) started \(world.size) ranks, \(local.size) of them on this host, and "
                    + "MASTER_ADDR is not set; set it to the name or address of rank 0's host")
        }
    }

    /// How many ranks of a Slurm step are on this host.
    private static func slurmLocalSize(
        _ variables: EnvironmentVariables, _ world: World, hosts: [String]?
    ) throws(MoriError) -> Int {
        let most = 1...world.size
        if let name = variables.first(of: ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]),
            let node = try variables.integer("SLURM_NODEID", in: 0...65535)
        {
            let counts = try variables.parse(
                name, "a list like \"2(x3),1\" with an entry for each node", SlurmList.counts)
            if counts.indices.contains(node), most.contains(counts[node]) { return counts[node] }
        }
        if let size = try variables.integer("SLURM_NTASKS_PER_NODE", in: 1...65535) {
            return min(size, world.size)
        }
        guard hosts?.count == 1 || world.size == 1 else {
            throw EnvironmentVariables.missing("SLURM_NTASKS_PER_NODE")
        }
        return world.size
    }
}

/// A rank and the number of ranks that it is one of.
private struct World {
    var rank: Int
    var size: Int

    init(rank: Int, size: Int) {
        self.rank = rank
        self.size = size
    }

    /// Reads both; throws when one is missing or they contradict each other.
    init(_ variables: EnvironmentVariables, rank: String, size: String) throws(MoriError) {
        guard let ranks = try variables.integer(size, in: 1...BootstrapLimit.worldSize) else {
            throw EnvironmentVariables.missing(size)
        }
        guard let own = try variables.integer(rank, in: 0...(ranks - 1)) else {
            throw EnvironmentVariables.missing(rank)
        }
        self.init(rank: own, size: ranks)
    }

    /// Reads this host's part of the world; where `isLocal`, the variables may be missing.
    func local(
        _ variables: EnvironmentVariables, rank: String, size: String, isLocal: Bool
    ) throws(MoriError) -> World {
        let found = try variables.integer(size, in: 1...self.size)
        guard let ranks = found ?? (isLocal ? self.size : nil) else {
            throw EnvironmentVariables.missing(size)
        }
        let own = try variables.integer(rank, in: 0...(ranks - 1))
        guard let own = own ?? (isLocal ? self.rank : nil) else {
            throw EnvironmentVariables.missing(rank)
        }
        return World(rank: own, size: ranks)
    }
}

private func isLoopbackName(_ name: String) -> Bool {
    name == "localhost" || IPAddress(name)?.isLoopback == true
}

package import Logging
package import MoriDevice

/// What the environment variables of this library say.
///
/// Read once for each world, when it is made; later changes of the variables change nothing. A
/// variable that is set to nothing counts as not set. `knownVariables` says of each what it may say,
/// what holds without it and what it means; `mori-ep doctor` and docs/environment.md show that list.
package struct MoriEnvironment: Hashable, Sendable {
    /// MORI_EP_DEVICE: which device runs the kernels.
    package var device = Device.Choice.auto
    /// MORI_EP_LAUNCH_CONFIG_MODE: who chooses blocks and warps.
    package var launchMode = LaunchMode.manual
    /// MORI_EP_TUNING_CONFIG: the tuning rules of AUTO.
    package var tuning = TuningSource.published
    /// MORI_EP_FABRIC: what moves bytes between nodes.
    package var fabric = FabricSelection.auto
    /// MORI_EP_TIMEOUT: how long a round may wait for a peer; nil: the world's two defaults.
    package var roundTimeout: Duration?
    /// MORI_SHMEM_HEAP_SIZE: the upper bound of a rank's symmetric memory, in bytes.
    package var heapByteLimit = SymmetricMemory.defaultHeapByteLimit
    /// MORI_NODE_ID: what this host is called; nil: by its boot and its name.
    package var nodeID: String?
    /// MORI_BOOTSTRAP_TIMEOUT: how long joining a world may take.
    package var bootstrapTimeout: Duration = .seconds(300)
    /// MORI_SOCKET_IFNAME, else GLOO_SOCKET_IFNAME: the interface whose address peers shall use.
    package var socketInterface: String?
    /// MORI_RDMA_DEVICES, MORI_DISABLE_TOPO, MORI_IB_GID_INDEX, MORI_RDMA_SL, MORI_RDMA_TC,
    /// MORI_IB_PATH_MTU, MORI_RDMA_CM.
    package var rdma = RDMASettings()
    /// MORI_GLOBAL_LOG_LEVEL: from which level on a world's logger speaks; nil: as it comes.
    package var logLevel: Logger.Level?
    /// Variables of the original that are set and have no effect here, by name.
    package var withoutEffect: [String] = []
    /// Variables that begin with MORI_ and that nobody knows, by name.
    package var unknown: [UnknownVariable] = []

    /// Reads the variables.
    ///
    /// - Throws: `.invalidConfiguration` naming the variable, its value and what is legal.
    package init(_ values: [String: String] = ProcessVariables.all) throws(MoriError) {
        let variables = EnvironmentVariables(values)
        func read<Value>(
            _ setting: Setting<Value>, _ store: (Value) -> Void
        ) throws(MoriError) {
            if let value = try variables.read(setting.name, setting.type) { store(value) }
        }
        try read(Settings.device) { device = $0 }
        try read(Settings.launchMode) { launchMode = $0 }
        try read(Settings.tuning) { tuning = $0 }
        try read(Settings.fabric) { fabric = $0 }
        try read(Settings.roundTimeout) { roundTimeout = $0 }
        try read(Settings.heapByteLimit) { heapByteLimit = $0 }
        try read(Settings.nodeID) { nodeID = $0 }
        try read(Settings.bootstrapTimeout) { bootstrapTimeout = $0 }
        try read(Settings.glooInterface) { socketInterface = $0 }
        try read(Settings.socketInterface) { socketInterface = $0 }
        try read(Settings.rdmaDevices) { rdma.devices = $0 }
        try read(Settings.ignoresTopology) { rdma.ignoresTopology = $0 }
        try read(Settings.gidIndex) { rdma.gidIndex = $0 }
        try read(Settings.serviceLevel) { rdma.serviceLevel = $0 }
        try read(Settings.trafficClass) { rdma.trafficClass = $0 }
        try read(Settings.pathMTU) { rdma.pathMTU = $0 }
        try read(Settings.connectionManager) { rdma.usesConnectionManager = $0 }
        try read(Settings.logLevel) { logLevel = $0 }
        for name in values.keys.sorted() where name.hasPrefix(UnknownVariable.prefix) {
            guard let known = Self.knownVariables.first(where: { $0.covers(name) }) else {
                unknown.append(UnknownVariable(name))
                continue
            }
            if case .ignored = known.role, variables[name] != nil { withoutEffect.append(name) }
        }
    }

    /// A world's logger at the level that the environment asks for.
    ///
    /// What the environment has in vain is said once for each process.
    func adjust(_ logger: Logger) -> Logger {
        var logger = logger
        if let logLevel { logger.logLevel = logLevel }
        report(to: logger, once: Self.reported)
        return logger
    }

    private static let reported = Locked<Set<String>>([])

    /// Warns about variables that nobody knows, and says which have no effect.
    ///
    /// - Parameters:
    ///   - logger: Who is told.
    ///   - reported: What was said before, and is not said again.
    package func report(to logger: Logger, once reported: Locked<Set<String>>) {
        for variable in unknown where reported.withLock({ $0.insert(variable.name).inserted }) {
            // Once, at the start, and in vain otherwise: nothing throws for it.
            logger.warning(
                "an environment variable is unknown; did you mean another?",
                metadata: ["variable": "\(variable.name)", "nearest": "\(variable.nearest)"])
        }
        for name in withoutEffect where reported.withLock({ $0.insert(name).inserted }) {
            let reason = Self.knownVariables.first { $0.covers(name) }?.meaning ?? ""
            logger.debug(
                "an environment variable has no effect",
                metadata: ["variable": "\(name)", "reason": "\(reason)"])
        }
    }
}

/// A variable that looks like one of ours and is none.
package struct UnknownVariable: Hashable, Sendable, Codable {
    /// Its name.
    package let name: String
    /// The known variable whose name is most like it.
    package let nearest: String

    /// How the names of MORI's variables begin.
    static let prefix = "MORI_"

    init(_ name: String) {
        self.name = name
        let names = MoriEnvironment.knownVariables.map(\.name).filter {
            $0.hasPrefix(Self.prefix) && !$0.hasSuffix("*")
        }
        // What works comes first in the list, so it wins where names are equally near.
        nearest = nearestName(to: name, among: names) ?? ""
    }
}

/// The name that differs by the fewest insertions, deletions and substitutions; the first of those.
package func nearestName(to name: String, among names: [String]) -> String? {
    names.min { editDistance($0, name) < editDistance($1, name) }
}

/// Insertions, deletions and substitutions that make one name of the other.
private func editDistance(_ left: String, _ right: String) -> Int {
    let right = Array(right.utf8)
    // One row of the table: the distances of the left name so far to every beginning of the right.
    var row = Array(0...right.count)
    for (index, byte) in left.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = index + 1
        for (column, other) in right.enumerated() {
            let substituted = diagonal + (byte == other ? 0 : 1)
            diagonal = row[column + 1]
            row[column + 1] = min(substituted, diagonal + 1, row[column] + 1)
        }
    }
    return row[right.count]
}

import Logging
import MoriDevice

/// The variables that this library reads; `MoriEnvironment` has their values.
enum Settings {
    static let device = Setting<Device.Choice>(
        "MORI_EP_DEVICE", .choice, default: "auto",
        "which device runs the kernels; auto takes a GPU if one answers")
    static let library = Setting<String>(
        "MORI_EP_LIBRARY", .text("a file or a folder"),
        default: "beside the program, lib beside its bin, .build/kernels, the loader's path",
        "the GPU kernels' shared object, or its folder")
    static let launchMode = Setting<LaunchMode>(
        "MORI_EP_LAUNCH_CONFIG_MODE", .choice, default: "MANUAL",
        "who chooses blocks and warps: MANUAL the configuration and each call, AUTO tuning rules and"
            + " the guide's table")
    static let tuning = Setting<TuningSource>(
        "MORI_EP_TUNING_CONFIG",
        VariableType(
            legal: "a JSON file; published for the rules that come with the library; none",
            parse: { TuningSource($0) }),
        default: "published", "the tuning rules of AUTO (docs/tuning.md)")
    static let fabric = Setting<FabricSelection>(
        "MORI_EP_FABRIC", .choice, default: "auto",
        "what moves bytes between nodes; auto takes loopback where every rank is on one host and its"
            + " memory is the host's, else verbs")
    static let roundTimeout = Setting<Duration>(
        "MORI_EP_TIMEOUT", .seconds, default: "30, and 300 until the first round is through",
        "the deadline of a round's waits in seconds")
    static let heapByteLimit = Setting<Int>(
        "MORI_SHMEM_HEAP_SIZE", .byteCount, default: "8G",
        "upper bound of a rank's symmetric memory; only what operators need is allocated")
    static let nodeID = Setting<String>(
        "MORI_NODE_ID", .text("a name"), default: "the boot's id and the host's name",
        "ranks of the same name are on one host and map each other's memory")
    static let bootstrapTimeout = Setting<Duration>(
        "MORI_BOOTSTRAP_TIMEOUT", .seconds, default: "300",
        "the deadline of joining and of other collective calls in seconds")
    static let secret = Setting<String>(
        "MORI_BOOTSTRAP_SECRET", .text("any text"),
        default: "none: only the world's hosts are let in",
        "what ranks of a launcher's world prove to each other")
    static let socketInterface = Setting<String>(
        "MORI_SOCKET_IFNAME", .text("an interface, like eth0"), default: "GLOO_SOCKET_IFNAME",
        "the network interface that rank 0 listens on; MASTER_ADDR has to lead there")
    static let glooInterface = Setting<String>(
        "GLOO_SOCKET_IFNAME", .text("an interface, like eth0"),
        default: "the first that is up and is not loopback for unique ids, all for launchers'"
            + " worlds",
        "the same, as torch calls it")
    static let rdmaDevices = Setting<RDMADeviceList>(
        "MORI_RDMA_DEVICES",
        VariableType(legal: RDMADeviceList.legal, parse: { RDMADeviceList($0) }), default: "all",
        "the RDMA NICs that may be used")
    static let ignoresTopology = Setting<Bool>(
        "MORI_DISABLE_TOPO", .flag, default: "0",
        "1: the ranks of a host share all its NICs, however far they are from their devices")
    static let gidIndex = Setting<Int>(
        "MORI_IB_GID_INDEX", .integer(in: 0...255), default: "the best for the fabric",
        "the entry of the ports' GID tables")
    static let serviceLevel = Setting<Int>(
        "MORI_RDMA_SL", .integer(in: 0...15), default: "0",
        "the service level; the same on all ranks")
    static let trafficClass = Setting<Int>(
        "MORI_RDMA_TC", .integer(in: 0...255), default: "0",
        "the traffic class, 4 times the DSCP; the same on all ranks")
    static let pathMTU = Setting<Int>(
        "MORI_IB_PATH_MTU", .integer(among: [256, 512, 1024, 2048, 4096]),
        default: "the smaller of both ports'",
        "bytes of an RDMA packet, at most; the same on all ranks")
    static let connectionManager = Setting<Bool>(
        "MORI_RDMA_CM", .flag, default: "0",
        "1: librdmacm makes the connections; the same on all ranks")
    static let logLevel = Setting<Logger.Level>(
        "MORI_GLOBAL_LOG_LEVEL",
        VariableType(
            legal: Logger.Level.allCases.map(\.rawValue).joined(separator: ", "),
            parse: logLevel), default: "the logger's own",
        "from which level on a world's logger speaks")
    static let lifeline = Setting<Int>(
        "MORI_LIFELINE_FD", .integer(in: 0...Int(Int32.max)), default: "none",
        "set by `mori-ep launch`: the descriptor by which ranks learn that it is gone")

    /// swift-log's names, and those of the original's logger, in any case.
    private static func logLevel(_ text: String) -> Logger.Level? {
        let others: [String: Logger.Level] = ["warn": .warning, "err": .error, "off": .critical]
        return Logger.Level(rawValue: text.lowercased()) ?? others[text.lowercased()]
    }
}

/// Who chooses blocks and warps: MORI_EP_LAUNCH_CONFIG_MODE.
package enum LaunchMode: String, Hashable, Sendable, CaseIterable {
    /// The configuration, and each call.
    case manual = "MANUAL"
    /// Tuning rules, then the guide's table.
    case automatic = "AUTO"
}

/// Where tuning rules come from: MORI_EP_TUNING_CONFIG.
package enum TuningSource: Hashable, Sendable {
    /// The rules that come with the library.
    case published
    /// No rules: the guide's table only.
    case none
    /// A file.
    case file(String)

    /// Takes the variable's value.
    package init(_ text: String) {
        self =
            switch text {
            case "published": .published
            case "none": .none
            default: .file(text)
            }
    }
}

import FoundationEssentials
import MoriDevice
import MoriEP
import MoriOptions
import MoriOracle
import MoriShmem

/// What is measured, as the results repeat it.
struct BenchShape: Hashable, Sendable, Codable {
    var kernel: String
    var world: WorldKind
    var ranks: Int
    var nodes: Int
    var gpusPerNode: Int
    var queuePairs: Int
    var tokens: Int
    var hidden: Int
    var topk: Int
    var expertsPerRank: Int
    var dispatchType: ElementType
    var combineType: ElementType
    /// Whether bf16 tokens become `dispatchType` on their way.
    var quantizesDispatch: Bool
    var quantization: CombineQuantization
    var quantizationBlock: Int
    var routing: String
    var seed: UInt64
    var iterations: Int
}

/// What is measured: the options, with the defaults that depend on other options.
struct BenchSettings: Sendable {
    /// Rounds before the timed ones, at least.
    static let leastWarmups = 3
    /// Rounds before the timed ones, at most.
    static let mostWarmups = 24

    let shape: BenchShape
    let config: EPDispatchCombineConfig
    let workload: Workload
    /// Of these the first is reported first.
    let combineInputs: [CombineInput]
    let verifies: Bool
    /// Rounds before the timed ones; nil: until the processes know each other's pages.
    let warmups: Int?
    /// Where another program asks for rounds; nil: nobody does.
    let roundRequests: String?
    /// Where a trace of the timed rounds is written; nil: none is taken.
    let trace: String?

    /// How the ranks are spread over nodes.
    var nodes: Nodes { Nodes(worldSize: shape.ranks, devicesPerNode: shape.gpusPerNode) }

    /// Whether rows travel in fewer bits than they have.
    var isQuantized: Bool { config.quantizesDispatch || config.quantization != .none }

    /// The order in which the kernels add up what comes back.
    var sums: SumOrder {
        switch config.kernelType {
        case .intraNode, .interNode, .asyncLL: .ranks
        case .interNodeV1, .interNodeV1LL: .nodes(nodes)
        }
    }

    /// Whether a token makes one packet for all ranks of another node.
    var sendsPackets: Bool {
        switch config.kernelType {
        case .intraNode, .interNode, .asyncLL: false
        case .interNodeV1, .interNodeV1LL: nodes.count > 1
        }
    }

    /// Resolves the options.
    ///
    /// - Throws: `MoriError`, or `BenchFailure`, for settings that contradict each other.
    init(_ options: BenchCommand, launched: LauncherEnvironment?) throws {
        let ranks = options.ranks ?? launched?.worldSize ?? 8
        if let launched, launched.worldSize != ranks {
            throw BenchFailure(
                "--ranks is \(ranks), and \(launched.origin) started \(launched.worldSize); leave"
                    + " --ranks out to take the launcher's")
        }
        let perNode = options.gpusPerNode ?? launched?.localWorldSize ?? ranks
        let nodes = Nodes(worldSize: ranks, devicesPerNode: perNode).count
        guard options.kernel != .intraNode || nodes == 1 else {
            throw BenchFailure(
                "the intranode kernels move tokens inside one node, and --gpus-per-node \(perNode)"
                    + " makes \(nodes) of \(ranks) ranks; legal is --gpus-per-node \(ranks) or more"
            )
        }
        var config = EPDispatchCombineConfig(
            elementType: options.dispatchType, combineElementType: options.combineType,
            hiddenDim: options.hidden, maxInputTokensPerRank: max(1, options.tokens),
            expertsPerRank: options.expertsPerRank, expertsPerToken: options.topk,
            kernelType: options.kernel, devicesPerNode: perNode,
            queuePairsPerPeer: options.queuePairs)
        config.timeout = options.timeout.map { .milliseconds(max(1, ($0 * 1000).rounded())) }
        config.quantization = options.quantization
        config.quantizesDispatch = options.quantizeDispatch
        config.quantizationBlock = options.quantizationBlock
        if config.quantizesDispatch {
            // Or there would be no number of blocks to set; refused with words of its own otherwise.
            config.scaleDim = config.blockCount(of: max(1, options.hidden))
            config.combineElementType = options.combineType ?? .bfloat16
        }
        combineInputs = options.zeroCopy ? [.registered] : config.differentCombineInputs
        config.combineInput = combineInputs[0]
        // Refused here once, instead of by each rank.
        try config.validate(worldSize: ranks)
        self.config = config
        workload = Workload(
            worldSize: ranks, tokens: Array(repeating: options.tokens, count: ranks),
            hidden: options.hidden, topK: options.topk, expertsPerRank: options.expertsPerRank,
            pattern: try Self.routing(options, ranks: ranks), seed: options.seed)
        verifies = options.verify
        warmups = options.warmup
        guard options.roundRequests == nil || launched != nil else {
            throw BenchFailure(
                "--round-requests is for ranks that a launcher started, each with a FIFO of its"
                    + " own; legal is a world of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT")
        }
        roundRequests = options.roundRequests
        trace = options.trace
        shape = BenchShape(
            kernel: config.kernelType.description, world: options.world, ranks: ranks,
            nodes: nodes, gpusPerNode: perNode, queuePairs: options.queuePairs,
            tokens: options.tokens, hidden: options.hidden, topk: options.topk,
            expertsPerRank: options.expertsPerRank, dispatchType: config.elementType,
            combineType: config.effectiveCombineElementType,
            quantizesDispatch: config.quantizesDispatch, quantization: config.quantization,
            quantizationBlock: config.quantizationBlock, routing: options.routing,
            seed: options.seed, iterations: options.iterations)
    }

    private static func routing(_ options: BenchCommand, ranks: Int) throws -> RoutingPattern {
        if let pattern = OptionTypes.routings[options.routing] { return pattern }
        let names = OptionTypes.routings.keys.sorted().joined(separator: ", ")
        guard let data = try? Data(contentsOf: URL(filePath: options.routing)) else {
            throw BenchFailure(
                "--routing \(options.routing) is no file that can be read; legal are \(names), or a"
                    + " JSON file")
        }
        guard let table = try? JSONDecoder().decode([[Int32]].self, from: data) else {
            throw BenchFailure(
                "--routing \(options.routing) is not a JSON array of arrays of expert ids")
        }
        let width = options.tokens * options.topk
        guard table.count == ranks, table.allSatisfy({ $0.count == width }) else {
            let odd = table.firstIndex { $0.count != width }
            throw BenchFailure(
                "--routing \(options.routing) has \(table.count) ranks"
                    + (odd.map { ", rank \($0) of \(table[$0].count) ids" } ?? "")
                    + "; legal is \(ranks) ranks of \(width) ids, tokens * topk")
        }
        return .given(table)
    }
}

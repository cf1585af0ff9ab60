import MoriDevice

/// The numbers that an operator's layout depends on besides the configuration's own: nodes, sections
/// and rings of a world of some size.
///
/// Pure arithmetic, the same on every rank.
struct OperatorShape: Hashable, Sendable {
    let proxies: ProxyTable
    let kernelType: KernelType
    /// Sources whose packets land at one rank, at most.
    let landingSections: Int
    /// Descriptor rings; 0: no rank has a peer on another node.
    let rings: Int
    /// Descriptors of one ring, a power of two.
    let ringEntries: Int

    /// Plans for a configuration, without the masked ranks, which take no part.
    init(_ config: EPDispatchCombineConfig, worldSize: Int, masked: Set<Int> = []) {
        let type = config.kernelType
        // IntraNode takes the world for one node, whatever the machines.
        let perNode = type == .intraNode ? worldSize : config.devicesPerNode
        let table = ProxyTable(
            worldSize: worldSize, devicesPerNode: perNode, masked: masked)
        let sections =
            switch type {
            case .intraNode: 0
            case .interNodeV1, .interNodeV1LL: table.sectionCount
            case .interNode, .asyncLL: worldSize
            }
        let most =
            (0..<worldSize).filter { !masked.contains($0) }
            .map { Self.peers(of: $0, type, table).count }.max() ?? 0
        let rings = min(Self.maxRings, most)
        var entries = 0
        if rings > 0 {
            let wanted = 2 * Self.descriptorsPerRound(config, table, sections) / rings
            entries = Self.powerOfTwo(atLeast: min(max(wanted, 64), Self.maxEntries))
        }
        kernelType = type
        proxies = table
        landingSections = sections
        self.rings = rings
        ringEntries = entries
    }

    /// MORIEP_MAX_RINGS (protocol rule P12).
    private static let maxRings = 8
    /// A full ring only makes a kernel wait for the proxy: 4096 are 128 KiB.
    private static let maxEntries = 4096
    /// MORIEP_CHUNK_TOKENS.
    static let chunkTokens = 64

    /// The ranks of other nodes that a rank exchanges writes with, ascending.
    func peers(of rank: Int) -> [Int] { Self.peers(of: rank, kernelType, proxies) }

    private static func peers(of rank: Int, _ type: KernelType, _ table: ProxyTable) -> [Int] {
        switch type {
        case .intraNode: []
        case .interNodeV1, .interNodeV1LL: table.peers(of: rank)
        case .interNode, .asyncLL:
            (0..<table.worldSize).filter {
                table.node(of: $0) != table.node(of: rank) && !table.masked.contains($0)
            }
        }
    }

    /// The ranks whose memory a rank's kernels load and store.
    func reachable(from rank: Int) -> Range<Int> { proxies.ranks(of: proxies.node(of: rank)) }

    /// Descriptors that a rank pushes in one verb of one round, at most.
    private static func descriptorsPerRound(
        _ config: EPDispatchCombineConfig, _ table: ProxyTable, _ sections: Int
    ) -> Int {
        let tokens = config.maxInputTokensPerRank
        let chunks = (tokens + chunkTokens - 1) / chunkTokens
        let words = table.worldSize * config.queuePairsPerPeer
        return switch config.kernelType {
        case .intraNode: 0
        case .interNodeV1, .interNodeV1LL: chunks * max(table.nodeCount, sections)
        case .interNode: tokens * min(config.expertsPerToken, table.worldSize) + words
        case .asyncLL: words
        }
    }

    private static func powerOfTwo(atLeast least: Int) -> Int {
        var power = 1
        while power < least { power *= 2 }
        return power
    }
}

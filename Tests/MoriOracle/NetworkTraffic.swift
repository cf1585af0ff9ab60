/// What a round has to send between nodes, counted from the routing alone.
///
/// It is the least that any kernel can do which sends a token once to each other node that hosts one
/// of its experts, and the most that InterNodeV1 and InterNodeV1LL may do: per other node and chunk
/// of 64 tokens one write and one word.
public struct NetworkTraffic: Hashable, Sendable {
    /// Tokens of one rank that InterNodeV1 and InterNodeV1LL send together.
    public static let chunkTokens = 64

    /// What one rank's own tokens cause, both in dispatch, where the rank sends them, and in
    /// combine, where their sums come back to it.
    public struct Source: Hashable, Sendable {
        /// The rank's tokens.
        public var tokens = 0
        /// Distinct (token, node) pairs with an expert there, the own node included: what upstream
        /// counts as RDMA tokens ("logical").
        public var logicalTokens = 0
        /// The same without the own node: what crosses the network at least ("physical").
        public var physicalTokens = 0
        /// Distinct (token, rank) pairs whose rank is on another node: what crosses it where tokens
        /// are not sent once per node.
        public var remoteRows = 0
        /// Other nodes.
        public var remoteNodes = 0
        /// Other nodes' ranks.
        public var remoteRanks = 0
        /// (other node, chunk) pairs with at least one token: what needs a write.
        public var filledChunks = 0

        /// Chunks that are told to each other node: one also for 0 tokens, so that it knows.
        public var chunks: Int { max(1, (tokens + chunkTokens - 1) / chunkTokens) }
        /// (other node, chunk) pairs: what needs a word.
        public var toldChunks: Int { remoteNodes * chunks }
        /// Requests of InterNodeV1 and InterNodeV1LL, at most: a write and a word for each pair.
        public var requestBound: Int { 2 * toldChunks }
        /// The same for this very routing: a chunk that no token of is for the node is a word alone.
        public var requests: Int { filledChunks + toldChunks }
    }

    /// How ranks are spread.
    public let nodes: Nodes
    /// By rank.
    public let sources: [Source]

    /// Counts a workload's.
    public init(_ workload: Workload, nodes: Nodes) {
        let oracle = Oracle(workload, rounding: { $0 })
        self.init(nodes: nodes, tokens: workload.tokens) { rank, token in
            oracle.destinations(rank: rank, token: token)
        }
    }

    /// Counts a routing's.
    ///
    /// - Parameters:
    ///   - tokens: Of each rank.
    ///   - destinations: The ranks that a token goes to, ascending.
    public init<Ranks: Sequence>(
        nodes: Nodes, tokens: [Int], destinations: (_ rank: Int, _ token: Int) -> Ranks
    ) where Ranks.Element: BinaryInteger {
        self.nodes = nodes
        sources = tokens.indices.map { rank in
            let own = nodes.node(of: rank)
            var source = Source()
            source.tokens = tokens[rank]
            source.remoteNodes = nodes.count - 1
            source.remoteRanks = nodes.worldSize - nodes.ranks(of: own).count
            // The chunk that last had a token for each node.
            var lastFilled = [Int](repeating: -1, count: nodes.count)
            for token in 0..<tokens[rank] {
                var last = -1
                for destination in destinations(rank, token) {
                    let node = nodes.node(of: Int(destination))
                    if node != own { source.remoteRows += 1 }
                    guard node != last else { continue }
                    last = node
                    source.logicalTokens += 1
                    guard node != own else { continue }
                    source.physicalTokens += 1
                    let chunk = token / Self.chunkTokens
                    if lastFilled[node] != chunk { source.filledChunks += 1 }
                    lastFilled[node] = chunk
                }
            }
            return source
        }
    }

    /// A count of all ranks together.
    public func total(_ count: (Source) -> Int) -> Int { sources.map(count).reduce(0, +) }

    /// Bytes of payload that cross the network at least, of all ranks together: one packet for each
    /// token and other node.
    public func byteLowerBound(packetByteCount: Int) -> Int {
        total(\.physicalTokens) * packetByteCount
    }
}

/// Bytes of what travels for one token, without any padding.
public struct PacketByteCount: Hashable, Sendable {
    /// Bytes of the row: hidden * element size.
    public var row: Int
    /// Experts of a token.
    public var topK: Int
    /// Whether fp32 weights travel along.
    public var carriesWeights: Bool
    /// Bytes of the scales that travel along in dispatch.
    public var scales: Int

    /// Describes a packet.
    public init(row: Int, topK: Int, carriesWeights: Bool, scales: Int = 0) {
        self.row = row
        self.topK = topK
        self.carriesWeights = carriesWeights
        self.scales = scales
    }

    private var weights: Int { carriesWeights ? 4 * topK : 0 }

    /// In dispatch: the row, the indices, the weights, the scales and where the token came from.
    public var dispatch: Int { row + 4 * topK + weights + scales + 4 }
    /// In combine: the row and the weights.
    public var combine: Int { row + weights }
}

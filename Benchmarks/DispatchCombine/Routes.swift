import MoriOracle

/// Where every token of every rank goes, by the oracle.
struct Routes: Sendable {
    let workload: Workload
    /// The oracle, for what does not depend on element types.
    let oracle: Oracle
    /// How many rows each rank receives.
    let receivedCounts: [Int]
    /// What must travel between nodes.
    let traffic: NetworkTraffic
    private let starts: [Int]
    private let ranks: [Int32]

    /// Asks the oracle about every token.
    init(_ settings: BenchSettings) {
        let workload = settings.workload
        let oracle = Oracle(workload, rounding: { $0 }, sums: settings.sums)
        var starts = [0]
        var ranks: [Int32] = []
        var counts = [Int](repeating: 0, count: workload.worldSize)
        for rank in 0..<workload.worldSize {
            for token in 0..<workload.tokens[rank] {
                for destination in oracle.destinations(rank: rank, token: token) {
                    ranks.append(Int32(destination))
                    counts[destination] += 1
                }
                starts.append(ranks.count)
            }
        }
        self.workload = workload
        self.oracle = oracle
        self.starts = starts
        self.ranks = ranks
        receivedCounts = counts
        traffic = NetworkTraffic(nodes: settings.nodes, tokens: workload.tokens) {
            [starts, ranks] rank, token in
            let at = rank * workload.tokens[0] + token
            return ranks[starts[at]..<starts[at + 1]]
        }
    }

    /// The ranks that a token goes to, ascending.
    func destinations(rank: Int, token: Int) -> ArraySlice<Int32> {
        // Every rank has the same number of tokens here.
        let at = rank * workload.tokens[0] + token
        return ranks[starts[at]..<starts[at + 1]]
    }
}

public import MoriOracle

/// Where a workload's tokens go, computed once by the oracle and shared by the ranks that check it.
public struct Routes: Sendable {
    /// What is moved.
    public let workload: Workload
    /// Expert ids of each rank: [token * top-k + j].
    public let experts: [[Int32]]
    /// The distinct ranks that each rank's tokens go to, ascending.
    public let destinations: [[[Int]]]

    /// Asks the oracle.
    public init(_ workload: Workload) {
        let oracle = Oracle(workload, rounding: { $0 })
        self.workload = workload
        experts = (0..<workload.worldSize).map { rank in
            (0..<workload.tokens[rank]).flatMap { workload.expertRow(rank: rank, token: $0) }
        }
        destinations = (0..<workload.worldSize).map { rank in
            (0..<workload.tokens[rank]).map { oracle.destinations(rank: rank, token: $0) }
        }
    }

    /// Expert ids of one token.
    public func experts(rank: Int, token: Int) -> [Int32] {
        Array(experts[rank][token * workload.topK..<(token + 1) * workload.topK])
    }

    /// Where the rows that a rank receives come from, in order of source rank, then token.
    public func sources(receivedBy receiver: Int) -> [[Int]] {
        var sources: [[Int]] = []
        for rank in destinations.indices {
            for token in destinations[rank].indices
            where destinations[rank][token].contains(receiver) {
                sources.append([rank, token])
            }
        }
        return sources
    }
}

import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// The kernels between nodes, as the arguments of tests.
enum InterNodeSupport {
    /// Those that operators run.
    static let kernels: [KernelType] = [.interNode, .interNodeV1, .interNodeV1LL, .asyncLL]

    /// Whether there is anything to test.
    static let isBuilt = !kernels.isEmpty
}

/// How many ranks there are, and how many of them on each node.
struct Geometry: Hashable, Sendable, CustomTestStringConvertible {
    var ranks: Int
    var devicesPerNode: Int

    init(_ ranks: Int, of devicesPerNode: Int) {
        self.ranks = ranks
        self.devicesPerNode = devicesPerNode
    }

    var testDescription: String { "\(ranks) ranks, \(devicesPerNode) per node" }
    var nodes: Nodes { Nodes(worldSize: ranks, devicesPerNode: devicesPerNode) }

    /// Five ranks on three nodes, of which the last is not full: the smallest geometry in which every
    /// part of a kernel has something to do.
    static let uneven = Geometry(5, of: 2)

    /// A workload for these ranks, small but for what a test changes.
    func workload(
        tokens: [Int], hidden: Int = 34, topK: Int = 4, expertsPerRank: Int = 3,
        scaleDim: Int = 0, pattern: RoutingPattern = .random, seed: UInt64
    ) -> Workload {
        Workload(
            worldSize: ranks, tokens: (0..<ranks).map { tokens[$0 % tokens.count] },
            hidden: hidden, topK: min(topK, ranks * expertsPerRank),
            expertsPerRank: expertsPerRank, scaleDim: scaleDim, pattern: pattern, seed: seed)
    }

    /// Rounds of a workload with a kernel.
    func round(
        _ kernel: KernelType, _ workload: Workload, _ change: (inout RoundCase) -> Void = { _ in }
    ) -> RoundCase {
        RoundCase(workload) {
            $0.kernelType = kernel
            $0.devicesPerNode = devicesPerNode
            change(&$0)
        }
    }
}

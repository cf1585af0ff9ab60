import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport

/// Rounds drawn from a seed: small, but with everything that a kernel distinguishes.
enum EmulatedCase {
    private enum Draw: Int {
        case ranks, nodes, hidden, topK, experts, tokens, pattern, type, launch, input, weights
        case discarded, order, pairs, slots, delay, scales
    }

    /// Several rounds with one operator.
    static func drawn(_ kernel: KernelType, seed: UInt64) -> RoundCase {
        let generator = Generator(seed: seed &* 31 &+ UInt64(kernel.hashOfName))
        func draw(_ what: Draw, _ count: Int, _ index: Int = 0) -> Int {
            generator.index(below: count, what.rawValue, index, 0)
        }
        func pick<Value>(_ what: Draw, _ values: [Value]) -> Value {
            values[draw(what, values.count)]
        }
        let ranks = 2 + draw(.ranks, 3)
        let expertsPerRank = 1 + draw(.experts, 3)
        // Now and then a second chunk.
        let counts = (0..<3).map { round in
            (0..<ranks).map { rank in
                let few = draw(.tokens, 10, round * 8 + rank)
                return round == 1 && rank == seed % UInt64(ranks) ? few + 62 : few
            }
        }
        var workload = Workload(
            worldSize: ranks, tokens: counts[0], hidden: pick(.hidden, [8, 16, 34, 64, 130, 264]),
            topK: min(1 + draw(.topK, 4), ranks * expertsPerRank), expertsPerRank: expertsPerRank,
            pattern: pick(
                .pattern, [.random, .random, .skewed, .spread, .everyOtherDropped, .outOfRange]),
            seed: seed)
        workload.scaleDim = pick(.scales, [0, 0, 3])
        return RoundCase(workload) {
            $0.kernelType = kernel
            $0.devicesPerNode = kernel == .intraNode ? 8 : min(ranks, pick(.nodes, [1, 2, 2, 3]))
            $0.dispatchType = pick(
                .type, [.bfloat16, .bfloat16, .bfloat16, .float32, .float16, .float8E4M3FNUZ])
            if $0.dispatchType == .float8E4M3FNUZ { $0.combineType = .bfloat16 }
            $0.options.launch = LaunchConfiguration(
                blocks: 1 + draw(.launch, 4), rdmaBlocks: draw(.launch, 3, 1),
                warpsPerBlock: 1 + draw(.launch, 4, 2))
            $0.options.input = pick(.input, [.external, .registered])
            $0.options.dispatchWeights = draw(.weights, 4) != 0
            $0.options.combineWeights = draw(.weights, 4, 1) != 0
            // Of the emulator's clock, whose second is a hundred million instructions.
            $0.options.timeout = .seconds(1)
            $0.rounds = counts
            if draw(.discarded, 3) == 0 { $0.discarded = [1] }
            if kernel != .interNodeV1, kernel != .interNodeV1LL {
                $0.receiveOrder = pick(.order, [.unspecified, .unspecified, .source])
            }
            $0.queuePairsPerPeer = 1 + draw(.pairs, 2)
            $0.slots = 1 + draw(.slots, 2)
            if kernel != .intraNode, draw(.delay, 2) == 0 {
                $0.loopback = .shuffled(seed: seed, delay: .milliseconds(1))
            }
        }
    }
}

extension KernelType {
    /// A number that does not change from run to run.
    fileprivate var hashOfName: Int {
        "\(self)".utf8.reduce(5381) { ($0 &* 33 &+ Int($1)) & 0xFFFF }
    }
}

#if Checked
import MoriEP
import MoriOracle
import MoriTestSupport

/// Rounds of one operator in a world of threads, and what happens to them.
///
/// Durations are virtual: a pause takes effect when everybody else has done what they can.
struct Schedule: Sendable {
    /// One round.
    struct Round: Sendable {
        var workload: Workload
        /// Whether it ends without being combined.
        var isDiscarded = false
    }

    /// Where in a round a rank pauses.
    enum Point: Int, CaseIterable, Sendable {
        case beforeDispatch, betweenHalves, beforeReading, beforeCombine, betweenCombineHalves
    }

    /// A rank that is slow.
    struct Pause: Sendable, CustomStringConvertible {
        var rank: Int
        var round: Int
        var point: Point
        var duration: Duration

        var description: String { "rank \(rank) \(duration) \(point) of round \(round)" }
    }

    /// A launch that finds no memory.
    struct FailingLaunch: Sendable, CustomStringConvertible {
        var rank: Int
        var round: Int
        var isCombine: Bool

        var description: String {
            "\(isCombine ? "combine" : "dispatch") of rank \(rank) in round \(round)"
        }
    }

    var kernelType = KernelType.intraNode
    var devicesPerNode = 8
    var queuePairsPerPeer = 1
    /// Whether halves of verbs are called for themselves.
    var isSplit = false
    /// Where combine finds its input.
    var input = CombineInput.external
    /// In which order rows are received.
    var receiveOrder = ReceiveOrder.unspecified
    var launch = LaunchConfiguration(blocks: 2, warpsPerBlock: 2)
    var rounds: [Round]
    var loopback = LoopbackBehavior.immediate
    /// Of every call, but of those of some ranks.
    var deadline = Duration.milliseconds(200)
    var deadlines: [Int: Duration] = [:]
    var pauses: [Pause] = []
    /// How long warps pause at most at some of their copies, words and additions.
    var warpPause = Duration.zero
    var warpSeed: UInt64 = 0
    var failingLaunches: [FailingLaunch] = []
    /// The number of the allocation of the host device that fails, from 1; 0: none.
    var failingAllocation: Int64 = 0
    /// Ranks that dispatch without weights: their calls are not like the others'.
    var withoutWeights: Set<Int> = []
    /// Whether symmetric accesses are checked for races.
    var checksRaces = false
    /// Whether rows are stored past the caches, as large ones are.
    var storesPastCaches = false

    init(rounds: [Round], _ change: (inout Schedule) -> Void = { _ in }) {
        self.rounds = rounds
        change(&self)
    }

    /// Rounds of random routing, seeded one after the other.
    static func rounds(
        _ tokens: [[Int]], hidden: Int = 16, topK: Int = 2, expertsPerRank: Int = 2,
        seed: UInt64
    ) -> [Round] {
        tokens.enumerated().map { number, tokens in
            Round(
                workload: Workload(
                    worldSize: tokens.count, tokens: tokens, hidden: hidden,
                    topK: min(topK, tokens.count * expertsPerRank),
                    expertsPerRank: expertsPerRank, seed: seed &+ UInt64(number)))
        }
    }

    var worldSize: Int { rounds[0].workload.worldSize }

    /// A rank's deadline.
    func deadline(of rank: Int) -> Duration { deadlines[rank, default: deadline] }

    /// The operator's configuration.
    var config: EPDispatchCombineConfig {
        var round = RoundCase(rounds[0].workload)
        round.kernelType = kernelType
        round.devicesPerNode = devicesPerNode
        round.queuePairsPerPeer = queuePairsPerPeer
        round.options.input = input
        round.receiveOrder = receiveOrder
        round.rounds = rounds.map(\.workload.tokens)
        return round.config
    }
}

extension Schedule: CustomStringConvertible {
    var description: String {
        let first = rounds[0].workload
        var words = [
            "\(kernelType)", "\(worldSize) ranks, \(devicesPerNode) a node",
            "tokens \(rounds.map(\.workload.tokens))", "hidden \(first.hidden)",
            "top \(first.topK)", "\(first.expertsPerRank) experts a rank",
            "seed \(first.generator.seed)", "\(queuePairsPerPeer) queue pairs", "\(launch)",
            "deadline \(deadline)", "\(loopback)",
        ]
        let discarded = rounds.indices.filter { rounds[$0].isDiscarded }
        if !discarded.isEmpty { words.append("discarded \(discarded)") }
        if isSplit { words.append("in halves") }
        if input != .external { words.append("\(input)") }
        if receiveOrder != .unspecified { words.append("received by \(receiveOrder)") }
        if first.scaleDim > 0 { words.append("\(first.scaleDim) scales") }
        if !pauses.isEmpty { words.append("pauses: \(pauses)") }
        if warpPause > .zero { words.append("warps pause \(warpPause), seed \(warpSeed)") }
        if !failingLaunches.isEmpty { words.append("launches fail: \(failingLaunches)") }
        if failingAllocation > 0 { words.append("allocation \(failingAllocation) fails") }
        return words.joined(separator: ", ")
    }
}
#endif

#if Checked
import MoriEP
import MoriOracle
import MoriTestSupport

extension Scenario {
    /// All that right kernels have to pass.
    static let all: [Scenario] = [
        .blocks, .chunks, .shuffledQueues, .sparedPeer, .lateStart, .discardedRound, .fullRing,
        .retransmission, .noOneComes, .onlyOneGivesUp, .lateCombine, .disagreement,
        .lateReception, .races, .forwardedRaces,
        .streamedRows,
    ]

    /// The deadline and one sleep of a waiting kernel.
    private static let inTime = Duration.milliseconds(220)

    /// Each rank's tokens go to one rank.
    private static func round(_ destinations: [Int], tokens: Int, seed: UInt64) -> Schedule.Round {
        Schedule.Round(
            workload: Workload(
                worldSize: destinations.count,
                tokens: Array(repeating: tokens, count: destinations.count), hidden: 16,
                topK: 1, expertsPerRank: 1,
                pattern: .given(
                    destinations.map { Array(repeating: Int32($0), count: tokens) }),
                seed: seed))
    }

    /// Blocks and warps that share the receive buffers of all ranks, none of them in step.
    static let blocks = Scenario(
        "IntraNode, three blocks of warps that pause",
        Schedule(
            rounds: Schedule.rounds(
                Array(repeating: [13, 8, 20], count: 6), hidden: 32, topK: 4, seed: 1)
        ) {
            $0.launch = LaunchConfiguration(blocks: 3, warpsPerBlock: 2)
            $0.warpPause = .microseconds(50)
        })

    static let chunks = Scenario(
        "InterNodeV1, several chunks from each rank",
        Schedule(rounds: Schedule.rounds([[130, 65], [65, 130]], seed: 2)) {
            $0.kernelType = .interNodeV1
            $0.devicesPerNode = 1
        })

    static let shuffledQueues = Scenario(
        "AsyncLL, a network that serves its queues in any order",
        Schedule(rounds: Schedule.rounds(Array(repeating: [40, 30], count: 6), seed: 3)) {
            $0.kernelType = .asyncLL
            $0.devicesPerNode = 1
            $0.queuePairsPerPeer = 3
            $0.loopback = .shuffled(seed: 3, delay: .microseconds(300))
        })

    /// Everything that orders accesses, under the race checker.
    static let races = Scenario(
        "IntraNode, checked for races",
        Schedule(rounds: Schedule.rounds(Array(repeating: [13, 8, 20], count: 3), seed: 16)) {
            $0.launch = LaunchConfiguration(blocks: 3, warpsPerBlock: 2)
            $0.checksRaces = true
        })

    /// A grid of one warp, which reads each chunk in the launch that waits for it.
    static let forwardedRaces = Scenario(
        "InterNodeV1, checked for races",
        Schedule(rounds: Schedule.rounds([[70, 8, 20], [9, 66, 3]], seed: 18)) {
            $0.kernelType = .interNodeV1
            $0.devicesPerNode = 2
            $0.launch = LaunchConfiguration(blocks: 1, warpsPerBlock: 1)
            $0.checksRaces = true
        })

    /// The same for rows that are stored past the caches.
    static let streamedRows = Scenario(
        "IntraNode, rows stored past the caches, checked for races",
        Schedule(
            rounds: Schedule.rounds(
                Array(repeating: [6, 8], count: 2), hidden: 1024, seed: 17)
        ) {
            $0.checksRaces = true
            $0.storesPastCaches = true
        })

    /// Rank 0 sends nothing to rank 1, which reads its rows late, and then much.
    static let sparedPeer = Scenario(
        "IntraNode, a rank that owes nothing reads late",
        Schedule(
            rounds: [
                round([0, 1], tokens: 8, seed: 4), round([1, 1], tokens: 8, seed: 5),
            ]
        ) {
            $0.pauses = [
                .init(rank: 1, round: 0, point: .beforeReading, duration: .milliseconds(5))
            ]
        })

    /// Rank 2 begins each round when the others have long sent.
    static let lateStart = Scenario(
        "IntraNode, a rank that begins late",
        Schedule(
            rounds: Schedule.rounds(
                [[8, 9, 10], [3, 1, 4], [10, 2, 7], [5, 9, 1], [7, 7, 7]], topK: 4, seed: 6)
        ) {
            $0.pauses = (1..<5).map {
                .init(rank: 2, round: $0, point: .beforeDispatch, duration: .milliseconds(5))
            }
        })

    /// Rank 1 still reads what the others discarded.
    static let discardedRound = Scenario(
        "IntraNode, a rank that reads late what the others discard",
        Schedule(rounds: Schedule.rounds(Array(repeating: [9, 5, 7], count: 4), seed: 7)) {
            for round in 0..<3 { $0.rounds[round].isDiscarded = true }
            $0.pauses = (0..<3).map {
                .init(rank: 1, round: $0, point: .beforeReading, duration: .milliseconds(5))
            }
        })

    /// More descriptors than a ring has entries, for a network that takes two at a time.
    static let fullRing = Scenario(
        "InterNode, more descriptors than a ring holds",
        Schedule(rounds: [round([1, 0], tokens: 4500, seed: 8)]) {
            $0.kernelType = .interNode
            $0.devicesPerNode = 1
            $0.queuePairsPerPeer = 2
            $0.loopback = .delayed(.nanoseconds(100))
            $0.loopback.queueDepth = 16
        })

    /// A network that may read everything again until it says that it is done.
    static let retransmission = Scenario(
        "AsyncLL, a network that reads what it sends until it completes",
        Schedule(rounds: Schedule.rounds(Array(repeating: [20, 25], count: 5), seed: 9)) {
            $0.kernelType = .asyncLL
            $0.devicesPerNode = 1
            // Much longer than a round, whose waits take 50 us a look; the deadline is 200 ms.
            $0.loopback.completionDelay = .milliseconds(50)
            $0.loopback.watchesSource = true
        })

    static let noOneComes = Scenario(
        "IntraNode, a rank that comes too late",
        Schedule(rounds: Schedule.rounds([[4, 4], [4, 4]], seed: 10)) {
            $0.pauses = [
                .init(rank: 1, round: 1, point: .beforeDispatch, duration: .seconds(10))
            ]
        }, findings: failing([0], within: inTime) { $0.code == .timedOut && $0.ranks == [1] })

    /// Rank 0 gives up, and its host, which would tell it too, does not look for five seconds.
    static let onlyOneGivesUp = Scenario(
        "IntraNode, a rank that gives up before the others",
        Schedule(rounds: Schedule.rounds([[4, 4, 4], [4, 4, 4]], seed: 11)) {
            $0.deadlines = [1: .seconds(60), 2: .seconds(60)]
            $0.pauses = [
                .init(rank: 2, round: 1, point: .beforeDispatch, duration: .seconds(10)),
                .init(rank: 0, round: 1, point: .beforeReading, duration: .seconds(5)),
            ]
        },
        findings: failing([1], within: inTime + .milliseconds(10)) {
            $0.code == .timedOut || $0.code == .aborted
        })

    /// Where a rank combines too late, the others' sums are void.
    static let lateCombine = Scenario(
        "IntraNode, a rank that combines too late",
        Schedule(rounds: Schedule.rounds([[4, 4], [4, 4]], seed: 12)) {
            $0.pauses = [
                .init(rank: 1, round: 1, point: .beforeCombine, duration: .seconds(10))
            ]
        }, findings: failing([0], within: inTime) { $0.code == .timedOut })

    static let disagreement = Scenario(
        "IntraNode, a rank that dispatches without weights",
        Schedule(rounds: Schedule.rounds([[4, 4]], seed: 13)) { $0.withoutWeights = [1] },
        findings: failing([0, 1], within: inTime) {
            $0.code == .ranksDisagree || $0.code == .aborted
        })

    /// Rank 0 is a round ahead before rank 1 looks at what it sent in this one: nothing.
    static let lateReception = Scenario(
        "AsyncLL, a rank that receives when its peer is a round ahead",
        Schedule(
            rounds: [
                round([0, 1], tokens: 8, seed: 14), round([1, 1], tokens: 8, seed: 15),
            ]
        ) {
            $0.kernelType = .asyncLL
            $0.devicesPerNode = 1
            $0.isSplit = true
            $0.pauses = [
                .init(rank: 1, round: 0, point: .betweenHalves, duration: .milliseconds(5))
            ]
        })
}
#endif

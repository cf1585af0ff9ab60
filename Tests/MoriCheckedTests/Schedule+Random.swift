#if Checked
import MoriEP
import MoriOracle
import MoriShmem
import MoriTestSupport

/// Random numbers of one schedule, in the order in which they are asked for.
struct Dice {
    private let generator: Generator
    private var asked = 0

    init(seed: UInt64) { generator = Generator(seed: seed) }

    mutating func below(_ count: Int) -> Int {
        asked += 1
        return generator.index(below: count, 9, asked, 0)
    }
    mutating func one<Element>(of elements: [Element]) -> Element {
        elements[below(elements.count)]
    }
    /// Once in so many times.
    mutating func once(in times: Int) -> Bool { below(times) == 0 }
    /// Up to a duration, in parts of it.
    mutating func upTo(_ duration: Duration) -> Duration { duration * below(1001) / 1000 }
}

/// Kinds of disturbances.
enum Disturbance: String, CaseIterable, Sendable {
    /// Only what a network may do at any time: every round has to succeed.
    case nothing
    case completionError, lostCompletion, lostPeer, lateRequest
    case slowRank, failingLaunch, failingAllocation
}

extension Schedule {
    /// The schedule of a seed, and what disturbs it.
    static func random(seed: UInt64) -> (schedule: Schedule, disturbance: Disturbance) {
        var dice = Dice(seed: seed)
        let worldSize = 2 + dice.below(3)
        let kernelType = dice.one(of: KernelType.allCases)
        // More than a chunk of 64 now and then.
        let most = dice.once(in: 4) ? 140 : 20
        let tokens = (0...dice.below(4)).map { _ in
            (0..<worldSize).map { _ in dice.once(in: 6) ? 0 : dice.below(most + 1) }
        }
        var schedule = Schedule(
            rounds: rounds(
                tokens, hidden: 2 * (1 + dice.below(12)), topK: 1 + dice.below(4),
                expertsPerRank: 1 + dice.below(3), seed: seed &* 1000))
        schedule.kernelType = kernelType
        schedule.devicesPerNode =
            kernelType == .intraNode ? worldSize : 1 + dice.below(min(2, worldSize - 1))
        schedule.queuePairsPerPeer = kernelType == .intraNode ? 1 : 1 + dice.below(3)
        schedule.isSplit = dice.once(in: 3)
        schedule.launch = LaunchConfiguration(
            blocks: 1 + dice.below(3), warpsPerBlock: 1 + dice.below(2))
        for round in schedule.rounds.indices where dice.once(in: 5) {
            schedule.rounds[round].isDiscarded = true
        }
        if dice.once(in: 3) { schedule.input = .registered }
        if kernelType == .intraNode, dice.once(in: 3) { schedule.receiveOrder = .source }
        if dice.once(in: 3) {
            let scales = 1 + dice.below(4)
            for round in schedule.rounds.indices {
                schedule.rounds[round].workload.scaleDim = scales
            }
        }
        schedule.disturbLegally(&dice, seed: seed)
        let disturbance =
            dice.once(in: 3) ? .nothing : dice.one(of: Disturbance.allCases)
        schedule.disturb(disturbance, &dice)
        return (schedule, disturbance)
    }

    /// What a network and a machine may do without anything being wrong.
    private mutating func disturbLegally(_ dice: inout Dice, seed: UInt64) {
        loopback.watchesSource = true
        if dice.once(in: 2) { loopback.seed = seed }
        if dice.once(in: 2) { loopback.delay = dice.upTo(.milliseconds(3)) }
        if dice.once(in: 2) { loopback.completionDelay = dice.upTo(.milliseconds(3)) }
        loopback.queueDepth = dice.one(of: [2, 3, 8, 128])
        if dice.once(in: 4) { loopback.maxRequestByteCount = 64 }
        keepNetworkWithinDeadline()
        if dice.once(in: 3) { warpPause = dice.upTo(.microseconds(100)) }
        warpSeed = seed
        for _ in 0..<dice.below(3) {
            pauses.append(
                Pause(
                    rank: dice.below(worldSize), round: dice.below(rounds.count),
                    point: dice.one(of: Point.allCases),
                    duration: dice.upTo(.milliseconds(10))))
        }
        for _ in 0..<dice.below(2) {
            let (rank, peer) = pair(&dice)
            loopback.faults.append(
                .fullQueue(rank: rank, peer: peer, posts: 1 + dice.below(4)))
        }
    }

    /// Shortens delays with which a round's requests, a few at a time, would take most of the deadline:
    /// a network that is too slow for it is nothing that has to succeed.
    private mutating func keepNetworkWithinDeadline() {
        let requests =
            rounds.map(\.workload).map { workload in
                let rows = workload.tokens.max() ?? 0
                let row = 2 * workload.hidden + 8 * workload.topK + 4 * workload.scaleDim + 16
                // Rows may go one by one; their counts and signals are some more.
                return rows + rows * row / loopback.maxRequestByteCount + 8
            }.max() ?? 0
        let turns = (requests + loopback.queueDepth - 1) / loopback.queueDepth
        let turn = (loopback.delay ?? .zero) + (loopback.completionDelay ?? .zero)
        // Each request's own delays are up to twice these.
        let most = deadline / 4 / turns
        guard turn > most else { return }
        loopback.delay = loopback.delay.map { $0 * (most / turn) }
        loopback.completionDelay = loopback.completionDelay.map { $0 * (most / turn) }
    }

    /// Where a pause of a round takes effect.
    private func points(of round: Int) -> [Point] {
        Point.allCases.filter { point in
            switch point {
            case .beforeDispatch, .beforeReading: true
            case .betweenHalves: isSplit
            case .beforeCombine: !rounds[round].isDiscarded
            case .betweenCombineHalves: isSplit && !rounds[round].isDiscarded
            }
        }
    }

    private func pair(_ dice: inout Dice) -> (Int, Int) {
        let rank = dice.below(worldSize)
        return (rank, (rank + 1 + dice.below(worldSize - 1)) % worldSize)
    }

    /// What has to end in an error, if it comes to it.
    private mutating func disturb(_ disturbance: Disturbance, _ dice: inout Dice) {
        let (rank, peer) = pair(&dice)
        let request = dice.below(12)
        let round = dice.below(rounds.count)
        switch disturbance {
        case .nothing: break
        case .completionError:
            loopback.faults.append(
                .completionError(
                    rank: rank, peer: peer, request: request,
                    status: Int32(1 + dice.below(21))))
        case .lostCompletion:
            loopback.faults.append(
                .lostCompletion(rank: rank, peer: peer, request: request))
        case .lostPeer: loopback.faults.append(.lostPeer(rank: rank, request: request))
        case .lateRequest:
            // Some in time, some too late, and some at the last moment.
            loopback.faults.append(
                .lateRequest(
                    rank: rank, peer: peer, request: request,
                    by: dice.once(in: 3)
                        ? deadline - .nanoseconds(dice.below(1000)) : dice.upTo(deadline * 2)))
        case .slowRank:
            pauses.append(
                Pause(
                    rank: rank, round: round, point: dice.one(of: points(of: round)),
                    duration: dice.upTo(deadline * 3)))
        case .failingLaunch:
            failingLaunches.append(
                FailingLaunch(rank: rank, round: round, isCombine: dice.once(in: 2)))
        case .failingAllocation: failingAllocation = Int64(1 + dice.below(60))
        }
    }
}
#endif

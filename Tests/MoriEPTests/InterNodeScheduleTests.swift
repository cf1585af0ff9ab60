import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeScheduleTests {
    private static let kernels = InterNodeSupport.kernels

    /// When writes arrive: at once, late, in any order across queues, both.
    private static let behaviors: [LoopbackBehavior] =
        [.immediate, .delayed(.milliseconds(2))]
        + (1...2).map { .shuffled(seed: $0) }
        + (3...4).map { .shuffled(seed: $0, delay: .milliseconds(2)) }

    /// Several chunks on several queues to each peer, counts that change, discarded rounds.
    ///
    /// A late fabric reads the source when it delivers: staging memory that is used again too early
    /// shows as wrong rows.
    @Test(.timeLimit(.minutes(2)), arguments: kernels, behaviors.indices)
    func whenWritesArriveDoesNotMatter(_ kernel: KernelType, behavior number: Int) async throws {
        for queuePairs in [1, 3] {
            let workload = Geometry.uneven.workload(
                tokens: [200, 0, 3, 64, 65], hidden: 10, scaleDim: 2, seed: UInt64(number + 1))
            try await Geometry.uneven.round(kernel, workload) {
                $0.queuePairsPerPeer = queuePairs
                $0.loopback = Self.behaviors[number]
                $0.rounds = [
                    workload.tokens, [0, 130, 0, 0, 200], workload.tokens, [1, 1, 1, 1, 1],
                    [65, 64, 63, 0, 200], workload.tokens,
                ]
                $0.discarded = [1, 3]
            }.run()
        }
    }

    /// A queue of two requests is always full, and takes everything in the end.
    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func aShallowQueueOnlyTakesLonger(_ kernel: KernelType) async throws {
        var behavior = LoopbackBehavior.shuffled(seed: 9, delay: .microseconds(200))
        behavior.queueDepth = 2
        let workload = Geometry.uneven.workload(tokens: [130, 7, 66, 0, 1], hidden: 10, seed: 9)
        try await Geometry.uneven.round(kernel, workload) { [behavior] in
            $0.loopback = behavior
            $0.rounds = [workload.tokens, workload.tokens.reversed()]
        }.run()
    }

    /// Requests that are larger than the fabric takes go in pieces.
    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func smallRequestsOnlyTakeLonger(_ kernel: KernelType) async throws {
        var behavior = LoopbackBehavior.shuffled(seed: 10)
        behavior.maxRequestByteCount = 256
        let workload = Geometry.uneven.workload(tokens: [70, 7, 0, 1, 33], hidden: 66, seed: 10)
        try await Geometry.uneven.round(kernel, workload) { [behavior] in
            $0.loopback = behavior
            $0.rounds = [workload.tokens, workload.tokens.reversed()]
        }.run()
    }

    /// Sums have the same bits whatever the network does.
    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func refusedPostsAreRepeated(_ kernel: KernelType) async throws {
        let workload = Geometry.uneven.workload(tokens: [70, 7, 0, 1, 33], hidden: 10, seed: 11)
        try await Geometry.uneven.round(kernel, workload) {
            $0.loopback = .immediate.failing(
                .fullQueue(rank: 0, peer: 2, posts: 3), .fullQueue(rank: 4, peer: 0, posts: 5))
            $0.rounds = [workload.tokens, workload.tokens.reversed()]
        }.run()
    }
}

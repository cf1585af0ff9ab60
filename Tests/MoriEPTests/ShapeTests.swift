import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.ShapeTests {
    @Test(.timeLimit(.minutes(2)), arguments: rowCases)
    func rowsOfAnySizeComeBackSummed(_ round: RoundCase) async throws { try await round.run() }

    /// Hidden sizes down to one element: rows of 2, 4, 130, 260 bytes, and the largest.
    static let rowCases: [RoundCase] = [
        (1, ElementType.bfloat16), (1, .float32), (2, .bfloat16), (7, .bfloat16), (8, .bfloat16),
        (65, .bfloat16), (65, .float32), (130, .bfloat16), (130, .float32), (1023, .bfloat16),
        (7168, .bfloat16),
    ].flatMap { hidden, type in
        CombineInput.allCases.map { input in
            RoundCase(
                Workload(
                    worldSize: 3, tokens: [4, 3, 1], hidden: hidden, topK: 5, expertsPerRank: 3,
                    scaleDim: hidden % 5, seed: UInt64(hidden))
            ) {
                $0.dispatchType = type
                $0.options.input = input
            }
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: topKCases)
    func anyNumberOfExpertsPerTokenWorks(_ round: RoundCase) async throws {
        try await round.run()
    }

    /// (ranks, experts per rank, experts of all, top-k): 1, 5, all experts; ranks without experts.
    static let topKCases: [RoundCase] = [
        (1, 1, 1, 1), (1, 7, 7, 5), (1, 7, 7, 7), (2, 3, 6, 6), (3, 3, 9, 5), (3, 4, 10, 10),
        (4, 8, 32, 1), (5, 2, 9, 3), (7, 3, 19, 19), (8, 1, 8, 8), (8, 3, 17, 5), (8, 32, 256, 256),
        (3, 100, 101, 4), (4, 5, 1, 1),
    ].map { ranks, perRank, experts, topK in
        RoundCase(
            Workload(
                worldSize: ranks, tokens: (0..<ranks).map { 3 + $0 % 3 }, hidden: 66, topK: topK,
                expertsPerRank: perRank, expertCount: experts, seed: UInt64(experts * 100 + topK)))
    }

    @Test(.timeLimit(.minutes(2)), arguments: [1, 2, 3, 5, 7, 8, 16, 64], CombineInput.allCases)
    func worldsOfAnySizeWork(ranks: Int, input: CombineInput) async throws {
        let workload = Workload(
            worldSize: ranks, tokens: (0..<ranks).map { ($0 * 5 + 3) % 8 }, hidden: 130,
            topK: min(5, ranks * 3), expertsPerRank: 3, scaleDim: 4, seed: UInt64(ranks))
        try await RoundCase(workload) {
            $0.options.input = input
            $0.rounds = [workload.tokens, workload.tokens.reversed()]
            $0.maxTokens = 8
        }.run()
    }

    /// More ranks than the bits of one word in the kernels' sets of ranks.
    @Test(.timeLimit(.minutes(2)), arguments: [65, 130])
    func worldsOfMoreThan64RanksWork(ranks: Int) async throws {
        let workload = Workload(
            worldSize: ranks, tokens: (0..<ranks).map { $0 % 2 }, hidden: 6, topK: ranks,
            expertsPerRank: 1, pattern: .spread, seed: UInt64(ranks))
        try await RoundCase(workload).run()
        var scattered = workload
        scattered.topK = 5
        scattered.pattern = .random
        try await RoundCase(scattered).run()
    }

    @Test(.timeLimit(.minutes(2)), arguments: patterns, CombineInput.allCases)
    func everyRoutingPatternWorks(_ pattern: RoutingPattern, input: CombineInput) async throws {
        for ranks in [3, 8] {
            let workload = Workload(
                worldSize: ranks, tokens: (0..<ranks).map { 9 - $0 }, hidden: 36, topK: 6,
                expertsPerRank: 4, pattern: pattern, seed: 5)
            try await RoundCase(workload) { $0.options.input = input }.run()
        }
    }

    static let patterns: [RoutingPattern] = [
        .random, .roundRobin, .skewed, .allToOne, .spread, .everyOtherDropped, .outOfRange,
        .duplicates,
    ]

    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func tokensWithoutAnyExpertGiveZeros(input: CombineInput) async throws {
        let nowhere: [Int32] = [-1, Int32.max, Int32.min, 12]
        let workload = Workload(
            worldSize: 3, tokens: [2, 1, 0], hidden: 20, topK: 4, expertsPerRank: 4,
            pattern: .given([nowhere + [0, 1, 2, 3], nowhere, []]), seed: 6)
        try await RoundCase(workload) {
            $0.options.input = input
            $0.rounds = [[2, 1, 0], [1, 1, 0], [2, 0, 0]]
        }.run()
    }

    /// The patterns of the upstream AsyncLL test, many rounds on one operator.
    @Test(.timeLimit(.minutes(2)), arguments: CombineInput.allCases)
    func tokenCountsMayChangeEveryRound(input: CombineInput) async throws {
        let counts = [
            [4, 0, 3, 0, 2, 0, 1, 0], [0, 5, 0, 4, 0, 3, 0, 2], [6, 1, 0, 0, 5, 0, 0, 2],
            [0, 0, 7, 1, 0, 0, 4, 3], [0, 0, 0, 0, 0, 0, 0, 0], [7, 7, 7, 7, 7, 7, 7, 7],
            [0, 0, 0, 0, 0, 0, 0, 1],
        ]
        let workload = Workload(
            worldSize: 8, tokens: counts[0], hidden: 48, topK: 4, expertsPerRank: 2, seed: 99)
        try await RoundCase(workload) {
            $0.options.input = input
            $0.rounds = (0..<42).map { counts[$0 % counts.count] }
        }.run()
    }

    @Test(.timeLimit(.minutes(1)), arguments: [1, 4])
    func roundsWithoutAnyTokensWork(ranks: Int) async throws {
        let workload = Workload(
            worldSize: ranks, tokens: Array(repeating: 0, count: ranks), hidden: 16, topK: 2,
            expertsPerRank: 2, seed: 3)
        try await RoundCase(workload) {
            $0.rounds = Array(repeating: workload.tokens, count: 5)
            $0.maxTokens = 4
        }.run()
    }

    /// Rows of a call may be smaller than the operator's, in elements and in their size.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            (1, 512, ElementType.bfloat16), (130, 512, .bfloat16), (511, 512, .float32),
            (512, 512, .bfloat16),
        ], CombineInput.allCases)
    func hiddenMayBeSmallerThanTheConfigurations(
        _ sizes: (hidden: Int, most: Int, type: ElementType), input: CombineInput
    ) async throws {
        let workload = Workload(
            worldSize: 4, tokens: [3, 5, 0, 4], hidden: sizes.hidden, topK: 3, expertsPerRank: 3,
            scaleDim: 3, seed: 17)
        try await RoundCase(workload) {
            $0.dispatchType = sizes.type
            $0.hiddenDim = sizes.most
            $0.maxTokens = 9
            $0.options.input = input
        }.run()
    }
}

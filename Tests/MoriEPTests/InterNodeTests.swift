import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeTests {
    private static let kernels = InterNodeSupport.kernels

    /// One node of one rank to 32 nodes, no power of two among both, and last nodes with less.
    static let geometries = [
        Geometry(1, of: 1), Geometry(3, of: 3), Geometry(2, of: 1), Geometry(4, of: 2),
        Geometry(16, of: 8), Geometry(3, of: 1), Geometry(6, of: 2), Geometry(13, of: 4),
        Geometry(32, of: 8), Geometry(16, of: 2), Geometry(16, of: 1), Geometry(32, of: 1),
        Geometry(5, of: 2), Geometry(12, of: 8),
    ]

    @Test(.timeLimit(.minutes(2)), arguments: kernels, geometries)
    func everyGeometryWorks(_ kernel: KernelType, _ geometry: Geometry) async throws {
        for input in CombineInput.allCases {
            let workload = geometry.workload(
                tokens: [3, 0, 7, 1, 5], scaleDim: 3, seed: UInt64(geometry.ranks))
            try await geometry.round(kernel, workload) {
                $0.options.input = input
                $0.rounds = [workload.tokens, workload.tokens.reversed(), workload.tokens]
                $0.maxTokens = 8
            }.run()
        }
    }

    /// 16 nodes of 8 ranks in one process. The low-latency kernel types have the words and sections of
    /// these, and other launches.
    @Test(.timeLimit(.minutes(3)), arguments: [KernelType.interNode, .interNodeV1])
    func a128RanksWorkInOneProcess(_ kernel: KernelType) async throws {
        let geometry = Geometry(128, of: 8)
        let workload = geometry.workload(
            tokens: [2, 0, 3, 1], hidden: 10, topK: 8, expertsPerRank: 1, seed: 128)
        try await geometry.round(kernel, workload) {
            $0.rounds = [workload.tokens, workload.tokens.reversed()]
        }.run()
    }

    /// Below, at and beyond the 64 tokens of a chunk.
    @Test(
        .timeLimit(.minutes(2)), arguments: kernels,
        [[65, 130], [64, 0, 1], [63, 128, 129], [130, 0, 0], [1, 200, 66]])
    func tokensNeedNotFillTheirChunks(_ kernel: KernelType, tokens: [Int]) async throws {
        for geometry in [Geometry(2, of: 1), Geometry(4, of: 2), .uneven] {
            let workload = geometry.workload(
                tokens: tokens, hidden: 10, pattern: .skewed, seed: 64)
            try await geometry.round(kernel, workload) {
                $0.rounds = [workload.tokens, workload.tokens.reversed()]
            }.run()
        }
    }

    /// Ranks without tokens, in every round and in some.
    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func roundsWithoutAnyTokensWork(_ kernel: KernelType) async throws {
        let workload = Geometry.uneven.workload(tokens: [0], seed: 3)
        try await Geometry.uneven.round(kernel, workload) {
            $0.rounds = Array(repeating: [0, 0, 0, 0, 0], count: 3)
            $0.rounds += [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [70, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
        }.run()
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels, CombineInput.allCases)
    func everyRoutingPatternWorks(_ kernel: KernelType, input: CombineInput) async throws {
        let patterns: [RoutingPattern] = [
            .random, .roundRobin, .skewed, .allToOne, .spread, .everyOtherDropped, .outOfRange,
            .duplicates,
        ]
        for pattern in patterns {
            let workload = Geometry.uneven.workload(
                tokens: [9, 8, 0, 6, 5], hidden: 18, topK: 6, expertsPerRank: 4,
                pattern: pattern, seed: 5)
            try await Geometry.uneven.round(kernel, workload) { $0.options.input = input }.run()
        }
    }

    /// Tokens of which no copy goes anywhere, only home, only away.
    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func tokensMayStayOnTheirNodeOrVanish(_ kernel: KernelType) async throws {
        let geometry = Geometry(4, of: 2)
        // Expert e is at rank e / 2.
        let nowhere: [Int32] = [-1, .max, .min, 8]
        let home: [Int32] = [0, 1, 2, 3]
        let away: [Int32] = [7, 4, 6, 5]
        var workload = geometry.workload(
            tokens: [3, 2, 0, 1], expertsPerRank: 2, pattern: .random, seed: 6)
        workload.pattern = .given([nowhere + home + away, away + nowhere, [], away])
        try await geometry.round(kernel, workload) {
            $0.rounds = [[3, 2, 0, 1], [1, 1, 0, 0], [2, 2, 0, 1]]
        }.run()
    }

    /// Experts that do not divide by ranks, ranks without any, top-k of one and of all.
    @Test(
        .timeLimit(.minutes(2)), arguments: kernels,
        [(3, 13, 5), (4, 17, 17), (3, 7, 1), (1, 5, 5)]
    )
    func anyNumberOfExpertsWorks(
        _ kernel: KernelType, _ experts: (perRank: Int, all: Int, topK: Int)
    ) async throws {
        var workload = Geometry.uneven.workload(
            tokens: [4, 7, 1, 0, 3], topK: experts.topK, expertsPerRank: experts.perRank,
            seed: UInt64(experts.all))
        workload.expertCount = experts.all
        try await Geometry.uneven.round(kernel, workload).run()
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels, CombineInput.allCases)
    func weightsAreCarriedAndSummedWhereGiven(
        _ kernel: KernelType, input: CombineInput
    ) async throws {
        for (inDispatch, inCombine) in [(true, true), (true, false), (false, true), (false, false)]
        {
            let workload = Geometry.uneven.workload(tokens: [5, 0, 9, 2, 1], seed: 41)
            try await Geometry.uneven.round(kernel, workload) {
                $0.options.input = input
                $0.options.dispatchWeights = inDispatch
                $0.options.combineWeights = inCombine
                $0.rounds = [workload.tokens, [1, 1, 1, 1, 1]]
            }.run()
        }
    }

    /// Both types of both verbs, scales of both sizes.
    @Test(
        .timeLimit(.minutes(2)), arguments: kernels,
        [
            (ElementType.bfloat16, ElementType.bfloat16), (.float32, .float32),
            (.bfloat16, .float32), (.float32, .bfloat16),
        ])
    func typesOfDispatchAndCombineMayDiffer(
        _ kernel: KernelType, _ types: (dispatch: ElementType, combine: ElementType)
    ) async throws {
        let geometry = Geometry(6, of: 2)
        for (scaleDim, scaleByteSize) in [(0, 4), (5, 4), (7, 1)] {
            for input in CombineInput.allCases {
                let workload = geometry.workload(
                    tokens: [3, 1, 4], hidden: 23, topK: 5, scaleDim: scaleDim, seed: 17)
                try await geometry.round(kernel, workload) {
                    $0.dispatchType = types.dispatch
                    $0.combineType = types.combine
                    $0.scaleByteSize = scaleByteSize
                    $0.options.input = input
                }.run()
            }
        }
    }

    /// Rows of 2 bytes to the largest, of the operator's size and of less.
    @Test(.timeLimit(.minutes(2)), arguments: kernels, [1, 7, 66, 7168])
    func rowsOfAnySizeWork(_ kernel: KernelType, hidden: Int) async throws {
        for input in CombineInput.allCases {
            let workload = Geometry.uneven.workload(
                tokens: hidden > 1000 ? [2, 0, 1] : [9, 3, 66], hidden: hidden,
                scaleDim: hidden % 5, seed: UInt64(hidden))
            try await Geometry.uneven.round(kernel, workload) { $0.options.input = input }.run()
            guard hidden < 1000 else { continue }
            try await Geometry.uneven.round(kernel, workload) {
                $0.hiddenDim = 130
                $0.maxTokens = 70
                $0.options.input = input
            }.run()
        }
    }

    static let launches: [LaunchConfiguration] = [(1, 1), (1, 4), (3, 2), (8, 4)].flatMap {
        blocks, warps in
        [0, 1, 2].filter { $0 <= blocks }.map {
            LaunchConfiguration(blocks: blocks, rdmaBlocks: $0, warpsPerBlock: warps)
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels, launches)
    func everyGridWorks(_ kernel: KernelType, _ launch: LaunchConfiguration) async throws {
        for input in CombineInput.allCases {
            let workload = Geometry.uneven.workload(
                tokens: [1, 20, 70, 0, 2], hidden: 130, scaleDim: 5, seed: 12)
            try await Geometry.uneven.round(kernel, workload) {
                $0.options.input = input
                $0.options.launch = launch
                $0.rounds = [workload.tokens, [0, 1, 0, 65, 0]]
            }.run()
        }
    }

    /// No word and no row goes by another queue than its reader thinks.
    @Test(.timeLimit(.minutes(2)), arguments: kernels, [2, 3, 4, 7])
    func anyNumberOfQueuePairsWorks(_ kernel: KernelType, queuePairs: Int) async throws {
        for geometry in [Geometry(2, of: 1), .uneven] {
            let workload = geometry.workload(
                tokens: [200, 0, 3, 64, 65], hidden: 10, seed: UInt64(queuePairs))
            try await geometry.round(kernel, workload) {
                $0.queuePairsPerPeer = queuePairs
                $0.rounds = [workload.tokens, workload.tokens.reversed(), workload.tokens]
                $0.maxTokens = 200
            }.run()
        }
    }
}

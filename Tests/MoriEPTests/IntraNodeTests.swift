import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.IntraNodeTests {
    @Test(.timeLimit(.minutes(2)), arguments: grid)
    func everyTokenComesBackSummed(_ round: RoundCase) async throws {
        try await round.run()
    }

    /// Type pairs x hidden 7168, 4096 x scale count x scale bytes x tokens x buffer mode.
    static let grid: [RoundCase] = {
        let types: [(ElementType, ElementType)] = [
            (.bfloat16, .bfloat16), (.float32, .float32), (.bfloat16, .float32),
            (.float32, .bfloat16),
        ]
        var cases: [RoundCase] = []
        for (dispatch, combine) in types {
            for hidden in [448, 256] {
                for (scaleDim, scaleByteSize) in [(0, 4), (0, 1), (32, 4), (32, 1)] {
                    for tokens in [1, 16] {
                        for input in CombineInput.allCases {
                            let workload = Workload(
                                worldSize: 8, tokens: Array(repeating: tokens, count: 8),
                                hidden: hidden, topK: 8, expertsPerRank: 32, scaleDim: scaleDim,
                                seed: UInt64(123 + cases.count))
                            cases.append(
                                RoundCase(workload) {
                                    $0.dispatchType = dispatch
                                    $0.combineType = combine
                                    $0.scaleByteSize = scaleByteSize
                                    $0.options.input = input
                                })
                        }
                    }
                }
            }
        }
        return cases
    }()

    /// The grid's corners at full size.
    @Test(.timeLimit(.minutes(2)), arguments: CombineInput.allCases)
    func fullSizeTokensComeBackSummed(_ input: CombineInput) async throws {
        let workload = Workload(
            worldSize: 8, tokens: [128, 0, 1, 127, 64, 3, 128, 31], hidden: 7168, topK: 8,
            expertsPerRank: 32, scaleDim: 32, seed: 7)
        var small = workload
        small.tokens = [8, 0, 1, 7, 4, 3, 8, 2]
        try await RoundCase(small) {
            $0.options.input = input
            $0.maxTokens = 128
        }.run()
        // All of the tokens, a sixteenth of each.
        var wide = workload
        wide.hidden = 448
        try await RoundCase(wide) { $0.options.input = input }.run()
    }

    /// Weights in dispatch, in combine, in both, in none.
    @Test(
        .timeLimit(.minutes(2)), arguments: [true, false], [true, false])
    func weightsAreCarriedAndSummedWhereGiven(inDispatch: Bool, inCombine: Bool) async throws {
        for input in CombineInput.allCases {
            let workload = Workload(
                worldSize: 4, tokens: [5, 0, 9, 2], hidden: 34, topK: 3, expertsPerRank: 5,
                seed: 41)
            try await RoundCase(workload) {
                $0.options.input = input
                $0.options.dispatchWeights = inDispatch
                $0.options.combineWeights = inCombine
                $0.rounds = [[5, 0, 9, 2], [1, 1, 1, 1]]
            }.run()
        }
    }
}

import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Rounds of every element type: dispatch moves bytes, combine sums what the bytes mean.
    @Suite struct ElementTypeRoundTests {
        /// Every type by itself, then those that models use together.
        static let pairs: [(dispatch: ElementType, combine: ElementType)] =
            ElementType.tokenTypes.map { ($0, $0) } + [
                (.float8E4M3, .bfloat16), (.float8E4M3FNUZ, .bfloat16), (.float4E2M1, .bfloat16),
                (.float8E5M2, .float16), (.float16, .float32), (.float32, .float8E4M3),
                (.bfloat16, .float4E2M1),
            ]

        /// Rows whose parts the widest accesses fit, and rows that begin at odd addresses.
        @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases, pairs)
        func everyTypeComesBackSummed(
            _ kernel: KernelType, _ types: (dispatch: ElementType, combine: ElementType)
        ) async throws {
            let isPacked = [types.dispatch, types.combine].contains(.float4E2M1)
            for (number, hidden) in [128, isPacked ? 26 : 23].enumerated() {
                for input in CombineInput.allCases {
                    let workload = Workload(
                        worldSize: 4, tokens: [5, 0, 7, 3], hidden: hidden, topK: 3,
                        expertsPerRank: 3, scaleDim: 2, seed: UInt64(500 + number))
                    try await RoundCase(workload) {
                        $0.kernelType = kernel
                        $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                        $0.dispatchType = types.dispatch
                        $0.combineType = types.combine
                        $0.options.input = input
                        $0.rounds = [workload.tokens, [1, 2, 0, 4]]
                    }.run()
                }
            }
        }

        /// Scales are bytes to dispatch, whatever their size.
        @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
        func scalesOfEverySizeAreCarried(_ kernel: KernelType) async throws {
            for size in 1...8 {
                for count in [1, 5] {
                    let workload = Workload(
                        worldSize: 4, tokens: [3, 0, 5, 2], hidden: 16, topK: 2, expertsPerRank: 2,
                        scaleDim: count, seed: UInt64(600 + size))
                    try await RoundCase(workload) {
                        $0.kernelType = kernel
                        $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                        $0.scaleByteSize = size
                    }.run()
                }
            }
        }

        /// What a combine in a narrow type cannot hold is the largest value it has, and no NaN.
        @Test func sumsBeyondANarrowTypesRangeSaturate() async throws {
            let found = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(
                    EPDispatchCombineConfig(
                        elementType: .float8E4M3, hiddenDim: 8, maxInputTokensPerRank: 1,
                        expertsPerRank: 1, expertsPerToken: 2), in: world)
                let stream = try DeviceStream(on: world.device)
                let row = (0..<8).map { _ in Float8E4M3(448) }
                let received = try op.dispatch(
                    DeviceTensor(row, shape: [1, 8], on: stream),
                    indices: DeviceTensor([Int32(0), 1], shape: [1, 2], on: stream), on: stream)
                let output = try DeviceTensor(row + row, shape: [2, 8], on: stream)
                let combined = try op.combine(output, of: received, on: stream)
                let sums: [Float8E4M3] = try await combined.tokens.elements(on: stream)
                try await op.close()
                return sums.map(\.float)
            }
            #expect(found == Array(repeating: Array(repeating: 448, count: 8), count: 2))
        }

        @Test func rowsOfHalfAByteAreRefused() async throws {
            #expect(throws: MoriError.self) {
                try EPDispatchCombineConfig(
                    elementType: .float4E2M1, hiddenDim: 7, maxInputTokensPerRank: 1,
                    expertsPerRank: 1, expertsPerToken: 1
                ).validate()
            }
            let messages = try await withLocalWorld(1) { world in
                let op = try await EPDispatchCombineOp(
                    EPDispatchCombineConfig(
                        elementType: .float4E2M1, hiddenDim: 8, maxInputTokensPerRank: 1,
                        expertsPerRank: 1, expertsPerToken: 1), in: world)
                let stream = try DeviceStream(on: world.device)
                let tokens = try DeviceTensor(
                    shape: [1, 7], elementType: .float4E2M1, on: world.device)
                let indices = try DeviceTensor([Int32(0)], shape: [1, 1], on: stream)
                let error = #expect(throws: MoriError.self) {
                    _ = try op.dispatch(tokens, indices: indices, on: stream)
                }
                // The operator stays usable.
                let whole = try DeviceTensor(
                    [Float4E2M1Pair](repeating: Float4E2M1Pair(1, -6), count: 4), shape: [1, 8],
                    on: stream)
                let received = try op.dispatch(whole, indices: indices, on: stream)
                let combined = try op.combine(whole, of: received, on: stream)
                let pairs: [Float4E2M1Pair] = try await combined.tokens.elements(on: stream)
                #expect(pairs == [Float4E2M1Pair](repeating: Float4E2M1Pair(1, -6), count: 4))
                try await op.close()
                return error?.message ?? ""
            }
            #expect(messages[0].contains("7 fp4") && messages[0].contains("nearest 8"))
        }
    }
}

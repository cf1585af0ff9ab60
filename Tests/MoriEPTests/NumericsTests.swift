import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// Values that arithmetic stumbles over.
private let specials: [Float] = [
    .nan, .signalingNaN, -.nan, .infinity, -.infinity, 0, -0, 1, -1,
    .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude, -.leastNormalMagnitude,
    .leastNormalMagnitude / 2, .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
    .greatestFiniteMagnitude / 2, 0x1.FEp127, -0x1.FEp127, 0x1.01p0, 0x1.00FFp0, 0x1.0101p0,
    0x1p24, -0x1p24, 0x1.8p-126, 0x1p-133, 0x1p-134, 1e30, -1e30, 3.0e38, 1 / 3, -2 / 3, 65504,
]

extension WorldTests.NumericsTests {
    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func specialValuesAddUpLikeTheOraclesInBFloat16(input: CombineInput) async throws {
        try await checkSpecials(of: BFloat16.self, input: input)
    }

    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func specialValuesAddUpLikeTheOraclesInFloat32(input: CombineInput) async throws {
        try await checkSpecials(of: Float.self, input: input)
    }

    /// Every rank gives every token a row of its own special values; the first token goes to all
    /// ranks, the second to some, and so on.
    private func checkSpecials<Element: TokenElement>(
        of type: Element.Type, input: CombineInput
    ) async throws {
        // Wide enough for every vector width and its remainder.
        let hidden = 7 * specials.count + 3
        let experts: [Int32] = [0, 1, 2, 3, 3, 1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1]
        let workload = Workload(
            worldSize: 4, tokens: [4, 4, 4, 4], hidden: hidden, topK: 4, expertsPerRank: 1,
            pattern: .given(Array(repeating: experts, count: 4)), seed: 0)
        let routes = Routes(workload)
        let round = RoundCase(workload) {
            $0.dispatchType = Element.elementType
            $0.options.input = input
        }
        // What rank `maker` makes of a token.
        @Sendable func row(maker: Int, rank: Int, token: Int) -> [Element] {
            Element.rounded(
                (0..<hidden).map { column in
                    // Pairs of ranks meet in every combination of two specials.
                    let step = maker == 0 ? 1 : maker * 5 + 2
                    return specials[
                        (column * step + column / specials.count + maker + token)
                            % specials.count]
                })
        }
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<Element>(routes, rank: world.rank, on: stream)
            let sent = (0..<4).flatMap { row(maker: 9, rank: world.rank, token: $0) }
            try inputs.tokens.copy(from: sent, on: stream)
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            let positions = try await op.sourceTokenPositions(of: received, on: stream)
            // Dispatch moves bytes: NaN payloads and signs of zeros survive.
            let rows: [Element] = try await received.tokens.prefix(positions.count)
                .elements(on: stream)
            let expectedRows = positions.flatMap { row(maker: 9, rank: $0.rank, token: $0.token) }
            #expect(bits(rows) == bits(expectedRows))
            let made = positions.flatMap {
                row(maker: world.rank, rank: $0.rank, token: $0.token)
            }
            let output: DeviceTensor
            if input == .registered {
                output = try op.registeredCombineInput()
                try output.prefix(positions.count).copy(from: made, on: stream)
            } else {
                output = try DeviceTensor(made, shape: [positions.count, hidden], on: stream)
            }
            let combined = try op.combine(output, of: received, on: stream)
            let sums: [Element] = try await combined.tokens.elements(on: stream)
            for token in 0..<4 {
                let makers = routes.destinations[world.rank][token].map {
                    row(maker: $0, rank: world.rank, token: token)
                }
                for column in 0..<hidden {
                    var sum: Float = 0
                    for maker in makers { sum += maker[column].float }
                    let expected = Element.rounding(sum)
                    let found = sums[token * hidden + column].float
                    let isSame =
                        found.bitPattern == expected.bitPattern
                        || (found.isNaN && expected.isNaN)
                    #expect(
                        isSame,
                        "\(makers.map { $0[column].float }) gave \(found), expected \(expected)")
                }
            }
            try await op.close()
        }
    }

    /// The published order: ascending ranks. Any other gives other bits here.
    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func sumsRunOverAscendingRanks(input: CombineInput) async throws {
        let ranks = 8
        let workload = Workload(
            worldSize: ranks, tokens: Array(repeating: 2, count: ranks), hidden: 96, topK: ranks,
            expertsPerRank: 1, pattern: .spread, seed: 55)
        let routes = Routes(workload)
        let round = RoundCase(workload) {
            $0.dispatchType = .float32
            $0.options.input = input
        }
        @Sendable func value(maker: Int, column: Int) -> Float {
            let unit = Generator(seed: 77).unit(maker, column, 0)
            return (unit - 0.5)
                * Float(sign: .plus, exponent: (maker * 7 + column) % 24, significand: 1)
        }
        _ = try await withLocalWorld(ranks) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<Float>(routes, rank: world.rank, on: stream)
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            let count = try await op.receivedTokenCount(of: received, on: stream)
            let made = (0..<count).flatMap { _ in
                (0..<96).map { value(maker: world.rank, column: $0) }
            }
            let output: DeviceTensor
            if input == .registered {
                output = try op.registeredCombineInput()
                try output.prefix(count).copy(from: made, on: stream)
            } else {
                output = try DeviceTensor(made, shape: [count, 96], on: stream)
            }
            let combined = try op.combine(output, of: received, on: stream)
            let sums: [Float] = try await combined.tokens.elements(on: stream)
            var descendingDiffers = false
            for column in 0..<96 {
                let up = (0..<ranks).reduce(Float(0)) { $0 + value(maker: $1, column: column) }
                let down = (0..<ranks).reversed()
                    .reduce(Float(0)) { $0 + value(maker: $1, column: column) }
                #expect(sums[column].bitPattern == up.bitPattern)
                descendingDiffers = descendingDiffers || up != down
            }
            #expect(descendingDiffers, "these values cannot tell the orders apart")
            try await op.close()
        }
    }
}

private func bits<Element: TokenElement>(_ elements: [Element]) -> [UInt32] {
    elements.map(\.float.bitPattern)
}

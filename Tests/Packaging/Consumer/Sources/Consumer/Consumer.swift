import MoriEP

/// A round of two ranks, each with two experts, whose sums are computed beside it.
@main
struct Consumer {
    static let hidden = 96
    static let tokenCount = 5

    struct WrongSum: Error {
        var rank: Int
        var token: Int
        var found: Float
        var expected: Float
    }

    static func main() async throws {
        let worlds = try await SymmetricMemory.local(worldSize: 2)
        try await withThrowingTaskGroup { group in
            for world in worlds {
                group.addTask { try await round(in: world) }
            }
            try await group.waitForAll()
        }
        print("the sums of 2 ranks are right")
    }

    /// Token t of rank r has r * 100 + t + 1 everywhere; a power of two of its rank is an expert's factor.
    static func round(in world: SymmetricMemory) async throws {
        let config = EPDispatchCombineConfig(
            elementType: .float32, hiddenDim: hidden, maxInputTokensPerRank: 8,
            expertsPerRank: 2, expertsPerToken: 2)
        let op = try await EPDispatchCombineOp(config, in: world)
        let stream = try DeviceStream(on: world.device)

        let values = (0..<tokenCount).map { Float(world.rank * 100 + $0 + 1) }
        let tokens = try DeviceTensor(
            values.flatMap { [Float](repeating: $0, count: hidden) },
            shape: [tokenCount, hidden], on: stream)
        // The last token goes to one rank only, the others to both.
        let indices: [Int32] = (0..<tokenCount).flatMap { token -> [Int32] in
            token == tokenCount - 1 ? [2, 3] : [1, 2]
        }
        let received = try op.dispatch(
            tokens, indices: DeviceTensor(indices, shape: [tokenCount, 2], on: stream), on: stream)
        let count = try await op.receivedTokenCount(of: received, on: stream)

        let rows: [Float] = try await received.tokens.prefix(count).elements(on: stream)
        let output = try DeviceTensor(
            rows.map { $0 * Float(1 << (world.rank + 1)) }, shape: [count, hidden], on: stream)
        let combined = try op.combine(output, of: received, on: stream)
        let sums: [Float] = try await combined.tokens.elements(on: stream)
        for (index, sum) in sums.enumerated() {
            let token = index / hidden
            // Rank 0's factor is 2, rank 1's is 4.
            let expected = values[token] * (token == tokenCount - 1 ? 4 : 6)
            guard sum == expected else {
                throw WrongSum(rank: world.rank, token: token, found: sum, expected: expected)
            }
        }
        try await op.close()
        try await world.close()
    }
}

import CHIP
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.UntouchedMemoryTests {
    static let launches: [LaunchConfiguration?] = [
        nil, LaunchConfiguration(blocks: 3, warpsPerBlock: 4),
    ]

    /// Everything is 0xFF before a round, and afterwards everywhere but in the rows that came.
    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases, launches)
    func onlyTheRowsThatCameAreWritten(
        input: CombineInput, launch: LaunchConfiguration?
    ) async throws {
        let workload = Workload(
            worldSize: 4, tokens: [3, 0, 5, 1], hidden: 65, topK: 3, expertsPerRank: 2,
            scaleDim: 3, pattern: .skewed, seed: 21)
        let routes = Routes(workload)
        let round = RoundCase(workload) {
            $0.maxTokens = 7
            $0.options.input = input
            $0.options.launch = launch
        }
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let block = try SymmetricBlock(of: op)
            for _ in 0..<3 {
                try block.buffers.fill(with: 0xFF, on: stream)
                try await stream.completion()
                try await world.barrier()
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                    indices: inputs.indices, launch: launch, on: stream)
                let rows = try await checkReceived(
                    received, routes, of: BFloat16.self, options: round.options, with: op,
                    on: stream)
                let count = UInt64(rows.positions.count)
                let own: [UInt8] = try await block.buffers.elements(on: stream)
                let layout = block.layout
                var written = WrittenRanges(base: layout.words_end)
                written.add(layout.received_tokens, count * 65 * 2)
                written.add(layout.received_weights, count * 3 * 4)
                written.add(layout.received_scales, count * 3 * 4)
                written.add(layout.received_indices, count * 3 * 4)
                written.add(layout.received_sources, count * 4)
                #expect(written.firstStranger(in: own) == nil, "after dispatch")
                // Nobody combines before everybody has looked.
                try await world.barrier()
                let output = try ExpertOutput<BFloat16>(
                    rows, routes, of: BFloat16.self, options: round.options, with: op, on: stream)
                let combined = try op.combine(
                    output.tokens, of: received, weights: output.weights, launch: launch,
                    on: stream)
                try await checkCombined(
                    combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: stream)
                let after: [UInt8] = try await block.buffers.elements(on: stream)
                if input == .external {
                    // The rows of each own token land at destination * 7 + token.
                    for (token, ranks) in routes.destinations[world.rank].enumerated() {
                        for rank in ranks {
                            let row = UInt64(rank * 7 + token)
                            written.add(layout.combine_input + row * 65 * 2, 65 * 2)
                            written.add(layout.combine_input_weights + row * 3 * 4, 3 * 4)
                        }
                    }
                } else {
                    written.add(layout.combine_input, count * 65 * 2)
                    written.add(layout.combine_input_weights, count * 3 * 4)
                }
                #expect(written.firstStranger(in: after) == nil, "after combine")
                try await world.barrier()
            }
            try await op.close()
        }
    }

    /// A payload of NaNs in the buffers of earlier rounds never shows in later sums.
    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func whatEarlierRoundsLeftIsNeverSummed(input: CombineInput) async throws {
        let counts = [[7, 7, 7], [1, 0, 2], [0, 0, 0], [0, 5, 0]]
        let rounds = counts.enumerated().map {
            Routes(
                Workload(
                    worldSize: 3, tokens: $1, hidden: 33, topK: 2, expertsPerRank: 2,
                    seed: UInt64(60 + $0)))
        }
        let round = RoundCase(rounds[0].workload) { $0.options.input = input }
        _ = try await withLocalWorld(3) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let block = try SymmetricBlock(of: op)
            for routes in rounds + rounds {
                try block.buffers.fill(with: 0xFF, on: stream)
                try await stream.completion()
                try await world.barrier()
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                    options: round.options)
                try await world.barrier()
            }
            try await op.close()
        }
    }
}

/// The bytes that a round was allowed to write.
private struct WrittenRanges {
    let base: UInt64
    private var ranges: [Range<Int>] = []

    init(base: UInt64) { self.base = base }

    mutating func add(_ offset: UInt64, _ count: UInt64) {
        ranges.append(Int(offset - base)..<Int(offset - base + count))
    }

    /// The first byte outside that is not 0xFF.
    func firstStranger(in bytes: [UInt8]) -> Int? {
        var allowed = [Bool](repeating: false, count: bytes.count)
        for range in ranges {
            for index in range { allowed[index] = true }
        }
        return bytes.indices.first { bytes[$0] != 0xFF && !allowed[$0] }
    }
}

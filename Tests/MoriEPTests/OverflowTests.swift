import CHIP
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// Which rows came, for all ranks of a world: what there was no room for depends on who was first.
private final class Arrivals: Sendable {
    private let rows = Locked<[[Int]: Set<Int>]>([:])

    func record(_ positions: [TokenPosition], at receiver: Int) {
        rows.withLock { rows in
            for source in positions {
                rows[[source.rank, source.token], default: []].insert(receiver)
            }
        }
    }

    func receivers(rank: Int, count: Int) -> [[Int]] {
        rows.withLock { rows in (0..<count).map { rows[[rank, $0], default: []].sorted() } }
    }

    func clear() { rows.withLock { $0 = [:] } }
}

extension WorldTests.OverflowTests {
    static let cases: [(limit: Int, pattern: RoutingPattern)] = [
        (1, .random), (7, .random), (19, .allToOne), (8, .spread), (31, .spread), (32, .spread),
        (40, .random), (1_000_000, .random),
    ]

    /// Rows beyond the limit are left out of the sums, reported, and written nowhere.
    @Test(.timeLimit(.minutes(1)), arguments: cases, CombineInput.allCases)
    func rowsWithoutRoomAreDroppedAndReported(
        _ overflow: (limit: Int, pattern: RoutingPattern), input: CombineInput
    ) async throws {
        let arrivals = Arrivals()
        let rounds = [[8, 8, 8, 8], [8, 0, 3, 8], [0, 0, 0, 1]].enumerated().map {
            Routes(
                Workload(
                    worldSize: 4, tokens: $1, hidden: 64, topK: 4, expertsPerRank: 2,
                    pattern: overflow.pattern, seed: UInt64(900 + $0)))
        }
        let config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 64, maxInputTokensPerRank: 8,
            maxTotalReceivedTokens: overflow.limit, expertsPerRank: 2, expertsPerToken: 4,
            combineInput: input)
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(config, in: world)
            #expect(op.maxReceivedTokens == min(overflow.limit, 32))
            let stream = try DeviceStream(on: world.device)
            var options = RoundOptions(input: input)
            options.dispatchWeights = false
            // Guard rows: no weights are sent, so nobody may write from the last received token up
            // to the scales.
            let block = try SymmetricBlock(of: op)
            let rowBytes = 64 * 2
            let guards = block.bytes(
                from: block.layout.received_tokens + UInt64(op.maxReceivedTokens * rowBytes),
                to: block.layout.received_scales)
            #expect(guards.byteCount >= 16)
            try guards.fill(with: 0xFF, on: stream)
            try await stream.completion()
            try await world.barrier()
            for routes in rounds + rounds {
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let received = try op.dispatch(
                    inputs.tokens, indices: inputs.indices, on: stream)
                let expected = routes.sources(receivedBy: world.rank).count
                #expect(
                    try await op.droppedTokenCount(of: received, on: stream)
                        == max(0, expected - op.maxReceivedTokens))
                #expect(
                    try await op.receivedTokenCount(of: received, on: stream)
                        == min(expected, op.maxReceivedTokens))
                let rows = try await checkReceived(
                    received, routes, of: BFloat16.self, options: options, with: op, on: stream,
                    isComplete: false)
                let guardBytes: [UInt8] = try await guards.elements(on: stream)
                #expect(guardBytes.allSatisfy { $0 == 0xFF }, "written past the received tokens")
                arrivals.record(rows.positions, at: world.rank)
                try await world.barrier()
                let output = try ExpertOutput<BFloat16>(
                    rows, routes, of: BFloat16.self, options: options, with: op, on: stream)
                let combined = try op.combine(
                    output.tokens, of: received, weights: output.weights, on: stream)
                try await checkCombined(
                    combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: stream,
                    arrived: arrivals.receivers(
                        rank: world.rank, count: routes.workload.tokens[world.rank]))
                try await world.barrier()
                if world.rank == 0 { arrivals.clear() }
                try await world.barrier()
            }
            try await op.close()
        }
    }
}

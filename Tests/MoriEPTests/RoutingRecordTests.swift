import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Rounds that are sent where an earlier one went.
    @Suite struct RoutingRecordTests {
        private static func routes(_ tokens: [Int], seed: UInt64) -> Routes {
            Routes(
                Workload(
                    worldSize: 5, tokens: tokens, hidden: 34, topK: 3, expertsPerRank: 3,
                    seed: seed))
        }

        private static func config(
            _ kernel: KernelType, _ order: ReceiveOrder = .unspecified
        ) -> EPDispatchCombineConfig {
            RoundCase(routes([70, 70, 70, 70, 70], seed: 0).workload) {
                $0.kernelType = kernel
                $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                $0.receiveOrder = order
            }.config
        }

        /// Tokens of other numbers, sent where the recorded ones went, land in the same rows.
        @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
        func aReplayedRoundGoesWhereTheRecordedOneWent(_ kernel: KernelType) async throws {
            let first = Self.routes([5, 0, 66, 7, 1], seed: 1)
            let second = Self.routes([1, 70, 3, 0, 4], seed: 2)
            _ = try await withLocalWorld(5) { world in
                let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
                let stream = try DeviceStream(on: world.device)
                var records: [(Routes, RoutingRecord, [TokenPosition])] = []
                for routes in [first, second] {
                    let record = try op.makeRoutingRecord()
                    #expect(record.tokenCount == nil)
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                        recording: record, on: stream)
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    records.append((routes, record, rows.positions))
                    try await checkCombine(
                        of: received, rows, routes, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream)
                }
                // The older one first; other rounds in between.
                for turn in 0..<6 {
                    let (recorded, record, positions) = records[turn % 2]
                    // The same routes with another element type's rows: f32 tokens do not fit, so
                    // bf16 of the same workload, whose numbers the oracle knows.
                    let inputs = try RoundInputs<BFloat16>(recorded, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, replaying: record, on: stream)
                    let rows = try await checkReceived(
                        received, recorded, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    if rows.positions != positions {
                        throw Mismatch("rank \(world.rank): rows moved")
                    }
                    if turn == 3 {
                        try op.discard(received)
                    } else {
                        try await checkCombine(
                            of: received, rows, recorded, of: BFloat16.self,
                            combining: BFloat16.self, with: op, on: stream)
                    }
                    try await checkRound(
                        Self.routes([2, 9, 0, 64, 3], seed: UInt64(10 + turn)), of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream)
                }
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func anOrderedRoundIsReplayedInItsOrder() async throws {
            let routes = Self.routes([5, 0, 66, 7, 1], seed: 6)
            _ = try await withLocalWorld(5) { world in
                let op = try await EPDispatchCombineOp(Self.config(.intraNode, .source), in: world)
                let stream = try DeviceStream(on: world.device)
                let record = try op.makeRoutingRecord()
                for turn in 0..<4 {
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received =
                        turn == 0
                        ? try op.dispatch(
                            inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                            recording: record, on: stream)
                        : try op.dispatch(
                            inputs.tokens, weights: inputs.weights, replaying: record, on: stream)
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    #expect(
                        rows.positions.map { [$0.rank, $0.token] }
                            == routes.sources(receivedBy: world.rank))
                    try await checkCombine(
                        of: received, rows, routes, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream)
                }
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func recordsThatDoNotFitAreRefused() async throws {
            let routes = Self.routes([3, 1, 2, 4, 5], seed: 8)
            _ = try await withLocalWorld(5) { world in
                let op = try await EPDispatchCombineOp(Self.config(.intraNode), in: world)
                let other = try await EPDispatchCombineOp(Self.config(.intraNode), in: world)
                let stream = try DeviceStream(on: world.device)
                let record = try op.makeRoutingRecord()
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let empty = #expect(throws: MoriError.self) {
                    _ = try op.dispatch(inputs.tokens, replaying: record, on: stream)
                }
                #expect(empty?.message.contains("empty") == true)
                let count = try DeviceTensor([Int32(1)], on: stream)
                let both = #expect(throws: MoriError.self) {
                    _ = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, validTokenCount: count,
                        recording: record, on: stream)
                }
                #expect(both?.message.contains("validTokenCount") == true)
                try op.discard(
                    try op.dispatch(
                        inputs.tokens, indices: inputs.indices, recording: record, on: stream))
                let elsewhere = #expect(throws: MoriError.self) {
                    _ = try other.dispatch(inputs.tokens, replaying: record, on: stream)
                }
                #expect(elsewhere?.message.contains("of another operator") == true)
                let fewer = #expect(throws: MoriError.self) {
                    _ = try op.dispatch(
                        inputs.tokens.prefix(0), replaying: record, on: stream)
                }
                #expect(fewer?.message.contains("of them, and so must this") == true)
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
                try await other.close()
                try await op.close()
            }
        }
    }
}

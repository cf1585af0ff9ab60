import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.RoundTests {
    private static func workload(_ tokens: [Int], seed: UInt64 = 71) -> Workload {
        Workload(
            worldSize: tokens.count, tokens: tokens, hidden: 66, topK: 3, expertsPerRank: 3,
            seed: seed)
    }

    private static func config(
        slots: Int = 1, input: CombineInput = .external
    ) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 66, maxInputTokensPerRank: 8, expertsPerRank: 3,
            expertsPerToken: 3, combineInput: input, slots: slots)
    }

    private static func dispatch(
        _ routes: Routes, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) throws -> DispatchOutput {
        let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
        return try op.dispatch(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
    }

    @Test(.timeLimit(.minutes(1)))
    func theNextRoundAfterADiscardedOneIsRight() async throws {
        let rounds = [[5, 0, 2, 7], [1, 8, 0, 3], [0, 0, 4, 0]].enumerated().map {
            Routes(Self.workload($1, seed: UInt64(500 + $0)))
        }
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(Self.config(), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<60 {
                // Sometimes one, sometimes several in a row; nobody waits in between.
                for discarded in 0..<turn % 4 {
                    let received = try Self.dispatch(
                        rounds[(turn + discarded) % 3], with: op, on: stream)
                    try op.discard(received)
                }
                try await checkRound(
                    rounds[turn % 3], of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: stream)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aDroppedOutputIsReclaimedAndCombined() async throws {
        let routes = Routes(Self.workload([5, 0, 2, 7]))
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(Self.config(), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<10 {
                do { _ = try Self.dispatch(routes, with: op, on: stream) }
                // The slot is not free: nothing is overwritten behind the caller's back.
                let refusal = try #require(throws: MoriError.self) {
                    _ = try Self.dispatch(routes, with: op, on: stream)
                }
                #expect(refusal.code == .abandoned)
                #expect(refusal.message.contains("reclaim()"))
                let received = try op.reclaim()
                if turn % 2 == 0 {
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    try await checkCombine(
                        of: received, rows, routes, of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream)
                } else {
                    try op.discard(received)
                }
                let nothing = try #require(throws: MoriError.self) { _ = try op.reclaim() }
                #expect(nothing.code == .invalidArgument)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func twoRoundsCanBeInFlightWithTwoSlots(input: CombineInput) async throws {
        let first = Routes(Self.workload([5, 0, 2, 7], seed: 1))
        let second = Routes(Self.workload([1, 8, 3, 0], seed: 2))
        var options = RoundOptions()
        options.input = input
        _ = try await withLocalWorld(4) { [options] world in
            let op = try await EPDispatchCombineOp(Self.config(slots: 2, input: input), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<12 {
                let early = try Self.dispatch(first, with: op, on: stream)
                let late = try Self.dispatch(second, with: op, on: stream)
                let third = try #require(throws: MoriError.self) {
                    _ = try Self.dispatch(first, with: op, on: stream)
                }
                #expect(third.code == .capacityExceeded)
                #expect(third.message.contains("set slots to 3"))
                let earlyRows = try await checkReceived(
                    early, first, of: BFloat16.self, options: options, with: op, on: stream)
                let lateRows = try await checkReceived(
                    late, second, of: BFloat16.self, options: options, with: op, on: stream)
                // Which is combined first does not matter, as long as all ranks agree.
                let earlySlot = 0
                let lateSlot = 1
                if turn % 2 == 0 {
                    try await checkCombine(
                        of: early, earlyRows, first, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream, options: options, slot: earlySlot)
                    try await checkCombine(
                        of: late, lateRows, second, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream, options: options, slot: lateSlot)
                } else {
                    try await checkCombine(
                        of: late, lateRows, second, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream, options: options, slot: lateSlot)
                    try await checkCombine(
                        of: early, earlyRows, first, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream, options: options, slot: earlySlot)
                }
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func dispatchAndCombineMayUseDifferentStreams() async throws {
        let routes = [
            Routes(Self.workload([5, 0, 2])), Routes(Self.workload([1, 8, 0], seed: 9)),
        ]
        _ = try await withLocalWorld(3) { world in
            let op = try await EPDispatchCombineOp(Self.config(), in: world)
            let streams = try (0..<3).map { _ in try DeviceStream(on: world.device) }
            for turn in 0..<30 {
                try await checkRound(
                    routes[turn % 2], of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: streams[turn % 3], combineOn: streams[(turn * 5 + 1) % 3])
            }
            try await op.close()
        }
    }

    /// Without waiting in between: only the operator itself orders the streams.
    @Test(.timeLimit(.minutes(1)))
    func workOnAnotherStreamWaitsForTheOneBefore() async throws {
        let routes = Routes(Self.workload([5, 4, 2], seed: 33))
        _ = try await withLocalWorld(3) { world in
            let op = try await EPDispatchCombineOp(Self.config(), in: world)
            let first = try DeviceStream(on: world.device)
            let second = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: first)
            try await first.completion()
            for _ in 0..<20 {
                let gate = try StreamGate(on: first)
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: first)
                let tokens = received.tokens
                let weights = received.weights
                let combined = try op.combine(tokens, of: received, weights: weights, on: second)
                gate.open()
                let rows: [BFloat16] = try await combined.tokens.elements(on: second)
                for token in 0..<routes.workload.tokens[world.rank] {
                    let copies = routes.destinations[world.rank][token].count
                    let sent = BFloat16.rounded(
                        routes.workload.tokenRow(rank: world.rank, token: token))
                    let expected = BFloat16.rounded(sent.map { $0.float * Float(copies) })
                    #expect(Array(rows[token * 66..<(token + 1) * 66]) == expected)
                }
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func twoOperatorsTakeTurnsInOneWorld() async throws {
        let wide = Routes(Self.workload([5, 0, 2, 7]))
        let narrow = Routes(
            Workload(
                worldSize: 4, tokens: [2, 2, 0, 6], hidden: 5, topK: 2, expertsPerRank: 2,
                seed: 4))
        _ = try await withLocalWorld(4) { world in
            let first = try await EPDispatchCombineOp(Self.config(), in: world)
            let second = try await EPDispatchCombineOp(
                EPDispatchCombineConfig(
                    elementType: .float32, hiddenDim: 5, maxInputTokensPerRank: 6,
                    expertsPerRank: 2, expertsPerToken: 2), in: world)
            let stream = try DeviceStream(on: world.device)
            let other = try DeviceStream(on: world.device)
            for _ in 0..<20 {
                let outer = try Self.dispatch(wide, with: first, on: stream)
                try await checkRound(
                    narrow, of: Float.self, combining: Float.self, with: second, on: other)
                let rows = try await checkReceived(
                    outer, wide, of: BFloat16.self, options: RoundOptions(), with: first,
                    on: stream)
                try await checkCombine(
                    of: outer, rows, wide, of: BFloat16.self, combining: BFloat16.self,
                    with: first, on: stream)
            }
            try await second.close()
            try await checkRound(
                wide, of: BFloat16.self, combining: BFloat16.self, with: first, on: stream)
            try await first.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func twoWorldsOfOneProcessDoNotMeet() async throws {
        async let three: Void = RoundCase(Self.workload([5, 0, 2], seed: 3)) {
            $0.rounds = Array(repeating: [5, 0, 2], count: 30)
        }.run()
        async let five: Void = RoundCase(Self.workload([1, 2, 3, 4, 5], seed: 5)) {
            $0.dispatchType = .float32
            $0.rounds = Array(repeating: [1, 2, 3, 4, 5], count: 30)
            $0.options.input = .registered
        }.run()
        _ = try await (three, five)
    }

    /// A round's tensors may be dropped as soon as the call returned.
    @Test(.timeLimit(.minutes(1)))
    func tensorsMayBeDroppedWhileTheirWorkRuns() async throws {
        let routes = Routes(Self.workload([5, 8, 2]))
        _ = try await withLocalWorld(3) { world in
            let op = try await EPDispatchCombineOp(Self.config(), in: world)
            let stream = try DeviceStream(on: world.device)
            for _ in 0..<20 {
                let gate = try StreamGate(on: stream)
                let received = try Self.dispatch(routes, with: op, on: stream)
                let tokens = received.tokens
                let combined = try op.combine(tokens, of: received, on: stream)
                gate.open()
                let rows: [BFloat16] = try await combined.tokens.elements(on: stream)
                let copies = routes.destinations[world.rank][0].count
                let sent = BFloat16.rounded(routes.workload.tokenRow(rank: world.rank, token: 0))
                #expect(rows[7].float == BFloat16(sent[7].float * Float(copies)).float)
            }
            try await op.close()
        }
    }

    /// Dispatch and combine may disagree about the size of a row as well as about its type.
    @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
    func combineMayHaveAnotherHiddenSizeThanDispatch(input: CombineInput) async throws {
        let routes = Routes(Self.workload([4, 1, 8], seed: 10))
        _ = try await withLocalWorld(3) { world in
            let op = try await EPDispatchCombineOp(Self.config(input: input), in: world)
            let stream = try DeviceStream(on: world.device)
            for hidden in [1, 7, 33] {
                let received = try Self.dispatch(routes, with: op, on: stream)
                let positions = try await op.sourceTokenPositions(of: received, on: stream)
                // Row i says where it came from and who made it.
                let output = positions.flatMap { source in
                    (0..<hidden).map { column in
                        Float(source.rank * 1000 + source.token * 100 + column)
                            * Float(world.rank + 1)
                    }
                }
                let tensor: DeviceTensor
                if input == .registered {
                    tensor = try op.registeredCombineInput(of: .float32, hiddenDim: hidden)
                    try tensor.prefix(positions.count).copy(from: output, on: stream)
                } else {
                    tensor = try DeviceTensor(
                        output, shape: [positions.count, hidden], on: stream)
                }
                let combined = try op.combine(tensor, of: received, on: stream)
                let rows: [Float] = try await combined.tokens.elements(on: stream)
                for token in 0..<routes.workload.tokens[world.rank] {
                    let makers = routes.destinations[world.rank][token].reduce(0) { $0 + $1 + 1 }
                    for column in 0..<hidden {
                        let own = Float(world.rank * 1000 + token * 100 + column)
                        #expect(rows[token * hidden + column] == own * Float(makers))
                    }
                }
            }
            try await op.close()
        }
    }
}

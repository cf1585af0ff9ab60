import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// What a captured dispatch leaves behind for the replays to read.
private struct CapturedTensors {
    let tokens: DeviceTensor
    let weights: DeviceTensor?
    let indices: DeviceTensor
    let receivedCount: DeviceTensor

    init(_ received: borrowing DispatchOutput) {
        tokens = received.tokens
        weights = received.weights
        indices = received.indices
        receivedCount = received.receivedTokenCount
    }
}

/// The tensors that a captured round reads; replays see what they hold then.
private struct GraphInputs {
    let tokens: DeviceTensor
    let weights: DeviceTensor
    let indices: DeviceTensor
    let validCount: DeviceTensor

    init(tokens count: Int, hidden: Int, topK: Int, on device: Device) throws {
        tokens = try DeviceTensor(shape: [count, hidden], elementType: .bfloat16, on: device)
        weights = try DeviceTensor(shape: [count, topK], elementType: .float32, on: device)
        indices = try DeviceTensor(shape: [count, topK], elementType: .int32, on: device)
        validCount = try DeviceTensor(shape: [1], elementType: .int32, on: device)
    }

    /// Stores a rank's part of a round; rows beyond its count keep a trap: NaNs for expert 0.
    func load(_ routes: Routes, rank: Int, on stream: DeviceStream) throws {
        let workload = routes.workload
        let count = workload.tokens[rank]
        try tokens.fill(with: 0xFF, on: stream)
        try weights.fill(with: 0xFF, on: stream)
        try indices.fill(with: 0, on: stream)
        try tokens.prefix(count).copy(
            from: (0..<count).flatMap {
                BFloat16.rounded(workload.tokenRow(rank: rank, token: $0))
            }, on: stream)
        try weights.prefix(count).copy(
            from: (0..<count).flatMap { workload.weightRow(rank: rank, token: $0) }, on: stream)
        try indices.prefix(count).copy(from: routes.experts[rank], on: stream)
        try validCount.copy(from: [Int32(count)], on: stream)
    }
}

extension WorldTests.GraphTests {
    private static let hidden = 20
    private static let topK = 3
    private static let most = 6

    private static func routes(ranks: Int, replay: Int) -> Routes {
        let generator = Generator(seed: 4711)
        return Routes(
            Workload(
                worldSize: ranks,
                tokens: (0..<ranks).map { generator.index(below: most + 1, replay, $0, 0) },
                hidden: hidden, topK: topK, expertsPerRank: 2,
                pattern: replay % 3 == 0 ? .outOfRange : .random, seed: UInt64(replay)))
    }

    private static func makeOp(
        in world: SymmetricMemory, input: CombineInput, kernel: KernelType = .intraNode
    ) async throws -> EPDispatchCombineOp {
        try await EPDispatchCombineOp(
            EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: hidden, maxInputTokensPerRank: most,
                expertsPerRank: 2, expertsPerToken: topK, combineInput: input, kernelType: kernel,
                devicesPerNode: kernel == .intraNode ? 8 : 2), in: world)
    }

    /// One graph of dispatch and combine, a thousand times, with other tokens, routes and counts.
    /// Without the host in between, the experts do nothing.
    @Test(.timeLimit(.minutes(5)))
    func aCapturedRoundIsReplayedAThousandTimesWithChangingInputs() async throws {
        _ = try await withLocalWorld(4) { world in
            let op = try await Self.makeOp(in: world, input: .external)
            let stream = try DeviceStream(on: world.device)
            let inputs = try GraphInputs(
                tokens: Self.most, hidden: Self.hidden, topK: Self.topK, on: world.device)
            var outputs: (CapturedTensors, CombineOutput)?
            let graph = try stream.capture { () throws(MoriError) in
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                    validTokenCount: inputs.validCount, on: stream)
                let tensors = CapturedTensors(received)
                let combined = try op.combine(
                    tensors.tokens, of: received, weights: tensors.weights, on: stream)
                outputs = (tensors, combined)
            }
            let (tensors, combined) = try #require(outputs)
            for replay in 0..<1000 {
                let routes = Self.routes(ranks: 4, replay: replay)
                try inputs.load(routes, rank: world.rank, on: stream)
                try graph.launch(on: stream)
                let count: [Int32] = try await tensors.receivedCount.elements(on: stream)
                guard Int(count[0]) == routes.sources(receivedBy: world.rank).count else {
                    throw Mismatch("replay \(replay): rank \(world.rank) received \(count[0])")
                }
                try await Self.checkCopies(
                    combined, routes, rank: world.rank, replay: replay, on: stream)
            }
            try await op.close()
        }
    }

    /// Each row is the token times the number of ranks that it went to; a few copies of a bf16
    /// value add up exactly in fp32.
    private static func checkCopies(
        _ combined: CombineOutput, _ routes: Routes, rank: Int, replay: Int,
        on stream: DeviceStream
    ) async throws {
        let workload = routes.workload
        let oracle = Oracle(workload, rounding: { $0 })
        let rows: [BFloat16] = try await combined.tokens.elements(on: stream)
        let weights: [Float] = try await #require(combined.weights).elements(on: stream)
        for token in 0..<workload.tokens[rank] {
            let copies = Float(routes.destinations[rank][token].count)
            let sent = BFloat16.rounded(workload.tokenRow(rank: rank, token: token))
            let expected = BFloat16.rounded(sent.map { $0.float * copies })
            let found = rows[token * hidden..<(token + 1) * hidden]
            guard found.map(\.float) == expected.map(\.float) else {
                throw Mismatch("replay \(replay): token \(token) of rank \(rank)")
            }
            let sums = Array(weights[token * topK..<(token + 1) * topK])
            guard sums == oracle.combinedWeights(rank: rank, token: token) else {
                throw Mismatch("replay \(replay): weights of token \(token) of rank \(rank)")
            }
        }
    }

    /// Two graphs with real experts between them, and plain rounds between the replays: on one node,
    /// and on two, the second of which is not full.
    @Test(.timeLimit(.minutes(5)), arguments: KernelType.allCases)
    func graphsAndPlainRoundsTakeTurns(_ kernel: KernelType) async throws {
        _ = try await withLocalWorld(3) { world in
            let op = try await Self.makeOp(in: world, input: .registered, kernel: kernel)
            let stream = try DeviceStream(on: world.device)
            let inputs = try GraphInputs(
                tokens: Self.most, hidden: Self.hidden, topK: Self.topK, on: world.device)
            var output: DispatchOutput?
            let dispatchGraph = try stream.capture { () throws(MoriError) in
                output = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                    validTokenCount: inputs.validCount, on: stream)
            }
            guard let received = output.take() else { throw Mismatch("no output was captured") }
            let tensors = CapturedTensors(received)
            let registered = try op.registeredCombineInput()
            var given: DispatchOutput? = received
            var sums: CombineOutput?
            let combineGraph = try stream.capture { () throws(MoriError) in
                guard let received = given.take() else { return }
                sums = try op.combine(
                    registered, of: received, weights: tensors.weights, on: stream)
            }
            let combined = try #require(sums)
            for replay in 0..<40 {
                let routes = Self.routes(ranks: 3, replay: replay)
                try inputs.load(routes, rank: world.rank, on: stream)
                try dispatchGraph.launch(on: stream)
                try await Self.runExperts(
                    on: tensors, into: registered, routes, rank: world.rank, stream)
                try combineGraph.launch(on: stream)
                try await checkCombined(
                    combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: stream)
                if replay % 4 == 3 {
                    try await checkRound(
                        routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                        on: stream, options: RoundOptions(input: .registered))
                }
            }
            try await op.close()
        }
    }

    /// The oracle's experts, from nothing but what was received.
    private static func runExperts(
        on received: CapturedTensors, into output: DeviceTensor, _ routes: Routes, rank: Int,
        _ stream: DeviceStream
    ) async throws {
        let oracle = Oracle(routes.workload, rounding: BFloat16.rounding)
        let counts: [Int32] = try await received.receivedCount.elements(on: stream)
        let count = Int(counts[0])
        let tokens: [BFloat16] = try await received.tokens.prefix(count).elements(on: stream)
        let indices: [Int32] = try await received.indices.prefix(count).elements(on: stream)
        let weights: [Float] = try await #require(received.weights).prefix(count)
            .elements(on: stream)
        var rows: [BFloat16] = []
        for row in 0..<count {
            let factor = oracle.rankFactor(
                rank, experts: Array(indices[row * topK..<(row + 1) * topK]),
                weights: Array(weights[row * topK..<(row + 1) * topK]))
            rows += BFloat16.rounded(
                tokens[row * hidden..<(row + 1) * hidden].map { $0.float * factor })
        }
        try output.prefix(count).copy(from: rows, on: stream)
    }

    /// The graph keeps what it replays on: tensors, and the operator's own buffers.
    @Test(.timeLimit(.minutes(1)))
    func aGraphKeepsTheMemoryThatItUses() async throws {
        _ = try await withLocalWorld(2) { world in
            let stream = try DeviceStream(on: world.device)
            let routes = Self.routes(ranks: 2, replay: 1)
            var combined: CombineOutput?
            let graph: DeviceGraph
            do {
                let op = try await Self.makeOp(in: world, input: .external)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                try await stream.completion()
                graph = try stream.capture { () throws(MoriError) in
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                        on: stream)
                    let tokens = received.tokens
                    let weights = received.weights
                    combined = try op.combine(
                        tokens, of: received, weights: weights, on: stream)
                }
            }
            for replay in 0..<20 {
                try graph.launch(on: stream)
                try await Self.checkCopies(
                    #require(combined), routes, rank: world.rank, replay: replay, on: stream)
            }
            try await world.barrier()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aCaptureThatThrowsLeavesTheOperatorUsable() async throws {
        _ = try await withLocalWorld(2) { world in
            let op = try await Self.makeOp(in: world, input: .external)
            let stream = try DeviceStream(on: world.device)
            let other = try DeviceStream(on: world.device)
            let routes = Self.routes(ranks: 2, replay: 4)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
            for _ in 0..<3 {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: other)
                let error = try #require(throws: MoriError.self) {
                    _ = try stream.capture { () throws(MoriError) in
                        let received = try op.dispatch(
                            inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                            on: stream)
                        // Refused: indices are no experts' output.
                        let indices = received.indices
                        _ = try op.combine(indices, of: received, on: stream)
                    }
                }
                #expect(error.code == .invalidArgument)
                // The device never saw that dispatch; the host still counts it as in flight.
                try op.discard(op.reclaim())
                #expect(try !stream.isCapturing())
            }
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            try await op.close()
        }
    }
}

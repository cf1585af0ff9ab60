import MoriEP
import MoriOracle
import MoriTestSupport

/// Two ranks with one operator that lives as long as the soak, in as many pairs of dispatch and combine as
/// there is time for: what a million rounds wrap around or use up, worlds that come and go do not show.
///
/// The first pair of each shape is compared with the oracle, and a thousand more with that one, bit
/// by bit: rows come in a fixed order, so that the expert's output of the first serves all.
struct SteadyRounds: Sendable {
    static let ranks = 2
    static let pairsOfAShape = 1000
    static let most = 4
    static let batch = 50

    let seed: UInt64

    private static var config: EPDispatchCombineConfig {
        var config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 32, maxInputTokensPerRank: most, expertsPerRank: 4,
            expertsPerToken: 2)
        config.kernelType = .intraNode
        config.devicesPerNode = ranks
        config.combineInput = .external
        config.receiveOrder = .source
        return config
    }

    /// Runs until the time is over.
    ///
    /// - Returns: How many pairs each rank did.
    /// - Throws: `Mismatch` for a pair that differs, or where memory grew.
    func run(until end: ContinuousClock.Instant) async throws -> Int {
        let config = Self.config
        let worlds = try await SymmetricMemory.local(
            worldSize: Self.ranks, device: Device(.host), roundTimeout: Patience.healthy)
        let members = try await onEveryRank(of: worlds) { world in
            (try await EPDispatchCombineOp(config, in: world), try DeviceStream(on: world.device))
        }.map { try $0.get() }
        var dice = Dice(seed: seed)
        var pairs = 0
        // Until here what is kept for good has been made.
        let settled = 10 * Self.pairsOfAShape
        var resident: Int?
        while ContinuousClock.now < end {
            let before = pairs
            if before >= settled, resident == nil { resident = try Soak.residentByteCount() }
            let routes = Routes(
                Workload(
                    worldSize: Self.ranks,
                    tokens: (0..<Self.ranks).map { _ in dice.number(0...Self.most) },
                    hidden: config.hiddenDim, topK: config.expertsPerToken,
                    expertsPerRank: config.expertsPerRank, seed: seed &+ UInt64(pairs)))
            let results = await onEveryRank(of: worlds) { world in
                let (op, stream) = members[world.rank]
                do {
                    try await Self.run(routes, with: op, on: stream)
                } catch let error as Mismatch {
                    throw Mismatch("after \(before) pairs of seed \(seed): \(error)")
                }
            }
            for result in results { try result.get() }
            pairs += Self.pairsOfAShape + 1
        }
        if let resident {
            let growth = try Soak.residentByteCount() - resident
            // A few MiB come and go with the allocator's arenas.
            guard growth < 16 << 20 else {
                throw Mismatch("resident bytes grew by \(growth) in \(pairs) pairs")
            }
        }
        let closed = await onEveryRank(of: worlds) { world in
            try await members[world.rank].0.close()
            try await world.close()
        }
        for result in closed { try result.get() }
        return pairs
    }

    /// All pairs of one shape, on one rank.
    private static func run(
        _ routes: Routes, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws {
        let options = RoundOptions(input: .external)
        let inputs = try RoundInputs<BFloat16>(
            routes, rank: op.world.rank, on: stream, for: op.config)
        let first = try op.dispatch(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
        let rows = try await checkReceived(
            first, routes, of: BFloat16.self, options: options, with: op, on: stream)
        let count = rows.positions.count
        let received: [BFloat16] = try await first.tokens.prefix(count).elements(on: stream)
        let output = try ExpertOutput<BFloat16>(
            rows, routes, of: BFloat16.self, options: options, with: op, on: stream)
        try poison(first, on: stream)
        let sums = try op.combine(
            output.tokens, of: first, weights: output.weights, input: .external, on: stream)
        try await checkCombined(
            sums, routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
        let combined: [BFloat16] = try await sums.tokens.elements(on: stream)

        // As many at once as a stream takes well: waiting for each one would be most of its time.
        func room(_ rows: Int) throws -> DeviceTensor {
            try DeviceTensor(
                shape: [rows, routes.workload.hidden], elementType: .bfloat16, on: op.world.device)
        }
        let own = routes.workload.tokens[op.world.rank]
        let copies = try (0..<batch).map { _ in (rows: try room(count), sums: try room(own)) }
        for turn in 0..<pairsOfAShape / batch {
            for copy in copies {
                let again = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
                try copy.rows.copy(from: again.tokens.prefix(count), on: stream)
                try poison(again, on: stream)
                let sums = try op.combine(
                    output.tokens, of: again, weights: output.weights, input: .external, on: stream)
                try copy.sums.copy(from: sums.tokens, on: stream)
                try sums.tokens.fill(with: 0xFF, on: stream)
            }
            for (number, copy) in copies.enumerated() {
                let pair = turn * batch + number + 1
                let rows: [BFloat16] = try await copy.rows.elements(on: stream)
                guard rows == received else { throw Mismatch("pair \(pair): other rows came") }
                let sums: [BFloat16] = try await copy.sums.elements(on: stream)
                guard sums == combined else { throw Mismatch("pair \(pair): other sums") }
                try copy.rows.fill(with: 0xFF, on: stream)
                try copy.sums.fill(with: 0xFF, on: stream)
            }
        }
    }
}

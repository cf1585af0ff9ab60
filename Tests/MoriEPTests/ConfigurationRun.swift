import MoriEP
import MoriOracle
import MoriTestSupport

/// One round of a drawn configuration: what it moves, and what must come of it.
struct ConfigurationRun: Sendable {
    let config: EPDispatchCombineConfig
    let round: ConfigurationSpace.Round
    let routes: Routes
    /// Of the tensor that dispatch is given.
    let elementType: ElementType
    let combineType: ElementType
    let options: RoundOptions
    /// Whether dispatch makes scales and narrow elements of bf16.
    let quantizes: Bool

    init(_ round: ConfigurationSpace.Round, _ config: EPDispatchCombineConfig, worldSize: Int) {
        self.round = round
        self.config = config
        let own = config.effectiveCombineElementType
        var hidden = max(config.hiddenDim * round.hiddenSixteenths / 16, 1)
        let unit = max(config.elementType.elementsPerUnit, own.elementsPerUnit)
        hidden = (hidden + unit - 1) / unit * unit
        // Another type than the configuration's only where its rows are whole bytes that fit.
        func fitting(_ type: ElementType?, _ bytes: Int) -> ElementType? {
            guard let type, hidden % type.elementsPerUnit == 0 else { return nil }
            return type.byteCount(of: hidden) <= bytes ? type : nil
        }
        let usual = config.quantizesDispatch ? ElementType.bfloat16 : config.elementType
        elementType = fitting(round.elementType, config.dispatchRowByteCount) ?? usual
        quantizes = config.quantizesDispatch && elementType == .bfloat16
        let quantized: ElementType? = config.quantization == .none ? nil : .bfloat16
        combineType = quantized ?? fitting(round.combineType, config.combineRowByteCount) ?? own
        let hasScales = round.scales && !quantizes
        var options = RoundOptions(input: round.input, launch: round.launch)
        options.dispatchWeights = round.weights.dispatch
        options.combineWeights = round.weights.combine
        self.options = options
        routes = Routes(
            Workload(
                worldSize: worldSize, tokens: round.tokens, hidden: hidden,
                topK: config.expertsPerToken, expertsPerRank: config.expertsPerRank,
                expertCount: config.totalExpertCount(worldSize: worldSize),
                expertRanks: config.expertRanks, scaleDim: hasScales ? config.scaleDim : 0,
                pattern: round.pattern, seed: round.seed))
    }

    private func capacity(worldSize: Int) -> Int { config.maxReceivedTokens(worldSize: worldSize) }

    /// Whether more rows come to some rank than there is room for, and that is to fail.
    var shallFail: Bool {
        let ranks = routes.workload.worldSize
        return config.overflow == .fail
            && (0..<ranks).contains {
                routes.sources(receivedBy: $0).count > capacity(worldSize: ranks)
            }
    }

    /// Sends this rank's tokens.
    func dispatch(
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws -> DispatchOutput {
        guard let element = elementType.tokenElement else { throw Mismatch("\(elementType)") }
        return try dispatch(element, with: op, on: stream)
    }

    private func dispatch<Element: TokenElement>(
        _: Element.Type, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) throws -> DispatchOutput {
        let inputs = try RoundInputs<Element>(routes, rank: op.world.rank, on: stream, for: config)
        return try op.dispatch(
            inputs.tokens, weights: options.dispatchWeights ? inputs.weights : nil,
            scales: inputs.scales, indices: inputs.indices, launch: options.launch, on: stream)
    }

    /// Compares what came, then what comes back.
    func finish(
        _ received: consuming DispatchOutput, slot: Int, _ record: ReceivedRecord.Round,
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws {
        guard let element = elementType.tokenElement, let combined = combineType.tokenElement
        else { throw Mismatch("\(elementType) to \(combineType)") }
        let rank = op.world.rank
        let expected = routes.sources(receivedBy: rank).count
        let room = op.maxReceivedTokens
        let dropped = try await op.droppedTokenCount(of: received, on: stream)
        guard dropped == max(0, expected - room) else {
            throw Mismatch("rank \(rank) dropped \(dropped) of \(expected) rows, room \(room)")
        }
        let rows = try await checkRows(received, element, expected, with: op, on: stream)
        try poison(received, on: stream)
        record.add(rows.positions, at: rank)
        try await op.world.barrier()
        guard !round.isDiscarded else { return try op.discard(received) }
        let arrived = record.receivers(of: rank, count: routes.workload.tokens[rank])
        try await combine(
            received, rows, arrived, element, combined, slot: slot, with: op, on: stream)
    }

    private func checkRows<Element: TokenElement>(
        _ received: borrowing DispatchOutput, _: Element.Type, _ expected: Int,
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws -> ReceivedRows {
        let rows: ReceivedRows
        let isComplete = expected <= op.maxReceivedTokens
        if quantizes {
            rows = try await checkQuantized(
                received, routes, options: options, with: op, on: stream, isComplete: isComplete)
        } else {
            rows = try await checkReceived(
                received, routes, of: Element.self, options: options, with: op, on: stream,
                isComplete: isComplete)
        }
        guard rows.positions.count == min(expected, op.maxReceivedTokens) else {
            throw Mismatch("rank \(op.world.rank) received \(rows.positions.count) rows")
        }
        if config.receiveOrder == .source {
            let found = rows.positions.map { [$0.rank, $0.token] }
            guard found == Array(routes.sources(receivedBy: op.world.rank).prefix(found.count))
            else { throw Mismatch("rank \(op.world.rank): not in order of sources") }
        }
        return rows
    }

    private func combine<Element: TokenElement, Combined: TokenElement>(
        _ received: consuming DispatchOutput, _ rows: ReceivedRows, _ arrived: [[Int]],
        _: Element.Type, _: Combined.Type, slot: Int, with op: EPDispatchCombineOp,
        on stream: DeviceStream
    ) async throws {
        let output = try ExpertOutput<Combined>(
            rows, routes, of: Element.self, options: options, with: op, on: stream, slot: slot)
        let sums = try op.combine(
            output.tokens, of: received, weights: output.weights, input: options.input,
            launch: options.launch, on: stream)
        guard let wire = config.quantizedWire else {
            return try await checkCombined(
                sums, routes, of: Element.self, combining: Combined.self, with: op, on: stream,
                arrived: arrived)
        }
        let found: [Combined] = try await sums.tokens.elements(on: stream)
        let weights: [Float]? = try await sums.weights?.elements(on: stream)
        let rank = op.world.rank
        let (hidden, topK) = (routes.workload.hidden, routes.workload.topK)
        let oracle = Oracle(
            routes.workload, rounding: Element.rounding, combineRounding: Combined.rounding,
            sums: config.sumOrder(worldSize: op.world.worldSize))
        for (token, ranks) in arrived.enumerated() {
            let row = Combined.rounded(
                oracle.combinedRow(rank: rank, token: token, through: wire, from: ranks))
            guard Array(found[token * hidden..<(token + 1) * hidden]) == row else {
                throw Mismatch("quantized sum of token \(token) of rank \(rank)")
            }
            guard let weights else { continue }
            let sum = oracle.combinedWeights(rank: rank, token: token, from: ranks)
            guard Array(weights[token * topK..<(token + 1) * topK]) == sum else {
                throw Mismatch("weights of token \(token) of rank \(rank)")
            }
        }
    }

    /// A round that has to fail does so on every rank, and names one that had no room; at a rank that
    /// needed nothing of that one, at the next round.
    func expectOverflow(with op: EPDispatchCombineOp, on stream: DeviceStream) async throws {
        let ranks = routes.workload.worldSize
        let room = capacity(worldSize: ranks)
        let full = (0..<ranks).filter { routes.sources(receivedBy: $0).count > room }
        let isFull = full.contains(op.world.rank)
        do {
            for _ in 0..<(isFull ? 1 : 2) {
                let received = try await dispatch(with: op, on: stream)
                let output = try DeviceTensor(
                    shape: [room, routes.workload.hidden], elementType: combineType,
                    on: op.world.device)
                _ = try op.combine(output, of: received, input: .external, on: stream)
                try await stream.completion()
            }
        } catch let error as MoriError {
            let codes: [MoriError.Code] = isFull ? [.capacityExceeded, .aborted] : [.aborted]
            guard codes.contains(error.code), error.ranks.allSatisfy(full.contains),
                !error.ranks.isEmpty
            else { throw Mismatch("ranks \(full) are full, and the error is \(error)") }
            return
        }
        throw Mismatch("ranks \(full) have no room, and nothing failed at \(op.world.rank)")
    }
}

extension EPDispatchCombineConfig {
    /// How combined rows travel; nil: as they are.
    var quantizedWire: QuantizedWire? {
        switch quantization {
        case .none: nil
        case .fp8DirectCast: QuantizedWire(.e4m3, block: nil)
        case .fp8Blockwise: QuantizedWire(.e4m3, block: quantizationBlock)
        case .fp4Blockwise: QuantizedWire(.e2m1, block: quantizationBlock)
        }
    }
}

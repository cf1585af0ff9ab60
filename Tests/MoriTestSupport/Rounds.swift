public import MoriEP
public import MoriOracle

/// One way to run a round.
public struct RoundOptions: Sendable {
    /// Where combine finds its input.
    public var input: CombineInput
    /// Whether dispatch carries weights.
    public var dispatchWeights: Bool
    /// Whether combine sums weights.
    public var combineWeights: Bool
    /// Blocks and warps of every call; nil: the operator's.
    public var launch: LaunchConfiguration?
    /// The deadline of every call; nil: the operator's.
    public var timeout: Duration?

    /// Creates options.
    public init(
        input: CombineInput = .external, weights: Bool = true, launch: LaunchConfiguration? = nil,
        timeout: Duration? = nil
    ) {
        self.input = input
        self.dispatchWeights = weights
        self.combineWeights = weights
        self.launch = launch
        self.timeout = timeout
    }
}

/// A difference between what a round gave and what the oracle says.
public struct Mismatch: Error, CustomStringConvertible {
    /// Where and what.
    public let description: String

    /// Creates one.
    public init(_ description: String) { self.description = description }
}

/// Runs one whole round of a workload on this rank and compares everything with the oracle.
///
/// - Throws: `Mismatch` with the place of the first difference; what the operator throws.
public func checkRound<Element: TokenElement>(
    _ workload: Workload, of type: Element.Type, with op: EPDispatchCombineOp,
    on stream: DeviceStream, options: RoundOptions = RoundOptions()
) async throws {
    try await checkRound(
        Routes(workload), of: type, combining: type, with: op, on: stream, options: options)
}

/// Runs one whole round on this rank and compares everything with the oracle; dispatch and combine
/// may have different types and different streams.
///
/// What was received is poisoned once it was compared, so that no later round can be right by what
/// this one left behind.
///
/// - Parameter isDiscarded: Whether the round ends without being combined.
/// - Throws: `Mismatch` with the place of the first difference; what the operator throws.
public func checkRound<Element: TokenElement, Combined: TokenElement>(
    _ routes: Routes, of type: Element.Type, combining combinedType: Combined.Type,
    with op: EPDispatchCombineOp, on stream: DeviceStream,
    combineOn combineStream: DeviceStream? = nil,
    options: RoundOptions = RoundOptions(), isDiscarded: Bool = false
) async throws {
    let inputs = try RoundInputs<Element>(routes, rank: op.world.rank, on: stream, for: op.config)
    let received = try op.dispatch(
        inputs.tokens, weights: options.dispatchWeights ? inputs.weights : nil,
        scales: inputs.scales, indices: inputs.indices, launch: options.launch,
        timeout: options.timeout, on: stream)
    let rows = try await checkReceived(
        received, routes, of: type, options: options, with: op, on: stream)
    try poison(received, on: stream)
    guard !isDiscarded else { return try op.discard(received) }
    try await checkCombine(
        of: received, rows, routes, of: type, combining: combinedType, with: op,
        on: combineStream ?? stream, options: options)
}

/// Makes the experts' output of what was received, combines it and compares with the oracle.
public func checkCombine<Element: TokenElement, Combined: TokenElement>(
    of received: consuming DispatchOutput, _ rows: ReceivedRows, _ routes: Routes,
    of type: Element.Type, combining combinedType: Combined.Type, with op: EPDispatchCombineOp,
    on stream: DeviceStream, options: RoundOptions = RoundOptions(), slot: Int = 0
) async throws {
    let output = try ExpertOutput<Combined>(
        rows, routes, of: type, options: options, with: op, on: stream, slot: slot)
    let combined = try op.combine(
        output.tokens, of: received, weights: output.weights, input: options.input,
        launch: options.launch, timeout: options.timeout, on: stream)
    try await checkCombined(
        combined, routes, of: type, combining: combinedType, with: op, on: stream)
}

/// Overwrites every row that a rank can receive, but for the weights, which combine may be given.
///
/// The rows are the caller's until the round is combined or discarded.
public func poison(_ received: borrowing DispatchOutput, on stream: DeviceStream) throws {
    for tensor in [received.tokens, received.scales, received.indices] {
        try tensor?.fill(with: 0xFF, on: stream)
    }
}

extension EPDispatchCombineConfig {
    /// How the ranks of a world of this size are spread over nodes.
    public func nodes(worldSize: Int) -> Nodes {
        Nodes(worldSize: worldSize, devicesPerNode: devicesPerNode)
    }

    /// In which order these kernels add up what came back.
    public func sumOrder(worldSize: Int) -> SumOrder {
        switch kernelType {
        case .intraNode, .interNode, .asyncLL: .ranks
        case .interNodeV1, .interNodeV1LL: .nodes(nodes(worldSize: worldSize))
        }
    }
}

/// A rank's tensors of a workload.
public struct RoundInputs<Element: TokenElement>: Sendable {
    /// [n, hidden].
    public let tokens: DeviceTensor
    /// f32 [n, top-k].
    public let weights: DeviceTensor
    /// f32 [n, scaleDim], or u8 [n, scaleDim * scaleByteSize]; nil where the workload has none.
    public let scales: DeviceTensor?
    /// i32 [n, top-k].
    public let indices: DeviceTensor

    /// Computes a rank's inputs and enqueues their copies to the device.
    public init(
        _ routes: Routes, rank: Int, on stream: DeviceStream,
        for config: EPDispatchCombineConfig? = nil
    ) throws {
        let workload = routes.workload
        let count = workload.tokens[rank]
        var elements: [Element] = []
        elements.reserveCapacity(count * workload.hidden)
        for token in 0..<count {
            elements += Element.rounded(workload.tokenRow(rank: rank, token: token))
        }
        tokens = try DeviceTensor(elements, shape: [count, workload.hidden], on: stream)
        weights = try DeviceTensor(
            (0..<count).flatMap { workload.weightRow(rank: rank, token: $0) },
            shape: [count, workload.topK], on: stream)
        let scaleRows = (0..<count).flatMap { workload.scaleRow(rank: rank, token: $0) }
        let scaleSize = config?.scaleByteSize ?? 4
        if workload.scaleDim == 0 {
            scales = nil
        } else if scaleSize == 4 {
            scales = try DeviceTensor(scaleRows, shape: [count, workload.scaleDim], on: stream)
        } else {
            scales = try DeviceTensor(
                scaleRows.flatMap { scaleBytes($0, size: scaleSize) },
                shape: [count, workload.scaleDim * scaleSize], on: stream)
        }
        indices = try DeviceTensor(
            routes.experts[rank], shape: [count, workload.topK], on: stream)
    }
}

/// A scale in so many bytes.
private func scaleBytes(_ scale: Float, size: Int) -> [UInt8] {
    if size == 1 { return [UInt8(scale * 256)] }
    let bytes = scale.littleEndianBytes
    return (0..<size).map { bytes[$0 % 4] &+ UInt8($0 / 4) }
}

/// What a rank received, after it was compared with the oracle.
public struct ReceivedRows: Sendable {
    /// Where each row came from.
    public let positions: [TokenPosition]
    /// The weights that dispatch carried, one row each; nil when it carried none.
    public let weights: DeviceTensor?
}

/// Compares what a rank received with the oracle.
///
/// - Parameter isComplete: false: rows may be missing, because there was no room for them.
public func checkReceived<Element: TokenElement>(
    _ received: borrowing DispatchOutput, _ routes: Routes, of type: Element.Type,
    options: RoundOptions, with op: EPDispatchCombineOp, on stream: DeviceStream,
    isComplete: Bool = true
) async throws -> ReceivedRows {
    let rank = op.world.rank
    let workload = routes.workload
    let sources = routes.sources(receivedBy: rank)
    let positions = try await op.sourceTokenPositions(of: received, on: stream)
    let found = positions.map { [$0.rank, $0.token] }.sorted { $0.lexicographicallyPrecedes($1) }
    guard isComplete ? found == sources : Set(found).isSubset(of: Set(sources)) else {
        throw Mismatch(
            "rank \(rank) received \(found.count) rows, expected \(sources.count), or others")
    }
    guard Set(found).count == found.count else {
        throw Mismatch("rank \(rank) received a row twice")
    }
    let count = positions.count
    let rows: [Element] = try await received.tokens.prefix(count).elements(on: stream)
    let indices: [Int32] = try await received.indices.prefix(count).elements(on: stream)
    let weights: [Float]? = try await received.weights?.prefix(count).elements(on: stream)
    guard (weights != nil) == options.dispatchWeights else {
        throw Mismatch("rank \(rank): weights came without being sent, or did not come")
    }
    let scales = try await scaleBytes(received.scales, count: count, on: stream)
    for (row, source) in positions.enumerated() {
        let place = "row \(row) of rank \(rank) from rank \(source.rank), token \(source.token)"
        let sent = Element.rounded(workload.tokenRow(rank: source.rank, token: source.token))
        if let column = firstDifference(rows, at: row * sent.count, sent) {
            throw Mismatch("\(place): the token differs in column \(column)")
        }
        let experts = routes.experts(rank: source.rank, token: source.token)
        guard haveEqualBytes(indices, at: row * workload.topK, experts) else {
            throw Mismatch("\(place): the expert ids differ")
        }
        if let weights {
            let sentWeights = workload.weightRow(rank: source.rank, token: source.token)
            guard haveEqualBytes(weights, at: row * workload.topK, sentWeights) else {
                throw Mismatch("\(place): the weights differ")
            }
        }
        if let scales {
            let sentScales = workload.scaleRow(rank: source.rank, token: source.token)
            let size = op.config.scaleByteSize
            let bytes = sentScales.flatMap { scaleBytes($0, size: size) }
            guard haveEqualBytes(scales, at: row * bytes.count, bytes) else {
                throw Mismatch("\(place): the scales differ")
            }
        }
    }
    return ReceivedRows(positions: positions, weights: try received.weights?.prefix(count))
}

private func scaleBytes(
    _ scales: DeviceTensor?, count: Int, on stream: DeviceStream
) async throws -> [UInt8]? {
    guard let scales = try scales?.prefix(count) else { return nil }
    if scales.elementType == .uint8 { return try await scales.elements(on: stream) }
    return try await scales.elements(as: Float.self, on: stream).flatMap(\.littleEndianBytes)
}

extension Float {
    fileprivate var littleEndianBytes: [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: bitPattern >> (8 * UInt32($0))) }
    }
}

/// What a rank's experts make of the rows it received, where combine reads it.
public struct ExpertOutput<Combined: TokenElement>: Sendable {
    /// [rows, hidden].
    public let tokens: DeviceTensor
    /// f32 [rows, top-k]; nil: none.
    public let weights: DeviceTensor?

    /// Computes the output and enqueues its copy to the device.
    public init<Element: TokenElement>(
        _ rows: ReceivedRows, _ routes: Routes, of type: Element.Type, options: RoundOptions,
        with op: EPDispatchCombineOp, on stream: DeviceStream, slot: Int = 0
    ) throws {
        let workload = routes.workload
        let oracle = Oracle(
            workload, rounding: Element.rounding, combineRounding: Combined.rounding)
        var output: [Combined] = []
        output.reserveCapacity(rows.positions.count * workload.hidden)
        for source in rows.positions {
            let factor = oracle.rankFactor(
                op.world.rank, experts: routes.experts(rank: source.rank, token: source.token),
                weights: workload.weightRow(rank: source.rank, token: source.token))
            var row = workload.tokenRow(rank: source.rank, token: source.token)
            var column = 0
            while column < row.count {
                row[column] = oracle.round(row[column]) * factor
                column += 1
            }
            output += Combined.rounded(row)
        }
        let shape = [rows.positions.count, workload.hidden]
        if options.input == .registered {
            tokens = try op.registeredCombineInput(
                of: Combined.elementType, hiddenDim: workload.hidden, slot: slot)
            try tokens.prefix(shape[0]).copy(from: output, on: stream)
        } else {
            tokens = try DeviceTensor(output, shape: shape, on: stream)
        }
        if !options.combineWeights {
            weights = nil
        } else if let carried = rows.weights {
            weights = carried
        } else {
            weights = try DeviceTensor(
                rows.positions.flatMap { workload.weightRow(rank: $0.rank, token: $0.token) },
                shape: [shape[0], workload.topK], on: stream)
        }
    }
}

/// Compares a rank's sums with the oracle.
///
/// - Parameter arrived: The ranks that each own token really went to; nil: all that it should.
public func checkCombined<Element: TokenElement, Combined: TokenElement>(
    _ combined: CombineOutput, _ routes: Routes, of type: Element.Type,
    combining combinedType: Combined.Type, with op: EPDispatchCombineOp, on stream: DeviceStream,
    arrived: [[Int]]? = nil
) async throws {
    let rows: [Combined] = try await combined.tokens.elements(on: stream)
    let weights: [Float]? = try await combined.weights?.elements(on: stream)
    let oracle = Oracle(
        routes.workload, rounding: Element.rounding, combineRounding: Combined.rounding,
        sums: op.config.sumOrder(worldSize: op.world.worldSize))
    try compareCombined(
        rows, weights: weights, of: op.world.rank, with: oracle,
        destinations: arrived ?? routes.destinations[op.world.rank])
}

/// Compares with the oracle what came back; not async, because Swift 6.3 crashes on this loop in an
/// async function when it optimizes.
private func compareCombined<Combined: TokenElement>(
    _ rows: [Combined], weights: [Float]?, of rank: Int, with oracle: Oracle,
    destinations byToken: [[Int]]
) throws {
    let workload = oracle.workload
    for token in 0..<workload.tokens[rank] {
        let destinations = byToken[token]
        let expected = Combined.rounded(
            oracle.combinedRow(rank: rank, token: token, from: destinations))
        if let column = firstDifference(rows, at: token * expected.count, expected) {
            throw Mismatch(
                "combined row \(token) of rank \(rank), column \(column): found"
                    + " \(rows[token * expected.count + column].float), expected"
                    + " \(expected[column].float)")
        }
        guard let weights else { continue }
        let sums = oracle.combinedWeights(rank: rank, token: token, from: destinations)
        guard haveEqualBytes(weights, at: token * workload.topK, sums) else {
            throw Mismatch("combined weights of token \(token) of rank \(rank)")
        }
    }
}

public import MoriEP
import MoriOracle

/// Compares with the oracle what a rank received of bf16 tokens that dispatch quantized.
///
/// - Parameter isComplete: false: rows may be missing, because there was no room for them.
public func checkQuantized(
    _ received: borrowing DispatchOutput, _ routes: Routes, options: RoundOptions,
    with op: EPDispatchCombineOp, on stream: DeviceStream, isComplete: Bool
) async throws -> ReceivedRows {
    if op.config.elementType == .float8E4M3 {
        return try await check(
            received, Float8E4M3.self, .e4m3, routes, options, with: op, on: stream, isComplete)
    }
    return try await check(
        received, Float8E4M3FNUZ.self, .e4m3fnuz, routes, options, with: op, on: stream, isComplete)
}

private func check<Element: Float8>(
    _ received: borrowing DispatchOutput, _: Element.Type, _ table: NarrowTable, _ routes: Routes,
    _ options: RoundOptions, with op: EPDispatchCombineOp, on stream: DeviceStream,
    _ isComplete: Bool
) async throws -> ReceivedRows {
    let rank = op.world.rank
    let workload = routes.workload
    let positions = try await op.sourceTokenPositions(of: received, on: stream)
    let found = positions.map { [$0.rank, $0.token] }.sorted { $0.lexicographicallyPrecedes($1) }
    let sources = routes.sources(receivedBy: rank)
    guard isComplete ? found == sources : Set(found).isSubset(of: Set(sources)),
        Set(found).count == found.count
    else { throw Mismatch("rank \(rank) received \(found.count) rows, or others") }
    guard let scaleRows = received.scales else { throw Mismatch("no scales came") }
    let rows: [Element] = try await received.tokens.elements(on: stream)
    let scales: [Float] = try await scaleRows.elements(on: stream)
    let weights: [Float]? = try await received.weights?.elements(on: stream)
    let wire = QuantizedWire(table, block: op.config.quantizationBlock)
    let (hidden, dim, topK) = (workload.hidden, op.config.scaleDim, workload.topK)
    for (row, position) in positions.enumerated() {
        let sent = wire.sent(
            workload.tokenRow(rank: position.rank, token: position.token).map(BFloat16.rounding))
        let sentWeights = workload.weightRow(rank: position.rank, token: position.token)
        guard rows[row * hidden..<(row + 1) * hidden].map(\.bitPattern) == sent.bits,
            Array(scales[row * dim..<row * dim + sent.scales.count]) == sent.scales,
            weights.map({ Array($0[row * topK..<(row + 1) * topK]) == sentWeights }) ?? true
        else { throw Mismatch("quantized row \(row) of rank \(rank) differs") }
    }
    guard (weights != nil) == options.dispatchWeights else {
        throw Mismatch("rank \(rank): weights came without being sent, or did not come")
    }
    return ReceivedRows(
        positions: positions, weights: try received.weights?.prefix(positions.count))
}

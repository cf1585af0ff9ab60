import MoriDevice
import MoriEP
import MoriOracle

/// Compares a round with the oracle, bit for bit, on one rank.
///
/// The round before was one of NaNs, with the same routing: it left NaNs in every place that this
/// round writes, so that nothing can be right by having been there before.
struct Verification<Element: BenchElement, Combined: BenchElement>: Sendable {
    let routes: Routes
    let rank: Int
    /// How dispatch, and combine, quantize; nil: they do not.
    let dispatchWire: BenchWire?
    let combineWire: BenchWire?

    private var workload: Workload { routes.workload }

    /// Compares every received row, and writes what the experts make of it.
    ///
    /// - Returns: The first difference in words; nil when there is none.
    func checkReceived(
        _ received: borrowing DispatchOutput, writing output: DeviceTensor,
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws(MoriError) -> String? {
        let positions = try await op.sourceTokenPositions(of: received, on: stream)
        if let problem = checkPositions(positions) { return problem }
        let indices: [Int32] =
            try await received.indices.prefix(positions.count).elements(on: stream)
        let weights: [Float] =
            try await received.weights?.prefix(positions.count).elements(on: stream) ?? []
        let scales: [Float] =
            dispatchWire == nil
            ? [] : try await received.scales?.prefix(positions.count).elements(on: stream) ?? []
        let rowBytes = Element.elementType.byteCount(of: workload.hidden)
        for piece in DeviceTensor.pieces(positions.count, rowByteCount: rowBytes) {
            let found: [Element] = try await received.tokens.rows(piece).elements(on: stream)
            var results: [Combined] = []
            for row in piece {
                let source = positions[row]
                let place =
                    "dispatch to rank \(rank): row \(row), token \(source.token) of rank"
                    + " \(source.rank)"
                let experts = workload.expertRow(rank: source.rank, token: source.token)
                let expertWeights = workload.weightRow(rank: source.rank, token: source.token)
                if let column = RowMath.firstDifference(indices, row: row, experts) {
                    return "\(place), expert \(column): found"
                        + " \(indices[row * experts.count + column]), expected \(experts[column])"
                }
                if let column = RowMath.firstDifference(weights, row: row, expertWeights) {
                    return "\(place), weight \(column): "
                        + Self.words(weights[row * experts.count + column], expertWeights[column])
                }
                let sent = sentRow(rank: source.rank, token: source.token)
                let local = row - piece.lowerBound
                if let column = RowMath.firstDifference(found, row: local, sent.elements) {
                    return "\(place), column \(column): "
                        + Self.words(
                            found[local * sent.elements.count + column], sent.elements[column])
                }
                if let block = RowMath.firstDifference(scales, row: row, sent.scales) {
                    return "\(place), scale \(block): "
                        + Self.words(scales[row * sent.scales.count + block], sent.scales[block])
                }
                results += RowMath.expertOutput(
                    sent.values,
                    factor: routes.oracle.rankFactor(
                        rank, experts: experts, weights: expertWeights))
            }
            try output.rows(piece).copy(from: results, on: stream)
        }
        try await stream.completion()
        return nil
    }

    /// A token as it is received.
    private struct SentRow {
        var elements: [Element]
        /// Of its blocks; none where dispatch does not quantize.
        var scales: [Float] = []
        /// What the experts read.
        var values: [Float]
    }

    private func sentRow(rank: Int, token: Int) -> SentRow {
        let row = workload.tokenRow(rank: rank, token: token)
        guard let dispatchWire else {
            let elements: [Element] = RowMath.rounded(row)
            return SentRow(elements: elements, values: Element.widened(elements))
        }
        let (elements, scales) = dispatchWire.sent(
            BFloat16.widened(RowMath.rounded(row)))
        return SentRow(
            elements: RowMath.rounded(elements), scales: scales,
            values: dispatchWire.values(elements, scales: scales))
    }

    /// Every token that goes here came, once, and no other.
    private func checkPositions(_ positions: [TokenPosition]) -> String? {
        let expected = routes.receivedCounts[rank]
        guard positions.count == expected else {
            return "dispatch to rank \(rank): \(positions.count) rows, expected \(expected)"
        }
        var came = Set<Int32>()
        for (row, position) in positions.enumerated() {
            guard (0..<workload.worldSize).contains(position.rank),
                (0..<workload.tokens[position.rank]).contains(position.token),
                routes.destinations(rank: position.rank, token: position.token)
                    .contains(Int32(rank)), came.insert(position.rawValue).inserted
            else {
                return "dispatch to rank \(rank): row \(row) says that it is token"
                    + " \(position.token) of rank \(position.rank), which does not go there or"
                    + " came already"
            }
        }
        return nil
    }

    /// Compares every sum that came back.
    ///
    /// - Returns: The first difference in words; nil when there is none.
    func checkCombined(
        _ combined: CombineOutput, on stream: DeviceStream
    ) async throws(MoriError) -> String? {
        let count = workload.tokens[rank]
        let weights: [Float] = try await combined.weights?.elements(on: stream) ?? []
        let rowBytes = Combined.elementType.byteCount(of: workload.hidden)
        for piece in DeviceTensor.pieces(count, rowByteCount: rowBytes) {
            let found: [Combined] = try await combined.tokens.rows(piece).elements(on: stream)
            for token in piece {
                let place = "combine of rank \(rank): row \(token)"
                let expected = combinedRow(token)
                let local = token - piece.lowerBound
                if let column = RowMath.firstDifference(found, row: local, expected) {
                    return "\(place), column \(column): "
                        + Self.words(found[local * expected.count + column], expected[column])
                }
                let sums = routes.oracle.combinedWeights(rank: rank, token: token)
                if let column = RowMath.firstDifference(weights, row: token, sums) {
                    return "\(place), weight \(column): "
                        + Self.words(weights[token * sums.count + column], sums[column])
                }
            }
        }
        return nil
    }

    /// The sum over the ranks that the token went to, in the kernels' published order.
    private func combinedRow(_ token: Int) -> [Combined] {
        let experts = workload.expertRow(rank: rank, token: token)
        let weights = workload.weightRow(rank: rank, token: token)
        let sent = sentRow(rank: rank, token: token).values
        let destinations = routes.destinations(rank: rank, token: token).map(Int.init)
        let order = routes.oracle.sums
        var total = [Float](repeating: 0, count: workload.hidden)
        for part in order.parts(of: destinations) {
            var sums = [Float](repeating: 0, count: workload.hidden)
            for destination in destinations[part] {
                let factor = routes.oracle.rankFactor(
                    destination, experts: experts, weights: weights)
                let output: [Combined] = RowMath.expertOutput(sent, factor: factor)
                if let combineWire, !order.roundsParts {
                    RowMath.add(combineWire.passed(Combined.widened(output)), to: &sums)
                } else {
                    RowMath.add(output, to: &sums)
                }
            }
            guard case .nodes(let nodes) = order else { return RowMath.rounded(sums) }
            // Between nodes the sum travels, from fp32; the own node's does not.
            let isOwn = nodes.node(of: destinations[part.lowerBound]) == nodes.node(of: rank)
            if let combineWire, !isOwn {
                RowMath.add(combineWire.passed(sums), to: &total)
            } else {
                let rounded: [Combined] = RowMath.rounded(sums)
                RowMath.add(rounded, to: &total)
            }
        }
        return RowMath.rounded(total)
    }

    private static func words<Value: BenchElement>(_ found: Value, _ expected: Value) -> String {
        "found \(found.value) (bits \(String(found.bits, radix: 16))), expected"
            + " \(expected.value) (bits \(String(expected.bits, radix: 16)))"
    }
}

extension Int32: BenchElement {
    init(nearest value: Float) { self = Int32(value) }
    var value: Float { Float(self) }
    var bits: UInt32 { UInt32(bitPattern: self) }
}

/// How combine's rows travel when they are quantized, from the definition: a block of elements has one
/// scale, its largest magnitude over the narrow type's; elements are rounded to a multiple of it. An infinity is no such number: fp8 makes it a NaN.
public struct QuantizedWire: Sendable {
    /// The narrow type.
    public let table: NarrowTable
    /// Elements that share a scale; nil: there are no scales.
    public let block: Int?

    /// Describes a wire.
    public init(_ table: NarrowTable, block: Int?) {
        self.table = table
        self.block = block
    }

    /// The bits of a row's elements, and the scales of its blocks.
    public func sent(_ row: [Float]) -> (bits: [UInt8], scales: [Float]) {
        guard let block else { return (row.map { bits($0, inverse: 1) }, []) }
        var all: [UInt8] = []
        var scales: [Float] = []
        for begin in stride(from: 0, to: row.count, by: block) {
            let part = row[begin..<min(row.count, begin + block)]
            let most = part.reduce(Float(0)) { $1.isFinite ? max($0, $1.magnitude) : $0 }
            let scale = most / table.largest
            let isNormal = scale >= Float.leastNormalMagnitude
            scales.append(isNormal ? scale : 0)
            all += part.map { bits($0, inverse: isNormal ? table.largest / most : 0) }
        }
        return (all, scales)
    }

    private func bits(_ value: Float, inverse: Float) -> UInt8 {
        if !value.isFinite, let nan = table.nan { return nan }
        return table.bits(nearest: value * inverse)
    }

    /// What is read of a row that was sent.
    public func passed(_ row: [Float]) -> [Float] {
        let (bits, scales) = sent(row)
        return bits.enumerated().map { column, bits in
            let value = table.value(bits) ?? .nan
            return block.map { value * scales[column / $0] } ?? value
        }
    }
}

extension Oracle {
    /// The combined row of a token whose rows travel quantized.
    ///
    /// Without nodes every rank's row does. With nodes each other node's sum does, from fp32; the own
    /// node's is rounded to the combined type as ever.
    ///
    /// - Parameter destinations: The ranks whose rows came, ascending; nil: all that it went to.
    public func combinedRow(
        rank: Int, token: Int, through wire: QuantizedWire, from destinations: [Int]? = nil
    ) -> [Float] {
        let experts = workload.expertRow(rank: rank, token: token)
        let weights = workload.weightRow(rank: rank, token: token)
        let ranks = destinations ?? self.destinations(rank: rank, token: token)
        let row = workload.tokenRow(rank: rank, token: token).map(round)
        let terms = ranks.map { receiver -> [Float] in
            let factor = rankFactor(receiver, experts: experts, weights: weights)
            return row.map { expertOutput($0, factor: factor) }
        }
        var total = [Float](repeating: 0, count: row.count)
        func add(_ other: [Float], to sum: inout [Float]) {
            for column in sum.indices { sum[column] += other[column] }
        }
        guard case .nodes(let nodes) = sums else {
            for term in terms { add(wire.passed(term), to: &total) }
            return total.map(combineRound)
        }
        for part in sums.parts(of: ranks) {
            var sum = [Float](repeating: 0, count: row.count)
            for place in part { add(terms[place], to: &sum) }
            let isOwn = nodes.node(of: ranks[part.lowerBound]) == nodes.node(of: rank)
            // A token that went nowhere else is finished at home.
            add(isOwn ? sum.map(combineRound) : wire.passed(sum), to: &total)
        }
        return total.map(combineRound)
    }
}

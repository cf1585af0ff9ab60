import MoriDevice
import MoriEP
import MoriOracle

/// Rows that travel in fewer bits than they have: the oracle's `QuantizedWire`, with a rounding fast
/// enough for whole benchmarks.
struct BenchWire: Sendable {
    /// Elements that share a scale; nil: there are no scales.
    let block: Int?
    private let table: NarrowTable
    private let lookup: NarrowLookup

    private init(_ table: NarrowTable, _ lookup: NarrowLookup, block: Int?) {
        self.table = table
        self.lookup = lookup
        self.block = block
    }

    /// How dispatch quantizes; nil: it does not.
    static func dispatch(_ config: EPDispatchCombineConfig) -> BenchWire? {
        guard config.quantizesDispatch else { return nil }
        return config.elementType == .float8E4M3FNUZ
            ? BenchWire(.e4m3fnuz, .e4m3fnuz, block: config.quantizationBlock)
            : BenchWire(.e4m3, .e4m3, block: config.quantizationBlock)
    }

    /// How combine quantizes; nil: it does not.
    static func combine(_ config: EPDispatchCombineConfig) -> BenchWire? {
        switch config.quantization {
        case .none: nil
        case .fp8DirectCast: BenchWire(.e4m3, .e4m3, block: nil)
        case .fp8Blockwise: BenchWire(.e4m3, .e4m3, block: config.quantizationBlock)
        case .fp4Blockwise: BenchWire(.e2m1, .e2m1, block: config.quantizationBlock)
        }
    }

    /// Bytes of a row of so many elements, with its scales.
    func byteCount(of hidden: Int) -> Int {
        let elements = table.sign == 8 ? (hidden + 1) / 2 : hidden
        return elements + scaleCount(of: hidden) * 4
    }

    /// Scales of a row of so many elements.
    func scaleCount(of hidden: Int) -> Int { block.map { (hidden + $0 - 1) / $0 } ?? 0 }

    /// The values of the narrow type that a row of finite numbers becomes, and the scale of each block.
    func sent(_ row: [Float]) -> (elements: [Float], scales: [Float]) {
        var elements: [Float] = []
        elements.reserveCapacity(row.count)
        var scales: [Float] = []
        let width = block ?? max(1, row.count)
        for begin in stride(from: 0, to: row.count, by: width) {
            let part = row[begin..<min(row.count, begin + width)]
            var inverse: Float = 1
            if block != nil {
                let most = part.reduce(Float(0)) { max($0, $1.magnitude) }
                let scale = most / table.largest
                let isNormal = scale >= Float.leastNormalMagnitude
                scales.append(isNormal ? scale : 0)
                inverse = isNormal ? table.largest / most : 0
            }
            for value in part {
                elements.append(lookup.values[Int(lookup.bits(nearest: value * inverse))])
            }
        }
        return (elements, scales)
    }

    /// What is read of elements that were sent.
    func values(_ elements: [Float], scales: [Float]) -> [Float] {
        guard let block else { return elements }
        return elements.indices.map { elements[$0] * scales[$0 / block] }
    }

    /// What is read of a row that was sent.
    func passed(_ row: [Float]) -> [Float] {
        let (elements, scales) = sent(row)
        return values(elements, scales: scales)
    }
}

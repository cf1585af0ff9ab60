import MoriDevice

/// A type of token that the benchmark makes and compares.
///
/// The rounding shares no code with the kernels or with the library: it picks the nearer of a
/// value's two neighbours, the even one on ties.
protocol BenchElement: TensorElement, Equatable {
    init(nearest value: Float)
    var value: Float { get }
    var bits: UInt32 { get }
    /// A row as a tensor of this type holds it.
    static func rounded(_ row: [Float]) -> [Self]
    /// The same in fp32, exact.
    static func widened(_ row: [Self]) -> [Float]
}

extension BenchElement {
    static func rounded(_ row: [Float]) -> [Self] { RowMath.map(row) { Self(nearest: $0) } }
    static func widened(_ row: [Self]) -> [Float] { RowMath.map(row) { $0.value } }
}

extension BFloat16: BenchElement {
    @inline(__always)
    init(nearest value: Float) {
        // The lower half says how far the neighbour below is, in 1/65536 of their distance. Values
        // here are finite.
        let bits = value.bitPattern
        let distance = bits & 0xFFFF
        let isOdd = bits & 0x1_0000 != 0
        let isAbove = distance > 0x8000 || (distance == 0x8000 && isOdd)
        let below = UInt16(truncatingIfNeeded: bits >> 16)
        self.init(bitPattern: isAbove ? below &+ 1 : below)
    }
    @inline(__always) var value: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
    @inline(__always) var bits: UInt32 { UInt32(bitPattern) }
}

extension Float: BenchElement {
    @inline(__always) init(nearest value: Float) { self = value }
    @inline(__always) var value: Float { self }
    @inline(__always) var bits: UInt32 { bitPattern }
}

/// Loops over one row, so that large rounds can be checked whole.
enum RowMath {
    /// A row as a tensor of this type holds it.
    static func rounded<Element: BenchElement>(_ row: [Float]) -> [Element] {
        Element.rounded(row)
    }

    /// What a rank's experts make of a row's values.
    static func expertOutput<To: BenchElement>(_ row: [Float], factor: Float) -> [To] {
        To.rounded(map(row) { $0 * factor })
    }

    /// Adds a row to fp32 sums.
    static func add<Element: BenchElement>(_ elements: [Element], to sums: inout [Float]) {
        let row = Element.widened(elements)
        let count = min(row.count, sums.count)
        unsafe row.withUnsafeBufferPointer { row in
            unsafe sums.withUnsafeMutableBufferPointer { sums in
                var column = 0
                while column < count {
                    unsafe sums[column] += row[column]
                    column += 1
                }
            }
        }
    }

    /// The first column at which a row of `found` is not `expected`, bit for bit.
    static func firstDifference<Element: BenchElement>(
        _ found: [Element], row: Int, _ expected: [Element]
    ) -> Int? {
        let base = row * expected.count
        return unsafe found.withUnsafeBufferPointer { found in
            unsafe expected.withUnsafeBufferPointer { expected in
                // All at once first: rows are nearly always equal.
                var difference: UInt32 = 0
                var column = 0
                while column < expected.count {
                    unsafe difference |= found[base + column].bits ^ expected[column].bits
                    column += 1
                }
                guard difference != 0 else { return nil }
                return expected.indices.first {
                    unsafe found[base + $0].bits != expected[$0].bits
                }
            }
        }
    }

    @inline(__always)
    fileprivate static func map<From: BitwiseCopyable, To>(
        _ row: [From], _ transform: (From) -> To
    ) -> [To] {
        unsafe [To](unsafeUninitializedCapacity: row.count) { result, count in
            unsafe row.withUnsafeBufferPointer { row in
                var column = 0
                while column < row.count {
                    unsafe result.initializeElement(at: column, to: transform(row[column]))
                    column += 1
                }
            }
            count = row.count
        }
    }
}

extension DeviceTensor {
    /// Some rows of the outermost dimension.
    func rows(_ range: Range<Int>) -> DeviceTensor {
        let inner = shape.dropFirst()
        let row = inner.dropLast().reduce(elementType.byteCount(of: inner.last ?? 1), *)
        return DeviceTensor(
            address: address + UInt(range.lowerBound * row),
            shape: [range.count] + shape.dropFirst(), elementType: elementType, device: device,
            storage: storage)
    }

    /// Pieces of the first `count` rows that fit a cache, so that large tensors can be made and
    /// read without a second copy of them.
    static func pieces(_ count: Int, rowByteCount: Int) -> [Range<Int>] {
        let step = max(1, (1 << 20) / max(1, rowByteCount))
        return stride(from: 0, to: count, by: step).map { $0..<min(count, $0 + step) }
    }
}

import Glibc
public import MoriEP
import MoriOracle

/// A type of token that tests can fill and compare. Whole rows at once, in plain loops: tests run
/// without optimization, where a closure for each element costs ten times as much.
public protocol TokenElement: TensorElement, Equatable {
    /// Rounded from fp32, by code of the oracle's own.
    static func rounded(_ values: [Float]) -> [Self]
    /// The value as fp32, exact; of a pair the first.
    var float: Float { get }
    /// Rounds to this type and back.
    static var rounding: @Sendable (Float) -> Float { get }
}

extension BFloat16: TokenElement {
    /// By the oracle's definition of the nearest.
    public static func rounded(_ values: [Float]) -> [BFloat16] {
        unsafe [BFloat16](unsafeUninitializedCapacity: values.count) { elements, count in
            var index = 0
            while index < values.count {
                let bits = roundToBFloat16(values[index]).bitPattern
                unsafe elements[index] = BFloat16(
                    bitPattern: UInt16(truncatingIfNeeded: bits >> 16))
                index += 1
            }
            count = values.count
        }
    }
    /// The oracle's.
    public static var rounding: @Sendable (Float) -> Float { roundToBFloat16 }
}

extension Float: TokenElement {
    /// The values themselves.
    public static func rounded(_ values: [Float]) -> [Float] { values }
    /// The value itself.
    public var float: Float { self }
    /// Nothing to round.
    public static var rounding: @Sendable (Float) -> Float { { $0 } }
}

extension Float16: TokenElement {
    /// By the processor.
    public static func rounded(_ values: [Float]) -> [Float16] { values.map { Float16($0) } }
    /// The value itself.
    public var float: Float { Float(self) }
    /// By the processor.
    public static var rounding: @Sendable (Float) -> Float { { Float(Float16($0)) } }
}

extension Float8E4M3: TokenElement {
    /// By the oracle's table.
    public static func rounded(_ values: [Float]) -> [Float8E4M3] {
        values.map { Float8E4M3(bitPattern: NarrowTable.e4m3.bits(nearest: $0)) }
    }
    /// By the oracle's table.
    public static var rounding: @Sendable (Float) -> Float { { NarrowTable.e4m3.round($0) } }
}

extension Float8E4M3FNUZ: TokenElement {
    /// By the oracle's table.
    public static func rounded(_ values: [Float]) -> [Float8E4M3FNUZ] {
        values.map { Float8E4M3FNUZ(bitPattern: NarrowTable.e4m3fnuz.bits(nearest: $0)) }
    }
    /// By the oracle's table.
    public static var rounding: @Sendable (Float) -> Float { { NarrowTable.e4m3fnuz.round($0) } }
}

extension Float8E5M2: TokenElement {
    /// By the oracle's table.
    public static func rounded(_ values: [Float]) -> [Float8E5M2] {
        values.map { Float8E5M2(bitPattern: NarrowTable.e5m2.bits(nearest: $0)) }
    }
    /// By the oracle's table.
    public static var rounding: @Sendable (Float) -> Float { { NarrowTable.e5m2.round($0) } }
}

extension Float4E2M1Pair: TokenElement {
    /// By the oracle's table, two by two.
    public static func rounded(_ values: [Float]) -> [Float4E2M1Pair] {
        let table = NarrowTable.e2m1
        return stride(from: 0, to: values.count, by: 2).map { place in
            let second = table.bits(nearest: values[place + 1])
            return Float4E2M1Pair(bitPattern: table.bits(nearest: values[place]) | second << 4)
        }
    }
    /// The first of both.
    public var float: Float { first }
    /// By the oracle's table.
    public static var rounding: @Sendable (Float) -> Float { { NarrowTable.e2m1.round($0) } }
}

extension ElementType {
    /// The Swift type of a token type's values.
    public var tokenElement: (any TokenElement.Type)? {
        switch self {
        case .bfloat16: BFloat16.self
        case .float16: Float16.self
        case .float32: Float.self
        case .float8E4M3: Float8E4M3.self
        case .float8E4M3FNUZ: Float8E4M3FNUZ.self
        case .float8E5M2: Float8E5M2.self
        case .float4E2M1: Float4E2M1Pair.self
        case .int32, .uint8: nil
        }
    }
}

/// The first place where elements from `offset` on differ from `expected`; nil when none does.
/// NaNs are all one value; zeros of different sign are two.
func firstDifference<Element: TokenElement>(
    _ elements: [Element], at offset: Int, _ expected: [Element]
) -> Int? {
    if haveEqualBytes(elements, at: offset, expected) { return nil }
    return expected.indices.first { index in
        let left = elements[offset + index].float
        let right = expected[index].float
        if elements[offset + index] == expected[index] && left.bitPattern == right.bitPattern {
            return false
        }
        return !(left.isNaN && right.isNaN)
    }
}

/// Whether the elements from `offset` on are `expected`, byte for byte.
func haveEqualBytes<Element: BitwiseCopyable>(
    _ elements: [Element], at offset: Int, _ expected: [Element]
) -> Bool {
    let size = MemoryLayout<Element>.stride
    return unsafe elements.withUnsafeBytes { left in
        unsafe expected.withUnsafeBytes { right in
            guard let a = left.baseAddress, let b = right.baseAddress else {
                return unsafe right.isEmpty
            }
            return unsafe memcmp(a + offset * size, b, right.count) == 0
        }
    }
}

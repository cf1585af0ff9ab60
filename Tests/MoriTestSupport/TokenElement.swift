import Glibc
public import MoriEP
import MoriOracle

/// A type of token that tests can fill and compare. Whole rows at once, in plain loops: tests run
/// without optimization, where a closure for each element costs ten times as much.
public protocol TokenElement: TensorElement, Equatable {
    /// Rounded from fp32, by code of the oracle's own.
    static func rounded(_ values: [Float]) -> [Self]
    /// The value as fp32, exact.
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

/// The first place where elements from `offset` on differ from `expected`; nil when none does.
/// NaNs are all one value; zeros of different sign are two.
func firstDifference<Element: TokenElement>(
    _ elements: [Element], at offset: Int, _ expected: [Element]
) -> Int? {
    if haveEqualBytes(elements, at: offset, expected) { return nil }
    return expected.indices.first { index in
        let left = elements[offset + index].float
        let right = expected[index].float
        return left.bitPattern != right.bitPattern && !(left.isNaN && right.isNaN)
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

/// What one element of a tensor is.
public enum ElementType: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// The upper half of an IEEE 754 binary32.
    case bfloat16 = "bf16"
    /// IEEE 754 binary16.
    case float16 = "f16"
    /// IEEE 754 binary32.
    case float32 = "f32"
    /// OCP E4M3: no infinities, up to 448.
    case float8E4M3 = "fp8_e4m3"
    /// E4M3 FNUZ, of gfx940 to gfx942: finite, no negative zero, up to 240.
    case float8E4M3FNUZ = "fp8_e4m3fnuz"
    /// OCP E5M2: IEEE-like, up to 57344.
    case float8E5M2 = "fp8_e5m2"
    /// OCP E2M1, two in a byte, the first in the lower half: up to 6.
    case float4E2M1 = "fp4"
    /// Two's complement, 32 bits: expert indices and counts.
    case int32 = "i32"
    /// A byte: scales whose type only the expert knows.
    case uint8 = "u8"

    /// Bits of one element.
    public var bitCount: Int {
        switch self {
        case .float32, .int32: 32
        case .bfloat16, .float16: 16
        case .float8E4M3, .float8E4M3FNUZ, .float8E5M2, .uint8: 8
        case .float4E2M1: 4
        }
    }

    /// Bytes of the smallest piece of memory that holds whole elements.
    public var byteCount: Int { max(1, bitCount / 8) }

    /// Elements in that piece: 2 where they are packed, else 1.
    public var elementsPerUnit: Int { bitCount < 8 ? 8 / bitCount : 1 }

    /// Bytes of so many elements side by side; what 64 bits cannot hold is more than any limit.
    public func byteCount(of elements: Int) -> Int {
        let units = (elements / elementsPerUnit) + (elements % elementsPerUnit == 0 ? 0 : 1)
        let (bytes, overflow) = units.multipliedReportingOverflow(by: byteCount)
        return overflow ? Int.max : bytes
    }

    /// Whether tokens can be of this type, so that combine can sum them.
    public var isTokenType: Bool {
        switch self {
        case .int32, .uint8: false
        case .bfloat16, .float16, .float32, .float8E4M3, .float8E4M3FNUZ, .float8E5M2,
            .float4E2M1:
            true
        }
    }

    /// The types that tokens can be of.
    public static var tokenTypes: [ElementType] { allCases.filter(\.isTokenType) }

    /// The name on the command line and in JSON ("bf16", "fp8_e4m3").
    public var description: String { rawValue }
}

/// A bfloat16 value, as its bits.
///
/// The corresponding Python name is `torch.bfloat16`.
public struct BFloat16: Hashable, Sendable, BitwiseCopyable {
    /// Sign (1), exponent (8), fraction (7).
    public var bitPattern: UInt16

    /// Creates the value with these bits.
    public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; a NaN stays a quiet NaN.
    public init(_ value: Float) {
        let bits = value.bitPattern
        if value.isNaN {
            bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x40
        } else {
            bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
        }
    }

    /// The same value; exact.
    public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}

/// A type whose values lie in tensors as they lie in Swift's memory.
public protocol TensorElement: BitwiseCopyable, Sendable {
    /// The type as tensors name it.
    static var elementType: ElementType { get }
}

extension BFloat16: TensorElement {
    /// bf16.
    public static var elementType: ElementType { .bfloat16 }
}

extension Float: TensorElement {
    /// f32.
    public static var elementType: ElementType { .float32 }
}

extension Float16: TensorElement {
    /// f16.
    public static var elementType: ElementType { .float16 }
}

extension Int32: TensorElement {
    /// i32.
    public static var elementType: ElementType { .int32 }
}

extension UInt8: TensorElement {
    /// u8.
    public static var elementType: ElementType { .uint8 }
}

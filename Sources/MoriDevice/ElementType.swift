/// What one element of a tensor is.
public enum ElementType: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// The upper half of an IEEE 754 binary32.
    case bfloat16 = "bf16"
    /// IEEE 754 binary32.
    case float32 = "f32"
    /// Two's complement, 32 bits: expert indices and counts.
    case int32 = "i32"
    /// A byte: scales whose type only the expert knows.
    case uint8 = "u8"

    /// Bytes of one element.
    public var byteCount: Int {
        switch self {
        case .bfloat16: 2
        case .float32, .int32: 4
        case .uint8: 1
        }
    }

    /// Whether tokens can be of this type, so that combine can sum them.
    public var isTokenType: Bool {
        switch self {
        case .bfloat16, .float32: true
        case .int32, .uint8: false
        }
    }

    /// The types that tokens can be of.
    public static var tokenTypes: [ElementType] { allCases.filter(\.isTokenType) }

    /// The name on the command line and in JSON ("bf16", "f32").
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

extension Int32: TensorElement {
    /// i32.
    public static var elementType: ElementType { .int32 }
}

extension UInt8: TensorElement {
    /// u8.
    public static var elementType: ElementType { .uint8 }
}

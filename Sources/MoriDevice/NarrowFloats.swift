// Numbers of 8 and 4 bits. Conversion from fp32 rounds to nearest, ties to even, and saturates: what
// is larger than the largest finite value, infinities too, becomes that value.

/// A number of 8 bits.
public protocol Float8: Hashable, Sendable, BitwiseCopyable, TensorElement {
    /// Sign, exponent, fraction.
    var bitPattern: UInt8 { get set }
    /// Creates the value with these bits.
    init(bitPattern: UInt8)
    /// Rounds to nearest, ties to even; saturates; a NaN stays a NaN.
    init(_ value: Float)
    /// The same value; exact.
    var float: Float { get }
    /// The largest finite value.
    static var greatestFiniteMagnitude: Float { get }
}

/// A binary format below a sign bit.
private struct NarrowFormat {
    let fractionBits: Int
    let bias: Int
    /// The magnitude of the largest finite value, as bits.
    let largest: UInt32

    /// The value of a finite magnitude.
    func value(_ magnitude: UInt32) -> Float {
        let fraction = Float(magnitude & (1 << UInt32(fractionBits) - 1))
        let exponent = Int(magnitude >> UInt32(fractionBits))
        let unit = Float(
            sign: .plus, exponent: max(exponent, 1) - bias - fractionBits, significand: 1)
        return (exponent == 0 ? fraction : fraction + Float(1 << fractionBits)) * unit
    }

    /// The magnitude nearest to a number that is not negative and no NaN.
    func magnitude(nearest value: Float) -> UInt32 {
        if value >= self.value(largest) { return largest }
        // In units of the last place that the format has at this size; subnormals share one.
        let exponent = max(value == 0 ? 1 - bias : Int(value.exponent), 1 - bias)
        let unit = Float(sign: .plus, exponent: exponent - fractionBits, significand: 1)
        let whole = UInt32((value / unit).rounded(.toNearestOrEven))
        // A sum that carries into the exponent is the next power of two, as it should be.
        let base = UInt32(exponent + bias - 1) << UInt32(fractionBits)
        return min(base + whole, largest)
    }
}

/// OCP E4M3: 1 sign, 4 exponent and 3 fraction bits; no infinities, a NaN of each sign.
///
/// The corresponding Python name is `torch.float8_e4m3fn`.
public struct Float8E4M3: Float8 {
    /// Sign (1), exponent (4), fraction (3).
    public var bitPattern: UInt8

    private static let format = NarrowFormat(fractionBits: 3, bias: 7, largest: 0x7E)

    /// Creates the value with these bits.
    public init(bitPattern: UInt8) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; more than 448 becomes 448; a NaN stays a NaN.
    public init(_ value: Float) {
        let magnitude = value.isNaN ? 0x7F : Self.format.magnitude(nearest: value.magnitude)
        bitPattern = UInt8(magnitude) | (value.sign == .minus ? 0x80 : 0)
    }

    /// The same value; exact.
    public var float: Float {
        let magnitude = UInt32(bitPattern & 0x7F)
        let value = magnitude == 0x7F ? Float.nan : Self.format.value(magnitude)
        return bitPattern & 0x80 == 0 ? value : -value
    }

    /// 448.
    public static var greatestFiniteMagnitude: Float { 448 }
    /// fp8_e4m3.
    public static var elementType: ElementType { .float8E4M3 }
}

/// E4M3 FNUZ: 1 sign, 4 exponent and 3 fraction bits; finite, no negative zero, whose bits are the
/// only NaN.
///
/// The corresponding Python name is `torch.float8_e4m3fnuz`.
public struct Float8E4M3FNUZ: Float8 {
    /// Sign (1), exponent (4), fraction (3).
    public var bitPattern: UInt8

    private static let format = NarrowFormat(fractionBits: 3, bias: 8, largest: 0x7F)

    /// Creates the value with these bits.
    public init(bitPattern: UInt8) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; more than 240 becomes 240; a NaN stays a NaN.
    public init(_ value: Float) {
        if value.isNaN {
            bitPattern = 0x80
        } else {
            let magnitude = UInt8(Self.format.magnitude(nearest: value.magnitude))
            bitPattern = magnitude | (value.sign == .minus && magnitude > 0 ? 0x80 : 0)
        }
    }

    /// The same value; exact.
    public var float: Float {
        if bitPattern == 0x80 { return .nan }
        let value = Self.format.value(UInt32(bitPattern & 0x7F))
        return bitPattern & 0x80 == 0 ? value : -value
    }

    /// 240.
    public static var greatestFiniteMagnitude: Float { 240 }
    /// fp8_e4m3fnuz.
    public static var elementType: ElementType { .float8E4M3FNUZ }
}

/// OCP E5M2: 1 sign, 5 exponent and 2 fraction bits, with infinities and NaNs as in IEEE 754.
///
/// The corresponding Python name is `torch.float8_e5m2`.
public struct Float8E5M2: Float8 {
    /// Sign (1), exponent (5), fraction (2).
    public var bitPattern: UInt8

    private static let format = NarrowFormat(fractionBits: 2, bias: 15, largest: 0x7B)

    /// Creates the value with these bits.
    public init(bitPattern: UInt8) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; more than 57344 becomes 57344; a NaN stays a NaN.
    public init(_ value: Float) {
        let magnitude = value.isNaN ? 0x7E : Self.format.magnitude(nearest: value.magnitude)
        bitPattern = UInt8(magnitude) | (value.sign == .minus ? 0x80 : 0)
    }

    /// The same value; exact.
    public var float: Float {
        let magnitude = UInt32(bitPattern & 0x7F)
        let value: Float =
            switch magnitude {
            case 0x7C: .infinity
            case 0x7D...: .nan
            default: Self.format.value(magnitude)
            }
        return bitPattern & 0x80 == 0 ? value : -value
    }

    /// 57344.
    public static var greatestFiniteMagnitude: Float { 57344 }
    /// fp8_e5m2.
    public static var elementType: ElementType { .float8E5M2 }
}

/// Two OCP E2M1 numbers in a byte: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
///
/// A tensor of fp4 counts numbers in its shape, and has half as many pairs.
///
/// The corresponding Python name is `torch.float4_e2m1fn_x2`.
public struct Float4E2M1Pair: Hashable, Sendable, BitwiseCopyable, TensorElement {
    /// The first number in the lower half, the second in the upper: sign (1), exponent (2),
    /// fraction (1).
    public var bitPattern: UInt8

    private static let format = NarrowFormat(fractionBits: 1, bias: 1, largest: 7)

    /// Creates the pair with these bits.
    public init(bitPattern: UInt8) { self.bitPattern = bitPattern }

    /// Rounds both to nearest, ties to even; more than 6 becomes 6, and so does a NaN, because
    /// there is none.
    public init(_ first: Float, _ second: Float) {
        bitPattern = Self.bits(first) | Self.bits(second) << 4
    }

    /// The first value; exact.
    public var first: Float { Self.value(bitPattern & 0xF) }

    /// The second value; exact.
    public var second: Float { Self.value(bitPattern >> 4) }

    private static func bits(_ value: Float) -> UInt8 {
        let magnitude = value.isNaN ? format.largest : format.magnitude(nearest: value.magnitude)
        return UInt8(magnitude) | (value.sign == .minus ? 8 : 0)
    }

    private static func value(_ bits: UInt8) -> Float {
        let value = format.value(UInt32(bits & 7))
        return bits & 8 == 0 ? value : -value
    }

    /// fp4.
    public static var elementType: ElementType { .float4E2M1 }
}

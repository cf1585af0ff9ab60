/// A number format of 8 or 4 bits as the table of its values, from the definition of binary formats:
/// rounding looks the nearest one up, unlike the kernels, which add to bits.
public struct NarrowTable: Sendable {
    /// The finite values that are not negative, ascending; the place of each is its magnitude.
    public let magnitudes: [Double]
    /// The sign bit.
    public let sign: UInt8
    /// What a NaN becomes; nil: the largest value.
    public let nan: UInt8?
    /// Whether there is a negative zero.
    public let hasNegativeZero: Bool

    private init(
        exponentBits: Int, fractionBits: Int, bias: Int, largest: Int, nan: UInt8?,
        hasNegativeZero: Bool = true
    ) {
        magnitudes = (0...largest).map { magnitude in
            let exponent = magnitude >> fractionBits
            let fraction = Double(magnitude & (1 << fractionBits - 1)) / Double(1 << fractionBits)
            let whole: Double = exponent == 0 ? 0 : 1
            return Double(
                sign: .plus, exponent: max(exponent, 1) - bias, significand: whole + fraction)
        }
        sign = UInt8(1 << (exponentBits + fractionBits))
        self.nan = nan
        self.hasNegativeZero = hasNegativeZero
    }

    /// OCP E4M3.
    public static let e4m3 = NarrowTable(
        exponentBits: 4, fractionBits: 3, bias: 7, largest: 0x7E, nan: 0x7F)
    /// E4M3 FNUZ.
    public static let e4m3fnuz = NarrowTable(
        exponentBits: 4, fractionBits: 3, bias: 8, largest: 0x7F, nan: 0x80,
        hasNegativeZero: false)
    /// OCP E5M2.
    public static let e5m2 = NarrowTable(
        exponentBits: 5, fractionBits: 2, bias: 15, largest: 0x7B, nan: 0x7E)
    /// OCP E2M1.
    public static let e2m1 = NarrowTable(
        exponentBits: 2, fractionBits: 1, bias: 1, largest: 7, nan: nil)

    /// The largest finite value.
    public var largest: Float { Float(magnitudes[magnitudes.count - 1]) }

    /// The bits of the value nearest to a number, the even ones on ties; too large: the largest.
    public func bits(nearest value: Float) -> UInt8 {
        if value.isNaN, let nan {
            return hasNegativeZero && value.sign == .minus ? nan | sign : nan
        }
        let wanted = value.isNaN ? Double.infinity : Double(value.magnitude)
        var low = 0
        var high = magnitudes.count - 1
        // The last magnitude that is not above the number.
        while low < high {
            let middle = (low + high + 1) / 2
            if magnitudes[middle] <= wanted { low = middle } else { high = middle - 1 }
        }
        var nearest = low
        if low + 1 < magnitudes.count {
            let below = wanted - magnitudes[low]
            let above = magnitudes[low + 1] - wanted
            if above < below || (above == below && low % 2 == 1) { nearest = low + 1 }
        }
        let isNegative = value.sign == .minus && (nearest > 0 || hasNegativeZero)
        return UInt8(nearest) | (isNegative ? sign : 0)
    }

    /// The value of finite bits; nil for others.
    public func value(_ bits: UInt8) -> Float? {
        let magnitude = Int(bits & (sign - 1))
        guard magnitude < magnitudes.count, hasNegativeZero || bits != sign else { return nil }
        let value = Float(magnitudes[magnitude])
        return bits & sign == 0 ? value : -value
    }

    /// Rounds to the format and back; a NaN where there is none becomes the largest value.
    public func round(_ value: Float) -> Float {
        self.value(bits(nearest: value)) ?? .nan
    }
}

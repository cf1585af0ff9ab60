import MoriDevice
import MoriOracle

/// Rounding to a narrow type fast enough for whole benchmarks: the oracle's table, by the upper half
/// of the fp32 number.
///
/// The numbers with one upper half are less than a step of the format apart, so at most one of the
/// points at which rounding changes lies between them.
struct NarrowLookup: Sendable {
    private let codes: [UInt8]
    /// From where on the next code is nearer; infinity: nowhere with this upper half.
    private let changes: [Float]
    /// The value of each code.
    let values: [Float]

    init(_ table: NarrowTable) {
        var codes: [UInt8] = []
        var changes: [Float] = []
        for upper in UInt32(0)...0x7F80 {
            let first = Float(bitPattern: upper << 16)
            let code = table.bits(nearest: first)
            codes.append(code)
            let last = Float(bitPattern: upper << 16 | 0xFFFF)
            guard first.isFinite, table.bits(nearest: last) != code else {
                changes.append(.infinity)
                continue
            }
            let middle = (table.magnitudes[Int(code)] + table.magnitudes[Int(code) + 1]) / 2
            // On a tie the even one is nearest.
            changes.append(code % 2 == 0 ? Float(middle).nextUp : Float(middle))
        }
        self.codes = codes
        self.changes = changes
        values = (UInt8.min ... .max).map { table.value($0) ?? .nan }
        sign = table.sign
        hasNegativeZero = table.hasNegativeZero
    }

    private let sign: UInt8
    private let hasNegativeZero: Bool

    /// The bits of the value nearest to a number that is no NaN.
    @inline(__always)
    func bits(nearest value: Float) -> UInt8 {
        let magnitude = value.magnitude
        let upper = Int(magnitude.bitPattern >> 16)
        let code = codes[upper] + (magnitude >= changes[upper] ? 1 : 0)
        return value.sign == .minus && (code > 0 || hasNegativeZero) ? code | sign : code
    }

    static let e4m3 = NarrowLookup(.e4m3)
    static let e4m3fnuz = NarrowLookup(.e4m3fnuz)
    static let e5m2 = NarrowLookup(.e5m2)
    static let e2m1 = NarrowLookup(.e2m1)
}

/// What the 8-bit types have in common here.
protocol BenchFloat8: BenchElement, Float8 {
    static var lookup: NarrowLookup { get }
}

extension BenchFloat8 {
    @inline(__always)
    init(nearest value: Float) { self.init(bitPattern: Self.lookup.bits(nearest: value)) }
    @inline(__always) var value: Float { Self.lookup.values[Int(bitPattern)] }
    @inline(__always) var bits: UInt32 { UInt32(bitPattern) }
}

extension Float8E4M3: BenchFloat8 {
    static var lookup: NarrowLookup { .e4m3 }
}

extension Float8E4M3FNUZ: BenchFloat8 {
    static var lookup: NarrowLookup { .e4m3fnuz }
}

extension Float8E5M2: BenchFloat8 {
    static var lookup: NarrowLookup { .e5m2 }
}

extension Float16: BenchElement {
    @inline(__always) init(nearest value: Float) { self.init(value) }
    @inline(__always) var value: Float { Float(self) }
    @inline(__always) var bits: UInt32 { UInt32(bitPattern) }
}

extension Float4E2M1Pair: BenchElement {
    /// A pair of equals.
    init(nearest value: Float) {
        let code = NarrowLookup.e2m1.bits(nearest: value)
        self.init(bitPattern: code | code << 4)
    }
    /// The first of both.
    var value: Float { NarrowLookup.e2m1.values[Int(bitPattern & 0xF)] }
    var bits: UInt32 { UInt32(bitPattern) }

    static func rounded(_ row: [Float]) -> [Float4E2M1Pair] {
        let lookup = NarrowLookup.e2m1
        return stride(from: 0, to: row.count, by: 2).map { place in
            Float4E2M1Pair(
                bitPattern: lookup.bits(nearest: row[place])
                    | lookup.bits(nearest: row[place + 1]) << 4)
        }
    }

    static func widened(_ row: [Float4E2M1Pair]) -> [Float] {
        let values = NarrowLookup.e2m1.values
        return row.flatMap { [values[Int($0.bitPattern & 0xF)], values[Int($0.bitPattern >> 4)]] }
    }
}

extension ElementType {
    /// The Swift type of a token type's values; the options allow no others.
    var benchElement: any BenchElement.Type {
        switch self {
        case .bfloat16, .int32, .uint8: BFloat16.self
        case .float16: Float16.self
        case .float32: Float.self
        case .float8E4M3: Float8E4M3.self
        case .float8E4M3FNUZ: Float8E4M3FNUZ.self
        case .float8E5M2: Float8E5M2.self
        case .float4E2M1: Float4E2M1Pair.self
        }
    }
}

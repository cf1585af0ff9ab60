import CHIP
import MoriDevice
import MoriHostKernels
import MoriOracle
import Testing

@Suite struct ElementTypeTests {
    /// Every upper half with the lower halves that rounding decides on.
    @Test func bfloat16RoundsEveryPatternLikeTheOracle() {
        let lowers: [UInt32] = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
        var wrong: [UInt32] = []
        for upper in UInt32(0)...0xFFFF {
            for lower in lowers {
                let value = Float(bitPattern: upper << 16 | lower)
                let rounded = BFloat16(value)
                let isRight =
                    value.isNaN
                    ? rounded.float.isNaN && rounded.float.sign == value.sign
                    : rounded.float.bitPattern == roundToBFloat16(value).bitPattern
                if !isRight { wrong.append(value.bitPattern) }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(10).map { String($0, radix: 16) })")
    }

    @Test func everyBFloat16SurvivesTheWayThroughFloat() {
        for pattern in UInt16.min ... .max {
            let value = BFloat16(bitPattern: pattern)
            let back = BFloat16(value.float)
            // A signaling NaN comes back quiet.
            let expected = value.float.isNaN ? pattern | 0x40 : pattern
            if back.bitPattern != expected { Issue.record("\(pattern) became \(back)") }
        }
    }

    @Test func roundingIsToNearestWithTiesToEven() {
        let cases: [(Float, UInt16)] = [
            (1, 0x3F80), (0x1.01p0, 0x3F80), (0x1.03p0, 0x3F82), (0x1.010002p0, 0x3F81),
            (-0x1.01p0, 0xBF80), (.infinity, 0x7F80), (-.infinity, 0xFF80), (0, 0), (-0.0, 0x8000),
            (.greatestFiniteMagnitude, 0x7F80), (-.greatestFiniteMagnitude, 0xFF80),
            (0x1.FEp127, 0x7F7F), (.leastNonzeroMagnitude, 0), (0x1p-133, 1), (0x1p-134, 0),
            (0x1.8p-134, 1),
        ]
        for (value, pattern) in cases {
            #expect(BFloat16(value).bitPattern == pattern, "\(value)")
        }
    }

    @Test func sizesAndNamesAreThoseOfTheCommandLine() {
        #expect(
            ElementType.allCases.map(\.description) == [
                "bf16", "f16", "f32", "fp8_e4m3", "fp8_e4m3fnuz", "fp8_e5m2", "fp4", "i32", "u8",
            ])
        #expect(ElementType.allCases.map(\.bitCount) == [16, 16, 32, 8, 8, 8, 4, 32, 8])
        #expect(
            ElementType.allCases.map { $0.byteCount(of: 7) } == [14, 14, 28, 7, 7, 7, 4, 28, 7])
        #expect(ElementType.float32.byteCount(of: .max) == .max)
        #expect(ElementType.tokenTypes.count == 7)
        #expect(MemoryLayout<BFloat16>.stride == 2)
        #expect(MemoryLayout<Float4E2M1Pair>.stride == 1)
        #expect(ElementType(rawValue: "bf16") == .bfloat16)
        #expect(ElementType(rawValue: "fp64") == nil)
    }

    // The narrow types: library, kernels and the oracle's tables are three pieces of code.

    static let narrow: [(ElementType, moriep_element_type, NarrowTable)] = [
        (.float8E4M3, MORIEP_FLOAT8_E4M3, .e4m3),
        (.float8E4M3FNUZ, MORIEP_FLOAT8_E4M3FNUZ, .e4m3fnuz),
        (.float8E5M2, MORIEP_FLOAT8_E5M2, .e5m2),
        (.float4E2M1, MORIEP_FLOAT4_E2M1, .e2m1),
    ]

    /// What the library makes of bits, the lower four where two are packed.
    private static func float(_ bits: UInt8, _ type: ElementType) -> Float {
        switch type {
        case .float8E4M3: Float8E4M3(bitPattern: bits).float
        case .float8E4M3FNUZ: Float8E4M3FNUZ(bitPattern: bits).float
        case .float8E5M2: Float8E5M2(bitPattern: bits).float
        default: Float4E2M1Pair(bitPattern: bits).first
        }
    }

    private static func bits(_ value: Float, _ type: ElementType) -> UInt8 {
        switch type {
        case .float8E4M3: Float8E4M3(value).bitPattern
        case .float8E4M3FNUZ: Float8E4M3FNUZ(value).bitPattern
        case .float8E5M2: Float8E5M2(value).bitPattern
        default: Float4E2M1Pair(value, 0).bitPattern
        }
    }

    @Test(arguments: narrow.indices)
    func everyPatternOfANarrowTypeHasTheValueOfItsDefinition(index: Int) {
        let (type, raw, table) = Self.narrow[index]
        for pattern in UInt8.min ... .max {
            var widened: [Float] = [0, 0]
            var bits = [pattern]
            let status = unsafe moriep_host_widen(Int32(raw.rawValue), &bits, 1, &widened)
            #expect(status == 0)
            let own = type == .float4E2M1 ? pattern & 0xF : pattern
            let isInfinity = type == .float8E5M2 && own & 0x7F == 0x7C
            for found in [widened[0], Self.float(pattern, type)] {
                if let value = table.value(own) {
                    #expect(found.bitPattern == value.bitPattern, "\(type) \(pattern)")
                } else {
                    #expect(isInfinity ? found.isInfinite : found.isNaN, "\(type) \(pattern)")
                }
            }
            if type == .float4E2M1 {
                #expect(widened[1] == table.value(pattern >> 4))
                #expect(Float4E2M1Pair(bitPattern: pattern).second == table.value(pattern >> 4))
            }
        }
    }

    /// All upper halves of fp32 with the lower halves that rounding decides on, each against the
    /// table of the format's values.
    @Test(arguments: narrow.indices)
    func aNarrowTypeRoundsEveryPatternLikeTheOracle(index: Int) {
        let (type, raw, table) = Self.narrow[index]
        let perEntry = type.elementsPerUnit
        var wrong: [String] = []
        for lower: UInt32 in [0, 1, 0x8000, 0xFFFF] {
            let values = (UInt32(0)...0xFFFF).map { Float(bitPattern: $0 << 16 | lower) }
            var rounded = [UInt8](repeating: 0, count: values.count / perEntry)
            let status = unsafe moriep_host_round(
                Int32(raw.rawValue), values, Int64(rounded.count), &rounded)
            #expect(status == 0)
            for (place, value) in values.enumerated() {
                let expected = table.bits(nearest: value)
                var found = rounded[place / perEntry]
                if perEntry == 2 { found = place % 2 == 0 ? found & 0xF : found >> 4 }
                let own = Self.bits(value, type)
                if found != expected || own != expected {
                    wrong.append("\(value): kernels \(found), library \(own), not \(expected)")
                }
            }
        }
        #expect(wrong.isEmpty, "\(type), \(wrong.count): \(wrong.prefix(5))")
    }

    @Test func theKernelsFloat16IsThatOfThisProcessor() {
        let raw = Int32(MORIEP_FLOAT16.rawValue)
        let patterns = [UInt16](UInt16.min ... .max)
        var widened = [Float](repeating: 0, count: patterns.count)
        #expect(
            unsafe moriep_host_widen(raw, patterns, Int64(patterns.count), &widened)
                == 0)
        var wrong: [String] = []
        for (pattern, found) in zip(patterns, widened) {
            let expected = Float(Float16(bitPattern: pattern))
            if expected.isNaN ? !found.isNaN : found.bitPattern != expected.bitPattern {
                wrong.append("\(pattern)")
            }
        }
        for lower: UInt32 in [0, 1, 0xFFF, 0x1000, 0x1001, 0x2000, 0x8000, 0xFFFF] {
            let values = (UInt32(0)...0xFFFF).map { Float(bitPattern: $0 << 16 | lower) }
            var rounded = [UInt16](repeating: 0, count: values.count)
            #expect(
                unsafe moriep_host_round(raw, values, Int64(values.count), &rounded)
                    == 0)
            for (value, found) in zip(values, rounded) {
                let expected = Float16(value)
                let isRight =
                    expected.isNaN
                    ? Float16(bitPattern: found).isNaN : found == expected.bitPattern
                if !isRight { wrong.append("\(value): \(found)") }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(5))")
    }

    @Test func theKernelsBFloat16AndFloat32AreTheLibrarys() {
        let patterns = [UInt16](UInt16.min ... .max)
        var widened = [Float](repeating: 0, count: patterns.count)
        let bfloat16 = Int32(MORIEP_BFLOAT16.rawValue)
        #expect(
            unsafe moriep_host_widen(bfloat16, patterns, Int64(patterns.count), &widened)
                == 0)
        #expect(zip(patterns, widened).allSatisfy { UInt32($0) << 16 == $1.bitPattern })
        var back = [UInt16](repeating: 0, count: patterns.count)
        #expect(
            unsafe moriep_host_round(bfloat16, widened, Int64(patterns.count), &back)
                == 0)
        #expect(zip(widened, back).allSatisfy { BFloat16($0).bitPattern == $1 })
        #expect(
            unsafe moriep_host_round(99, widened, 1, &back) == Int32(MORIEP_NOT_SUPPORTED.rawValue))
    }
}

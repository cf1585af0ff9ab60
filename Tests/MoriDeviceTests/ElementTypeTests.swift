import MoriDevice
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
        #expect(ElementType.allCases.map(\.description) == ["bf16", "f32", "i32", "u8"])
        #expect(ElementType.allCases.map(\.byteCount) == [2, 4, 4, 1])
        #expect(ElementType.tokenTypes == [.bfloat16, .float32])
        #expect(MemoryLayout<BFloat16>.stride == 2)
        #expect(ElementType(rawValue: "bf16") == .bfloat16)
        #expect(ElementType(rawValue: "fp64") == nil)
    }
}

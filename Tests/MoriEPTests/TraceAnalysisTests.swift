import MoriOracle
@testable import MoriTraceReport
import Testing

/// What the report computes of a trace.
@Suite struct TraceAnalysisTests {
    @Test(arguments: UInt64(1)...20)
    func theMedianOfTheOthersIsTheirs(_ seed: UInt64) {
        let generator = Generator(seed: seed)
        for count in 1...9 {
            // Few different numbers, so that some are equal.
            let values = (0..<count).map { Int(8 * generator.unit(count, $0, 0)) - 3 }
            let ordered = Nanoseconds.Ordered(values)
            #expect(ordered.median == Nanoseconds.median(values))
            for place in values.indices {
                var others = values
                others.remove(at: place)
                #expect(
                    ordered.median(without: values[place])
                        == (others.isEmpty ? nil : Nanoseconds.median(others)),
                    "seed \(seed): \(values) without \(place)")
            }
        }
    }

    @Test func aMedianIsTheMiddleOneOrTheMeanOfBoth() {
        #expect(Nanoseconds.median([]) == 0)
        #expect(Nanoseconds.median([5]) == 5)
        #expect(Nanoseconds.median([9, 1]) == 5)
        #expect(Nanoseconds.median([9, 1, 2]) == 2)
        #expect(Nanoseconds.median([4, 9, 1, 2]) == 3)
    }

    @Test func aSumEndsAtTheMost() {
        let most = Nanoseconds.mostTogether
        #expect([1, 2, 3].clampedSum == 6)
        #expect([most, most, 7].clampedSum == most)
        #expect([Int.max, Int.max].clampedSum == most)
        #expect([Int.min, Int.min].clampedSum == -most)
    }
}

import FoundationEssentials
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

    /// How well devices' clocks are known is said of the worst.
    @Test func whatIsKnownOfDevicesClocksIsSaid() throws {
        func notes(_ clocks: [String?]) throws -> [String] {
            let ranks = clocks.enumerated().map { rank, clock in
                "{\"rank\":\(rank),\"host\":0,\"device\":\"a\",\"clockOffsetNanoseconds\":0,"
                    + "\"clockRoundTripNanoseconds\":0,\"operators\":[{\"name\":\"intranode\","
                    + "\"lost\":0,\"mended\":0,\"expertRanks\":[0],\"chosen\":[1]"
                    + (clock.map { ",\"deviceClock\":{\($0)}" } ?? "") + "}]}"
            }
            let text =
                "{\"moriEP\":{\"version\":1,\"worldSize\":\(clocks.count),\"zeroNanoseconds\":0,"
                + "\"ranks\":[\(ranks.joined(separator: ","))]},\"traceEvents\":[{\"ph\":\"X\","
                + "\"name\":\"dispatch send\",\"cat\":\"kernel\",\"pid\":0,\"tid\":100,\"ts\":0,"
                + "\"dur\":1}]}"
            return try TraceFile(files: [(path: "made up", bytes: Data(text.utf8))]).notes
        }
        func clock(_ roundTrip: Int, _ drift: Int, _ comparisons: Int) -> String {
            "\"offsetNanoseconds\":-7,\"roundTripNanoseconds\":\(roundTrip),"
                + "\"driftNanosecondsPerSecond\":\(drift),\"comparisons\":\(comparisons)"
        }
        #expect(try notes([nil, nil]) == [])
        let both = try notes([clock(9000, 40, 2), clock(24_000, -1300, 2)])
        #expect(both.count == 1)
        #expect(both[0].contains("12.0 µs or better"), "\(both)")
        #expect(both[0].contains("gain or lose 1300 ns in a second"), "\(both)")
        let once = try notes([clock(9000, 40, 2), clock(9000, 0, 1)])
        #expect(once.count == 2)
        #expect(once[1].hasSuffix("is not taken out: 1."), "\(once)")
    }

    @Test func aSumEndsAtTheMost() {
        let most = Nanoseconds.mostTogether
        #expect([1, 2, 3].clampedSum == 6)
        #expect([most, most, 7].clampedSum == most)
        #expect([Int.max, Int.max].clampedSum == most)
        #expect([Int.min, Int.min].clampedSum == -most)
    }
}

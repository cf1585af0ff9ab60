import MoriDevice
import MoriTestSupport
import Testing

@testable import MoriShmem

@Suite struct ClockAlignmentTests {
    /// The exchange with the least delay tells; those that were held up one way only would mislead.
    @Test func theExchangeWithTheLeastDelayCounts() throws {
        // This rank's clock is 1000 ahead: what it sends at 5000 leaves at 4000 of the first rank's.
        func exchange(there: UInt64, back: UInt64) -> ClockAlignment.Exchange {
            .init(sent: 5000, heard: 4000 + there, answered: 9000, received: 10_000 + back)
        }
        let exchanges = [
            exchange(there: 900, back: 40), exchange(there: 20, back: 24),
            exchange(there: 30, back: 5000),
        ]
        let found = try #require(ClockAlignment(exchanges))
        #expect(found.roundTrip == 44)
        #expect(abs(found.offset - 1000) <= found.roundTrip / 2)
        #expect(ClockAlignment([]) == nil)
    }

    @Test func aClockThatIsBehindHasANegativeOffset() throws {
        let exchange = ClockAlignment.Exchange(
            sent: 100, heard: 5_000_110, answered: 5_000_200, received: 210)
        let found = try #require(ClockAlignment([exchange]))
        #expect(abs(found.offset + 5_000_000) <= found.roundTrip / 2)
    }

    /// Ranks of three hosts, whose clocks are set wrong, over the bootstrap.
    @Test(.timeLimit(.minutes(1)))
    func clocksOfSeveralHostsAreAlignedToHalfTheRoundTrip() async throws {
        let skews: [Int64] = [0, 0, 3_000_000_000, -7_123_456_789, 40_000]
        let hosts = [0, 0, 1, 2, 2]
        let found = try await withThrowingTaskGroup(of: (Int, ClockAlignment).self) { group in
            for bootstrap in LocalBootstrap.world(size: skews.count) {
                let skew = skews[hosts[bootstrap.rank] == 2 ? 3 : bootstrap.rank]
                group.addTask {
                    let alignment = try await ClockAlignment.measure(
                        over: bootstrap, hosts: hosts, timeout: .seconds(20)
                    ) { TraceEvent.now() &+ UInt64(bitPattern: skew) }
                    return (bootstrap.rank, alignment)
                }
            }
            var found: [Int: ClockAlignment] = [:]
            for try await (rank, alignment) in group { found[rank] = alignment }
            return found
        }
        for (rank, alignment) in found {
            let skew = skews[hosts[rank] == 2 ? 3 : rank]
            #expect(
                abs(alignment.offset - skew) <= alignment.roundTrip / 2 + 1,
                "rank \(rank): \(alignment) of \(skew)")
            #expect(alignment.roundTrip >= 0)
            #expect((alignment == .shared) == (hosts[rank] == 0))
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func ranksOfOneHostShareTheirClock() async throws {
        for bootstrap in LocalBootstrap.world(size: 1) {
            let found = try await ClockAlignment.measure(
                over: bootstrap, hosts: [4], timeout: .seconds(5))
            #expect(found == .shared)
        }
    }
}

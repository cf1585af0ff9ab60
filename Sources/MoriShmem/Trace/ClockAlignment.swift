import MoriDevice

/// How far a rank's clock is from that of the first rank, and how well that is known.
package struct ClockAlignment: Hashable, Sendable {
    /// Nanoseconds by which this rank's clock is ahead.
    package var offset: Int64
    /// Nanoseconds of the exchange that the offset is of, which is wrong by half of it at most.
    ///
    /// 0: the ranks share a clock.
    package var roundTrip: Int64

    package static let shared = ClockAlignment(offset: 0, roundTrip: 0)

    /// One exchange with the first rank, each time by the clock of whoever took it.
    package struct Exchange: Hashable, Sendable {
        /// When this rank had given its word, and the first rank had read it.
        package var sent: UInt64
        package var heard: UInt64
        /// When the first rank had given its word, and this one had read it.
        package var answered: UInt64
        package var received: UInt64

        package init(sent: UInt64, heard: UInt64, answered: UInt64, received: UInt64) {
            self.sent = sent
            self.heard = heard
            self.answered = answered
            self.received = received
        }
    }

    package init(offset: Int64, roundTrip: Int64) {
        self.offset = offset
        self.roundTrip = roundTrip
    }

    /// The estimate of the exchange with the least delay (as NTP does it); nil without one.
    package init?(_ exchanges: [Exchange]) {
        let estimates = exchanges.map { exchange in
            let there = Int64(bitPattern: exchange.heard &- exchange.sent)
            let back = Int64(bitPattern: exchange.received &- exchange.answered)
            return ClockAlignment(offset: (back &- there) / 2, roundTrip: there &+ back)
        }
        guard let best = estimates.min(by: { $0.roundTrip < $1.roundTrip }) else { return nil }
        self = best
    }

    /// Exchanges of which the one with the least delay counts.
    private static let exchanges = 16

    /// Aligns the clock of this rank with that of the first of the members.
    ///
    /// Collective. Every rank gives the time at which it asks, and takes the time at which it has all
    /// answers; nobody has them before the last one asked, so the first exchange, for which ranks come
    /// at different times, says little, and the others are as short as the network is.
    ///
    /// - Parameters:
    ///   - bootstrap: How the ranks meet.
    ///   - hosts: Which host each rank is on; ranks of one host share a clock.
    ///   - timeout: How long each exchange waits for the other ranks.
    ///   - now: The clock; tests set it wrong.
    /// - Returns: How far this rank's clock is from the first member's.
    /// - Throws: what the bootstrap throws.
    static func measure(
        over bootstrap: any Bootstrap, hosts: [Int], timeout: Duration,
        now: @Sendable () -> UInt64 = TraceEvent.now
    ) async throws(MoriError) -> ClockAlignment {
        guard Set(bootstrap.members.map { hosts[$0] }).count > 1 else { return .shared }
        let first = bootstrap.members[0]
        var found: [Exchange] = []
        var former: (sent: [UInt64], received: UInt64)?
        for _ in 0...exchanges {
            // This exchange also tells when each rank had heard the one before.
            let sent = now()
            let words = [sent, former?.received ?? 0]
            let all = try await bootstrap.allGather(
                "trace clock", words.flatMap(\.littleEndianBytes), timeout: timeout)
            let received = now()
            let times = all.map(self.words)
            guard bootstrap.members.allSatisfy({ times[$0].count == 2 }) else {
                throw MoriError(
                    .bootstrapFailed, "a rank did not tell its time; do all run the same MoriEP?")
            }
            if let former {
                found.append(
                    Exchange(
                        sent: former.sent[bootstrap.rank], heard: times[first][1],
                        answered: former.sent[first], received: former.received))
            }
            former = (times.map { $0.first ?? 0 }, received)
        }
        guard hosts[bootstrap.rank] != hosts[first] else { return .shared }
        return ClockAlignment(found) ?? .shared
    }

    private static func words(_ bytes: [UInt8]) -> [UInt64] {
        stride(from: 0, to: bytes.count - 7, by: 8).map { start in
            UInt64(littleEndianBytes: bytes[start..<start + 8])
        }
    }
}

package import MoriDevice

/// How a device's clock, which its kernels' records carry, goes beside its host's.
///
/// It is compared with the host's when the trace begins and when it is exported; in between it is taken
/// to go at one rate, so that what it drifts is taken out.
package struct DeviceClock: Hashable, Sendable {
    /// One comparison of the two clocks.
    package struct Anchor: Hashable, Sendable {
        /// Nanoseconds of the device's clock.
        package var time: UInt64
        /// Nanoseconds by which it was ahead of the host's.
        package var offset: Int64
        /// Nanoseconds between the host's two looks: the offset is wrong by half of it at most.
        package var roundTrip: Int64

        /// The reading with the least delay tells; nil: there is none.
        package init?(_ readings: [ClockReading]) {
            let found = readings.min { $0.after &- $0.before < $1.after &- $1.before }
            guard let found else { return nil }
            let span = found.after &- found.before
            time = found.device
            offset = Int64(bitPattern: found.device &- (found.before &+ span / 2))
            roundTrip = Int64(clamping: span)
        }
    }

    /// Launches of which the one with the least delay counts.
    private static let launches = 16

    private let begin: Anchor
    private let end: Anchor
    /// How often it was compared: once, what it drifts is not taken out.
    package let comparisons: Int

    /// A clock that was compared twice, or once; nil: never.
    package init?(begin: Anchor?, end: Anchor?) {
        guard let first = begin ?? end else { return nil }
        self.begin = first
        self.end = end ?? first
        comparisons = begin != nil && end != nil ? 2 : 1
    }

    /// Compares a device's clock with the host's, by launches on a stream that has nothing else to do.
    ///
    /// Blocks until they have answered; where the device is full of kernels that wait, for `patience`.
    ///
    /// - Parameters:
    ///   - device: Whose clock.
    ///   - word: 8 pinned bytes for the answers.
    ///   - patience: How long the launches are awaited together.
    /// - Returns: nil where the device did not answer in time.
    /// - Throws: what the runtime says.
    package static func compare(
        on device: Device, using word: DeviceBuffer, patience: Duration
    ) throws(MoriError) -> Anchor? {
        let stream = try DeviceStream(on: device)
        return Anchor(try stream.readClock(count: launches, into: word, timeout: patience))
    }

    /// What the host's clock said when the device's said `time`.
    package func hostTime(of time: UInt64) -> UInt64 {
        var offset = begin.offset
        let span = Double(end.time) - Double(begin.time)
        if span > 0 {
            let part = (Double(time) - Double(begin.time)) / span
            let drift = Double(end.offset &- begin.offset)
            offset &+= Int64((drift * min(max(part, 0), 1)).rounded())
        }
        return time &- UInt64(bitPattern: offset)
    }

    /// Nanoseconds by which the device's clock was ahead when it was last compared.
    package var offset: Int64 { end.offset }
    /// Nanoseconds: times are wrong by half of it at most, while the clock goes at one rate.
    package var roundTrip: Int64 { max(begin.roundTrip, end.roundTrip) }
    /// Nanoseconds by which it gained on the host's in a second; 0: it was compared once.
    package var drift: Int64 {
        let gained = Double(end.offset &- begin.offset)
        let span = Double(end.time &- begin.time) - gained
        guard end.time > begin.time, span > 0 else { return 0 }
        return Int64(exactly: (gained / span * 1e9).rounded()) ?? .max
    }
}

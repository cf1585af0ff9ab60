import CHIP

/// What the clock of a device's traces said between two looks at this host's CLOCK_MONOTONIC, in
/// nanoseconds.
package struct ClockReading: Hashable, Sendable {
    package var before: UInt64
    package var device: UInt64
    package var after: UInt64

    package init(before: UInt64, device: UInt64, after: UInt64) {
        self.before = before
        self.device = device
        self.after = after
    }
}

extension DeviceStream {
    /// Reads the device's clock by launches on this stream, one after the other, and blocks until each
    /// has answered.
    ///
    /// - Parameters:
    ///   - count: How many launches.
    ///   - word: 8 pinned bytes for the answers.
    ///   - timeout: How long all are awaited together: a device may be full of kernels that wait for
    ///     peers.
    /// - Returns: The readings before the first that was not answered in time.
    /// - Throws: `unsupported` where the library has no traced kernels; what the runtime says.
    package func readClock(
        count: Int, into word: DeviceBuffer, timeout: Duration
    ) throws(MoriError) -> [ClockReading] {
        // It outlives a launch that answers too late.
        word.noteUse(on: self)
        let deadline = ContinuousClock.now + timeout
        var readings: [ClockReading] = []
        for _ in 0..<count {
            var raw = moriep_clock_reading()
            let status = unsafe device.library.table.pointee.read_clock(
                handle, UInt64(word.address),
                UInt64(max(0, (deadline - ContinuousClock.now).nanoseconds)), &raw)
            if status == MORIEP_NOT_READY { break }
            try device.library.check(status, "read_clock")
            readings.append(
                ClockReading(before: raw.before_ns, device: raw.device_ns, after: raw.after_ns))
        }
        return readings
    }
}

extension Device {
    /// Whether its library has kernels that leave traces.
    package var canTrace: Bool { unsafe library.table.pointee.can_trace != 0 }
}

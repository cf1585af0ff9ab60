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
    ///   - timeout: How long each is awaited: a device may be full of kernels that wait for peers.
    /// - Returns: The readings before the first that was not answered in time.
    /// - Throws: `unsupported` where the library has no traced kernels; what the runtime says.
    package func readClock(
        count: Int, timeout: Duration
    ) throws(MoriError) -> [ClockReading] {
        let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
        // It outlives a launch that answers too late.
        word.noteUse(on: self)
        var readings: [ClockReading] = []
        for _ in 0..<count {
            var raw = moriep_clock_reading()
            let status = unsafe device.library.table.pointee.read_clock(
                handle, UInt64(word.address), UInt64(timeout.nanoseconds), &raw)
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

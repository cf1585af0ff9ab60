extension Duration {
    /// Whole nanoseconds; what 64 bits cannot hold, some 292 years, is the most that they can.
    package var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (nanoseconds, carry) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        guard overflow || carry else { return nanoseconds }
        return seconds < 0 ? .min : .max
    }
}

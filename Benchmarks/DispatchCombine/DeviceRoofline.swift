import MoriDevice

/// The roofline on a GPU, where the host cannot loop over the buffers: the device's own copies of
/// the phase's rows, and their time scaled from what copies move to what the phase must move.
struct DeviceRoofline {
    private let source: DeviceTensor
    private let destination: DeviceTensor
    private let rows: Int
    private let unavoidableRows: Int

    /// Describes copies of `rows` rows of `destination`, taken from `source` in turn, and how many
    /// rows the phase must read and write in all.
    init(from source: DeviceTensor, to destination: DeviceTensor, rows: Int, unavoidableRows: Int) {
        self.source = source
        self.destination = destination
        self.rows = rows
        self.unavoidableRows = unavoidableRows
    }

    /// Runs the copies once.
    func measure(
        on stream: DeviceStream, marks: PhaseMarks, clock: EventClock
    ) async throws(MoriError) -> Interval {
        let row = destination.elementType.byteCount(of: destination.shape[1])
        let step = max(1, source.shape[0])
        try marks.begin(on: stream)
        for first in stride(from: 0, to: source.shape[0] > 0 ? rows : 0, by: step) {
            try stream.copy(
                to: destination.address + UInt(first * row), from: source.address,
                byteCount: min(step, rows - first) * row)
        }
        try marks.finish(on: stream)
        try await stream.completion()
        var interval = try marks.interval(clock)
        // A copy reads and writes each of its rows.
        interval.ended =
            interval.began + interval.nanoseconds * Int64(unavoidableRows) / Int64(max(1, 2 * rows))
        return interval
    }
}

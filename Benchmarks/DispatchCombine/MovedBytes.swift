import MoriDevice

/// Bytes of rows, with their scales and metadata, that the kernels of one round moved: what
/// `DeviceStream.rowTraffic` counts on the host device.
struct MovedBytes: Sendable, Codable {
    /// One verb's; what is read once and stored at several places counts once as read.
    struct Verb: Sendable, Codable {
        var bytesRead: Int
        var bytesWritten: Int

        /// What came between two readings of a stream's counters.
        init(_ earlier: RowTraffic, _ later: RowTraffic) {
            let difference = later - earlier
            bytesRead = difference.bytesRead
            bytesWritten = difference.bytesWritten
        }

        private init(bytesRead: Int, bytesWritten: Int) {
            self.bytesRead = bytesRead
            self.bytesWritten = bytesWritten
        }

        fileprivate static func + (left: Self, right: Self) -> Self {
            Self(
                bytesRead: left.bytesRead + right.bytesRead,
                bytesWritten: left.bytesWritten + right.bytesWritten)
        }
    }

    var dispatch: Verb
    var combine: Verb

    /// What a round moved, by the counters before dispatch, after it, and after combine; nil where
    /// the device does not count.
    init?(before: RowTraffic?, between: RowTraffic?, after: RowTraffic?) {
        guard let before, let between, let after else { return nil }
        dispatch = Verb(before, between)
        combine = Verb(between, after)
    }

    /// All ranks together; nil when they did not count.
    init?(sumOf ranks: [MovedBytes]) {
        guard let first = ranks.first else { return nil }
        self = ranks.dropFirst().reduce(into: first) { sum, rank in
            sum.dispatch = sum.dispatch + rank.dispatch
            sum.combine = sum.combine + rank.combine
        }
    }
}

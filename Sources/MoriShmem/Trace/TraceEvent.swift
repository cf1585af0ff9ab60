import Glibc
package import MoriDevice

/// What kind of thing an event is, as the file says it.
package enum TraceCategory: String, Hashable, Sendable {
    /// A launch, by one of its warps.
    case kernel
    /// A wait in it for any number of peers, or for the own network.
    case wait
    /// The part of a wait that was for one peer, which came.
    case peer
    /// The part of a wait that was for one peer, which did not.
    case gaveUp = "gave up"
    /// A rank tells another what ends its wait.
    case signal
    /// How many rows a round received.
    case rows
    /// A call.
    case host
    /// What the proxy did, and what the network had under way for it.
    case proxy, nic
}

/// One thing that a rank did, on one of its tracks.
package struct TraceEvent: Sendable {
    /// What it is in the file.
    package enum Kind: Sendable {
        /// Lasts until a time.
        case slice(end: UInt64)
        case instant
        /// An arrow begins here, or ends here.
        case flowOut(id: String)
        case flowIn(id: String)
        /// Lasts until a time, and others of its track may overlap it.
        case underWay(end: UInt64, id: String)
        case counter(value: Int)
    }

    package var kind: Kind
    /// The track, by its number in the rank.
    package var track: Int
    package var name: String
    package var category: TraceCategory
    /// Nanoseconds of this host's monotonic clock.
    package var time: UInt64
    /// What is known of it, by name.
    package var details: [(name: String, value: Int)]

    package init(
        _ kind: Kind, track: Int, name: String, category: TraceCategory, time: UInt64,
        details: [(name: String, value: Int)] = []
    ) {
        self.kind = kind
        self.track = track
        self.name = name
        self.category = category
        self.time = time
        self.details = details
    }
}

/// What was recorded of one operator of a rank.
package struct CollectedTrace: Sendable {
    /// A row of the picture.
    package struct Track: Sendable {
        package var number: Int
        package var name: String

        package init(number: Int, name: String) {
            self.number = number
            self.name = name
        }
    }

    /// What it is, in words.
    package var name: String
    package var tracks: [Track] = []
    package var events: [TraceEvent] = []
    /// Records that found no room.
    package var lost = 0
    /// Phases whose begin or end is missing: cut off at the last record, or dropped.
    package var mended = 0
    /// Of a device whose clock is not its host's: how its records' times became the host's.
    package var clock: DeviceClock?
    /// Where each expert lives; -1: nowhere.
    package var expertRanks: [Int] = []
    /// How often this rank's tokens chose each expert.
    package var chosen: [Int] = []

    package init(name: String) { self.name = name }
}

/// What can be asked for what it recorded: an operator's trace.
package protocol TraceSource: AnyObject, Sendable {
    /// Whether it still records.
    var isRecording: Bool { get }

    /// Everything recorded so far.
    ///
    /// - Parameter number: Which operator of the rank it is in the file: the first number of its tracks.
    /// - Returns: What is known of the operator, and its events.
    /// - Throws: what the device's runtime says.
    func collect(number: Int) async throws(MoriError) -> CollectedTrace
}

extension TraceEvent {
    /// The clock of all times in a trace: CLOCK_MONOTONIC, which all processes of a host share.
    package static func now() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// The numbers of an operator's tracks: those of the kernels' warps come last.
    package static let tracksOfOperator = 10_000_000
    package static let hostTrack = 1
    package static let proxyTrack = 2
    package static let networkTrack = 3

    /// A warp's track.
    package static func warpTrack(slot: Int, block: Int, warp: Int) -> Int {
        100 + slot * 70_000 + block * 32 + warp
    }
}

import MoriDevice
import MoriShmem

// The events of a file, each of which is checked before anything is computed from it.

extension TraceFile {
    /// Rows that one round may receive, at most: a record has 30 bits for them.
    private static let mostRows = 1 << 30 - 1

    /// An event in its place, with what is known of its file.
    private struct Found {
        var event: TraceText.Event
        var place: Int
        var path: String
        /// Nanoseconds between the first file's begin and that of this one.
        var shift: Int

        func damaged(_ problem: String) -> MoriError {
            TraceText.damaged(path, "event \(place) \(problem)")
        }

        /// When it was.
        func time() throws(MoriError) -> Int {
            guard let microseconds = event.ts, event.tid != nil else {
                throw damaged("has no time, or no track")
            }
            guard let time = Nanoseconds.of(microseconds: microseconds) else {
                throw damaged(
                    "has the time \(microseconds) µs; legal is up to"
                        + " \(Words.duration(Nanoseconds.most)) from the begin")
            }
            return time + shift
        }

        /// How long it lasted, by its own word.
        func length() throws(MoriError) -> Int {
            let microseconds = event.dur ?? 0
            guard let length = Nanoseconds.of(microseconds: microseconds), length >= 0 else {
                throw damaged(
                    "lasts \(microseconds) µs; legal is 0 to \(Words.duration(Nanoseconds.most))")
            }
            return length
        }

        /// Whether ranks are those of the world, and its own one of those that the file describes.
        func checkRanks(_ worldSize: Int, described: Set<Int>) throws(MoriError) {
            guard (0..<worldSize).contains(event.pid) else {
                throw damaged("is of rank \(event.pid) of \(worldSize)")
            }
            guard described.contains(event.pid) else {
                throw damaged("is of rank \(event.pid), which it does not describe")
            }
            if let peer = event.args?.peer, !(0..<worldSize).contains(peer) {
                throw damaged("is about rank \(peer) of \(worldSize)")
            }
        }
    }

    /// Adds what a file's events say.
    ///
    /// - Throws: `invalidArgument` for an event that no trace has.
    mutating func add(_ text: TraceText, from path: String, shift: Int) throws(MoriError) {
        let described = Set(text.moriEP.ranks.map(\.rank))
        // Begins of what others of its track may overlap, by name.
        var underWay: [String: (found: Found, begin: Int)] = [:]
        for (place, event) in text.traceEvents.enumerated() where event.ph != "M" {
            let found = Found(event: event, place: place, path: path, shift: shift)
            let time = try found.time()
            try found.checkRanks(worldSize, described: described)
            switch event.ph {
            case "X":
                try addSlice(found, from: time, to: time + found.length())
            case "b":
                if let id = event.id { underWay[id] = (found, time) }
            case "e":
                guard let start = event.id.flatMap({ underWay.removeValue(forKey: $0) }) else {
                    continue
                }
                guard time >= start.begin else { throw found.damaged("ends before its begin") }
                try addSlice(start.found, from: start.begin, to: time)
            case "i":
                try addInstant(found, at: time)
            default: break
            }
        }
    }

    private mutating func addSlice(
        _ found: Found, from begin: Int, to end: Int
    ) throws(MoriError) {
        let event = found.event
        guard let category = event.cat.flatMap(TraceCategory.init), let track = event.tid else {
            return
        }
        let details = event.args
        if category.isOfPeer, details?.peer == nil { throw found.damaged("waits for no rank") }
        slices.append(
            Slice(
                rank: event.pid, track: track, name: event.name, category: category, begin: begin,
                end: end, slot: details?.slot ?? 0, epoch: details?.epoch ?? 0,
                peer: details?.peer ?? -1, index: details?.index ?? 0, phase: details?.phase ?? 0))
    }

    private mutating func addInstant(_ found: Found, at time: Int) throws(MoriError) {
        let event = found.event
        guard let category = event.cat.flatMap(TraceCategory.init), let track = event.tid else {
            return
        }
        let details = event.args
        if category == .signal, details?.peer == nil { throw found.damaged("tells no rank") }
        let rows = details?.rows ?? 0
        guard (0...Self.mostRows).contains(rows) else {
            throw found.damaged("has \(rows) rows; legal are 0 to \(Self.mostRows)")
        }
        instants.append(
            Instant(
                rank: event.pid, number: track / TraceEvent.tracksOfOperator, name: event.name,
                category: category, time: time, slot: details?.slot ?? 0,
                epoch: details?.epoch ?? 0, peer: details?.peer ?? -1, index: details?.index ?? 0,
                phase: details?.phase ?? 0, rows: rows))
    }
}

extension TraceCategory {
    /// Whether a slice is a wait for one peer.
    var isOfPeer: Bool { self == .peer || self == .gaveUp }

    /// Whether a slice is of the kernels of a round.
    var isOfKernels: Bool { self == .kernel || self == .wait || isOfPeer }
}

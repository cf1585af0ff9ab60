package import FoundationEssentials
package import MoriDevice
import MoriShmem

/// What one or several files of a trace say, with all times on one axis.
///
/// Whatever the files say, ranks, peers and times are those of a world by then: see `TraceFile+Events.swift`.
package struct TraceFile: Sendable {
    /// A rank, as the file describes it.
    package struct Rank: Sendable, Codable {
        package struct Operator: Sendable, Codable {
            var name: String
            var lost: Int
            var mended: Int
            var expertRanks: [Int]
            var chosen: [Int]
            var deviceClock: DeviceClock?
        }
        /// How the clock of a rank's device was aligned with its host's.
        package struct DeviceClock: Sendable, Codable {
            var offsetNanoseconds: Int
            var roundTripNanoseconds: Int
            var driftNanosecondsPerSecond: Int
            var comparisons: Int
        }
        package var rank: Int
        var host: Int
        var device: String
        var clockOffsetNanoseconds: Int
        var clockRoundTripNanoseconds: Int
        var operators: [Operator]
    }

    /// What lasts: a phase, a wait for a peer, a call, a post, a transfer.
    package struct Slice: Hashable, Sendable {
        var rank: Int
        var track: Int
        var name: String
        var category: TraceCategory
        /// Nanoseconds from the trace's begin.
        var begin: Int
        var end: Int
        var slot: Int
        var epoch: Int
        /// -1: it is about none.
        var peer: Int
        var index: Int
        var phase: Int

        var duration: Int { end - begin }
        /// Which of its rank's operators.
        var number: Int { track / TraceEvent.tracksOfOperator }
    }

    /// What a rank told another, or learnt: a signal, the number of rows received.
    package struct Instant: Hashable, Sendable {
        var rank: Int
        var number: Int
        var name: String
        var category: TraceCategory
        var time: Int
        var slot: Int
        var epoch: Int
        var peer: Int
        var index: Int
        var phase: Int
        var rows: Int
    }

    package let worldSize: Int
    package private(set) var ranks: [Rank] = []
    package internal(set) var slices: [Slice] = []
    package internal(set) var instants: [Instant] = []
    /// What whoever reads the report must know.
    package private(set) var notes: [String] = []

    /// Reads files that belong together: one of all ranks, or one of each.
    ///
    /// - Throws: `invalidArgument` that says what was found and what is legal.
    package init(paths: [String]) throws(MoriError) {
        try self.init(
            files: paths.map { (path) throws(MoriError) in
                (path: path, bytes: try TraceText.bytes(of: path))
            })
    }

    /// Reads the bytes of files that belong together.
    ///
    /// - Throws: `invalidArgument` that says what was found and what is legal.
    package init(files: [(path: String, bytes: Data)]) throws(MoriError) {
        let texts = try files.map { (file) throws(MoriError) in
            (path: file.path, text: try TraceText.decode(file.bytes, of: file.path))
        }
        guard let first = texts.first else {
            throw MoriError(.invalidArgument, "no file; legal is one trace, or one of each rank")
        }
        worldSize = first.text.moriEP.worldSize
        let zero = texts.map(\.text.moriEP.zeroNanoseconds).min() ?? 0
        var origins: [Int: String] = [:]
        for (path, text) in texts {
            let about = text.moriEP
            try Self.check(about, of: path)
            guard about.worldSize == worldSize else {
                throw MoriError(
                    .invalidArgument,
                    "\(path) is of a world of \(about.worldSize) ranks, \(first.path) of one of"
                        + " \(worldSize); give the files of one world")
            }
            for rank in about.ranks {
                if let other = origins[rank.rank] {
                    throw MoriError(
                        .invalidArgument,
                        "rank \(rank.rank) is in \(other) and in \(path); give each rank once")
                }
                origins[rank.rank] = path
            }
            ranks += about.ranks
            let shift = Int(clamping: about.zeroNanoseconds - zero)
            guard shift <= Nanoseconds.most else {
                throw MoriError(
                    .invalidArgument,
                    "\(path) begins \(Words.duration(shift)) after another file; give the files of one"
                        + " world")
            }
            try add(text, from: path, shift: shift)
        }
        ranks.sort { $0.rank < $1.rank }
        guard slices.contains(where: { $0.category == .kernel }) else {
            throw MoriError(
                .invalidArgument,
                "\(first.path) is a trace without a round; take one of work that is enqueued after"
                    + " startTrace(on:), and export it once that is done")
        }
        addNotes(fileCount: files.count)
    }

    private static func check(_ about: TraceText.About, of path: String) throws(MoriError) {
        let most = SymmetricMemory.maxWorldSize
        guard (1...most).contains(about.worldSize) else {
            throw TraceText.damaged(
                path, "it is of a world of \(about.worldSize) ranks; legal are 1 to \(most)")
        }
        let world = 0..<about.worldSize
        var described: Set<Int> = []
        for rank in about.ranks {
            guard world.contains(rank.rank) else {
                throw TraceText.damaged(
                    path, "it describes rank \(rank.rank) of \(about.worldSize)")
            }
            guard described.insert(rank.rank).inserted else {
                throw TraceText.damaged(path, "it describes rank \(rank.rank) twice")
            }
            for part in rank.operators {
                guard part.lost >= 0, part.mended >= 0, part.chosen.allSatisfy({ $0 >= 0 }) else {
                    throw TraceText.damaged(
                        path, "rank \(rank.rank) counted a number below 0 of records or experts")
                }
                if let clock = part.deviceClock, clock.roundTripNanoseconds < 0 {
                    throw TraceText.damaged(
                        path,
                        "the clock of rank \(rank.rank)'s device answered in"
                            + " \(clock.roundTripNanoseconds) ns")
                }
                // -1: at a rank that is gone.
                if let home = part.expertRanks.first(where: { $0 != -1 && !world.contains($0) }) {
                    throw TraceText.damaged(
                        path,
                        "rank \(rank.rank) has an expert at rank \(home) of \(about.worldSize)")
                }
            }
        }
    }

    private mutating func addNotes(fileCount: Int) {
        let missing = Set(0..<worldSize).subtracting(ranks.map(\.rank)).sorted()
        if !missing.isEmpty {
            notes.append(
                "Not in the trace: rank\(missing.count == 1 ? "" : "s")"
                    + " \(missing.map(String.init).joined(separator: ", ")).")
        }
        if fileCount > 1, Set(ranks.map(\.host)).count > 1 {
            notes.append(
                "The files are of several hosts whose clocks were not aligned: times between hosts may be"
                    + " off by any amount.")
        }
        if let worst = ranks.map(\.clockRoundTripNanoseconds).max(), worst > 0 {
            notes.append(
                "Clocks of different hosts were aligned to \(Words.duration(worst / 2)) or better.")
        }
        let clocks = ranks.flatMap(\.operators).compactMap(\.deviceClock)
        if let worst = clocks.map(\.roundTripNanoseconds).max() {
            let drift = clocks.map(\.driftNanosecondsPerSecond.magnitude).max() ?? 0
            notes.append(
                "Clocks of devices were aligned with their hosts' to \(Words.duration(worst / 2)) or better;"
                    + " the one that drifts most was taken to gain or lose \(drift) ns in a second."
            )
        }
        let once = ranks.filter { $0.operators.contains { $0.deviceClock?.comparisons == 1 } }
        if !once.isEmpty {
            notes.append(
                "When the trace began, devices of these ranks were too busy to tell their time, and what"
                    + " their clocks drift is not taken out:"
                    + " \(once.map { "\($0.rank)" }.joined(separator: ", ")).")
        }
        for rank in ranks {
            let lost = rank.operators.map(\.lost).clampedSum
            if lost > 0 {
                notes.append(
                    "Rank \(rank.rank) had no room for \(lost) records: its last rounds are missing."
                        + " Start the trace with a larger recordCapacity.")
            }
            let mended = rank.operators.map(\.mended).clampedSum
            if mended > 0 {
                notes.append(
                    "Rank \(rank.rank) has \(mended) phases without an end or a begin: they are cut off at"
                        + " its last record, or left out.")
            }
        }
    }
}

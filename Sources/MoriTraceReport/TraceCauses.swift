import MoriEP

/// Why ranks waited: looks once at each round, and then says the largest causes in words.
struct TraceCauses {
    typealias Cause = TraceAnalysis.Cause
    typealias Round = TraceAnalysis.Round

    private enum Verb: String, CaseIterable {
        case dispatch
        case combine

        /// Whether a wait, or the signal that ends one, is of this verb.
        func has(phase: Int) -> Bool { TracePhase.isOfCombine(phase) == (self == .combine) }
    }

    /// How a rank was in the verb of one round, up to its last signal.
    private struct Course {
        var start: Int
        /// From the start to its last signal, without its own waits.
        var busy: Int
    }

    /// What others waited for a rank in one verb.
    private struct Lateness {
        var total = 0
        var worst: (rank: Int, round: Int, nanoseconds: Int) = (0, 0, 0)
        /// Of each round that it was awaited in: how much later than the median of the others it began,
        /// and how much longer it took.
        var late: [Int] = []
        var longer: [Int] = []

        /// Adds what ranks waited in one round.
        mutating func add(_ byRank: [Int: Int], round: Int) {
            for (rank, nanoseconds) in byRank.sorted(by: { $0.key < $1.key }) {
                total.addClamped(nanoseconds)
                if nanoseconds > worst.nanoseconds { worst = (rank, round, nanoseconds) }
            }
        }
    }

    /// What a rank waited for its own proxy and NIC.
    private struct OwnNetwork {
        var total = 0
        var longest: (nanoseconds: Int, round: Int) = (0, 0)
    }

    private let worldSize: Int
    private let roundCount: Int
    private var lateness: [Verb: [Lateness]] = [:]
    private var ownNetwork: [OwnNetwork]
    /// Nanoseconds that a rank spent on the rows it received; the time of the rank, not of all its warps.
    private var onRows: [Int]
    /// Rows that a rank received, as a multiple of the mean; nil where it is not known.
    private var relativeRows: [Double]?

    /// What is done with received rows.
    private static let phasesOfRows = ["dispatch unpack", "combine send"]

    init(_ rounds: [Round], worldSize: Int) {
        self.worldSize = worldSize
        roundCount = rounds.count
        ownNetwork = Array(repeating: OwnNetwork(), count: worldSize)
        onRows = Array(repeating: 0, count: worldSize)
        for verb in Verb.allCases {
            lateness[verb] = Array(repeating: Lateness(), count: worldSize)
        }
        for round in rounds {
            for verb in Verb.allCases { addLateness(verb, in: round) }
            addOwnNetwork(in: round)
            addRows(in: round)
        }
        relativeRows = Self.relativeRows(rounds, worldSize: worldSize)
    }

    /// The three that cost most.
    var largest: [Cause] {
        var found: [Cause] = []
        for verb in Verb.allCases {
            for (peer, lateness) in (lateness[verb] ?? []).enumerated() where lateness.total > 0 {
                found.append(cause(lateness, of: peer, in: verb))
            }
        }
        for (rank, waits) in ownNetwork.enumerated() where waits.total > 0 {
            found.append(cause(waits, of: rank))
        }
        if let cause = imbalance() { found.append(cause) }
        return Array(found.sorted { $0.nanoseconds > $1.nanoseconds }.prefix(3))
    }

    // -------------------------------------------------------------------------------------------
    // What a round says

    private mutating func addLateness(_ verb: Verb, in round: Round) {
        // Nanoseconds by awaited rank, and by who waited.
        var waited: [Int: [Int: Int]] = [:]
        for slice in round.slices where verb.has(phase: slice.phase) {
            guard let peer = slice.awaited, peer != slice.rank else { continue }
            waited[peer, default: [:]][slice.rank, default: 0].addClamped(slice.duration)
        }
        guard !waited.isEmpty else { return }
        let courses = courses(verb, in: round)
        let starts = Nanoseconds.Ordered(courses.values.map(\.start))
        let busy = Nanoseconds.Ordered(courses.values.map(\.busy))
        for (peer, byRank) in waited {
            lateness[verb]?[peer].add(byRank, round: round.key.epoch)
            guard byRank.values.contains(where: { $0 > 0 }), let own = courses[peer],
                let start = starts.median(without: own.start),
                let length = busy.median(without: own.busy)
            else { continue }
            lateness[verb]?[peer].late.append(own.start - start)
            lateness[verb]?[peer].longer.append(own.busy - length)
        }
    }

    /// How each rank was in a verb; those are missing of which there is no phase.
    private func courses(_ verb: Verb, in round: Round) -> [Int: Course] {
        var spans: [Int: (start: Int, end: Int)] = [:]
        let prefix = verb.rawValue + " "
        for slice in round.slices where slice.category == .kernel && slice.name.hasPrefix(prefix) {
            let span = spans[slice.rank] ?? (slice.begin, slice.end)
            spans[slice.rank] = (min(span.start, slice.begin), max(span.end, slice.end))
        }
        var told: [Int: Int] = [:]
        for signal in round.signals where verb.has(phase: signal.phase) {
            told[signal.rank] = max(told[signal.rank] ?? signal.time, signal.time)
        }
        for (rank, time) in told { spans[rank]?.end = time }
        var waited: [Int: Int] = [:]
        for slice in round.slices where slice.awaited != nil && verb.has(phase: slice.phase) {
            guard let span = spans[slice.rank], slice.end <= span.end else { continue }
            waited[slice.rank, default: 0].addClamped(slice.duration)
        }
        var courses: [Int: Course] = [:]
        for (rank, span) in spans {
            courses[rank] = Course(
                start: span.start, busy: span.end - span.start - (waited[rank] ?? 0))
        }
        return courses
    }

    private mutating func addOwnNetwork(in round: Round) {
        for slice in round.slices where slice.isForOwnNetwork {
            let duration = slice.duration
            ownNetwork[slice.rank].total.addClamped(duration)
            if duration > ownNetwork[slice.rank].longest.nanoseconds {
                ownNetwork[slice.rank].longest = (duration, slice.epoch)
            }
        }
    }

    private mutating func addRows(in round: Round) {
        for name in Self.phasesOfRows {
            var spans: [Int: (begin: Int, end: Int)] = [:]
            for slice in round.slices where slice.name == name {
                let span = spans[slice.rank] ?? (slice.begin, slice.end)
                spans[slice.rank] = (min(span.begin, slice.begin), max(span.end, slice.end))
            }
            for (rank, span) in spans { onRows[rank].addClamped(span.end - span.begin) }
        }
    }

    /// Of the rounds in which all ranks said how many they received.
    private static func relativeRows(_ rounds: [Round], worldSize: Int) -> [Double]? {
        var rows = Array(repeating: 0, count: worldSize)
        for round in rounds where round.receivedRows.count == worldSize {
            for (rank, count) in round.receivedRows { rows[rank].addClamped(count) }
        }
        let all = rows.clampedSum
        guard all > 0 else { return nil }
        return rows.map { Double($0) * Double(worldSize) / Double(all) }
    }

    // -------------------------------------------------------------------------------------------
    // In words

    /// What others waited for a rank.
    private func cause(_ lateness: Lateness, of peer: Int, in verb: Verb) -> Cause {
        let lateBy = Nanoseconds.median(lateness.late)
        let longerBy = Nanoseconds.median(lateness.longer)
        let beganLate = lateBy >= longerBy
        let worst = lateness.worst
        var text =
            "The other ranks waited \(Words.duration(lateness.total)) for rank \(peer) in"
            + " \(verb.rawValue), in \(Words.count(roundCount, "round")) together; at most rank"
            + " \(worst.rank), \(Words.duration(worst.nanoseconds)) in round \(worst.round). "
        if lateness.late.isEmpty {
            text += "Rank \(peer) itself is not in the trace."
        } else if max(lateBy, longerBy) <= 0 {
            text +=
                "It began with the others and was as fast: their words came in the order of ranks."
        } else {
            text +=
                beganLate
                ? "It began \(verb.rawValue) \(Words.duration(lateBy)) after the median rank"
                : "It took \(Words.duration(longerBy)) longer than the median rank to send"
            text +=
                beganLate
                ? (verb == .dispatch
                    ? ": look at what it does before, on its host or its stream."
                    : ": its experts, or what else lies between, took longer than the others'.")
                : "."
        }
        if verb == .combine, let rows = relativeRows?[peer], rows >= 1.1 {
            text += " It received \(Words.digits(rows)) times as many rows as the mean rank."
        }
        let title =
            lateness.late.isEmpty || max(lateBy, longerBy) <= 0
            ? "Rank \(peer) was awaited in \(verb.rawValue)"
            : beganLate
                ? "Rank \(peer) began \(verb.rawValue) late"
                : "Rank \(peer) was slow in \(verb.rawValue)"
        return Cause(title: title, text: text, nanoseconds: lateness.total, rank: peer)
    }

    /// What a rank waited for its own proxy and NIC.
    private func cause(_ waits: OwnNetwork, of rank: Int) -> Cause {
        Cause(
            title: "Rank \(rank) waited for its own network",
            text:
                "Rank \(rank) waited \(Words.duration(waits.total)) for room in a ring or for packets of"
                + " the round before to be sent; at most \(Words.duration(waits.longest.nanoseconds)) in"
                + " round \(waits.longest.round).", nanoseconds: waits.total, rank: rank)
    }

    /// What the rank that received most rows spent on them beyond the median rank.
    private func imbalance() -> Cause? {
        guard let shares = relativeRows,
            let most = shares.indices.max(by: { shares[$0] < shares[$1] }), shares[most] >= 1.1
        else { return nil }
        let others = onRows.indices.filter { $0 != most }.map { onRows[$0] }
        let extra = onRows[most] - Nanoseconds.median(others)
        guard extra > 0 else { return nil }
        return Cause(
            title: "Rank \(most) received most rows",
            text:
                "Rank \(most) received \(Words.digits(shares[most])) times as many rows as the mean rank,"
                + " and spent \(Words.duration(extra)) longer on sending them back than the median rank."
                + " Its experts have as much more to do.", nanoseconds: extra, rank: most)
    }
}

extension TraceFile.Slice {
    /// Whether it is a wait for the rank's own proxy and NIC.
    var isForOwnNetwork: Bool { name.hasPrefix("wait for own network") }
}

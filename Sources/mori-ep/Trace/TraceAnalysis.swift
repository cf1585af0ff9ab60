/// What a trace says about who waited for whom, and why.
struct TraceAnalysis: Sendable {
    /// A round of one operator's slot.
    struct Key: Hashable, Sendable, Comparable {
        var number: Int
        var slot: Int
        var epoch: Int

        static func < (a: Key, b: Key) -> Bool {
            (a.number, a.epoch, a.slot) < (b.number, b.epoch, b.slot)
        }
    }

    /// One round on all ranks.
    struct Round: Sendable {
        var key: Key
        var begin = Int.max
        var end = 0
        /// Kernels' phases, and the waits in them.
        var slices: [TraceFile.Slice] = []
        var signals: [TraceFile.Instant] = []
        /// By rank; -1: not known.
        var receivedRows: [Int]
        /// Nanoseconds that a rank waited for another: [rank][peer]; the diagonal is itself.
        var waits: [[Int]]
    }

    /// A reason for waiting, in words.
    struct Cause: Sendable, Codable {
        var title: String
        var text: String
        /// What it cost all ranks together.
        var nanoseconds: Int
        /// The rank that it is about.
        var rank: Int
    }

    let worldSize: Int
    private(set) var rounds: [Round] = []
    /// Nanoseconds of all rounds: [rank][peer].
    private(set) var waits: [[Int]]
    private(set) var causes: [Cause] = []
    /// Nanoseconds that all ranks spent in the kernels of rounds, and waiting for others in them.
    private(set) var busyNanoseconds = 0
    private(set) var waitNanoseconds = 0

    init(_ file: TraceFile) {
        worldSize = file.worldSize
        waits = Array(repeating: Array(repeating: 0, count: file.worldSize), count: file.worldSize)
        var byKey: [Key: Round] = [:]
        func key(_ number: Int, _ slot: Int, _ epoch: Int) -> Key {
            Key(number: number, slot: slot, epoch: epoch)
        }
        let empty = waits
        for slice in file.slices where Self.isOfKernels(slice) {
            let key = key(slice.number, slice.slot, slice.epoch)
            var round =
                byKey[key]
                ?? Round(
                    key: key, receivedRows: Array(repeating: -1, count: worldSize), waits: empty)
            byKey[key] = nil  // so that it is not copied
            round.begin = min(round.begin, slice.begin)
            round.end = max(round.end, slice.end)
            round.slices.append(slice)
            if let peer = Self.awaited(slice), peer < worldSize {
                round.waits[slice.rank][peer] += slice.duration
                waits[slice.rank][peer] += slice.duration
                if peer != slice.rank { waitNanoseconds += slice.duration }
            }
            if slice.category == "kernel" { busyNanoseconds += slice.duration }
            byKey[key] = round
        }
        for instant in file.instants {
            let key = key(instant.number, instant.slot, instant.epoch)
            if instant.category == "signal" {
                byKey[key]?.signals.append(instant)
            } else if instant.category == "rows" {
                byKey[key]?.receivedRows[instant.rank] = instant.rows
            }
        }
        rounds = byKey.values.sorted { $0.key < $1.key }
        causes = findCauses()
    }

    private static func isOfKernels(_ slice: TraceFile.Slice) -> Bool {
        ["kernel", "wait", "peer", "gave up"].contains(slice.category)
    }

    /// For whom a slice waits; nil: it is no wait for a peer.
    private static func awaited(_ slice: TraceFile.Slice) -> Int? {
        slice.category == "peer" || slice.category == "gave up" ? slice.peer : nil
    }

    // -------------------------------------------------------------------------------------------
    // Causes

    private enum Verb: String, CaseIterable {
        case dispatch
        case combine

        /// Whether a wait of a moriep_phase is of this verb.
        func has(phase: Int) -> Bool { (phase == 3 || phase == 5) == (self == .combine) }
    }

    /// How a rank was in the verb of one round, up to its last signal.
    private struct Course {
        var start: Int
        /// From the start to its last signal, without its own waits.
        var busy: Int
    }

    private func course(of rank: Int, _ verb: Verb, in round: Round) -> Course? {
        let own = round.slices.filter { $0.rank == rank }
        let kernels = own.filter {
            $0.category == "kernel" && $0.name.hasPrefix(verb.rawValue + " ")
        }
        guard let start = kernels.map(\.begin).min() else { return nil }
        let told = round.signals.filter { $0.rank == rank && verb.has(phase: $0.phase) }.map(\.time)
        let end = told.max() ?? kernels.map(\.end).max() ?? start
        let waited = own.filter { slice in
            Self.awaited(slice) != nil && verb.has(phase: slice.phase) && slice.end <= end
        }
        return Course(start: start, busy: end - start - waited.map(\.duration).reduce(0, +))
    }

    private static func median(_ values: [Int]) -> Int {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return 0 }
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// The three that cost most.
    private func findCauses() -> [Cause] {
        var found: [Cause] = []
        for verb in Verb.allCases {
            for peer in 0..<worldSize {
                if let cause = lateness(of: peer, in: verb) { found.append(cause) }
            }
        }
        for rank in 0..<worldSize {
            if let cause = ownNetwork(of: rank) { found.append(cause) }
        }
        if let cause = imbalance() { found.append(cause) }
        return Array(found.sorted { $0.nanoseconds > $1.nanoseconds }.prefix(3))
    }

    /// What others waited for a rank.
    private func lateness(of peer: Int, in verb: Verb) -> Cause? {
        var total = 0
        var worst: (rank: Int, round: Int, nanoseconds: Int) = (0, 0, 0)
        var late: [Int] = []
        var longer: [Int] = []
        for round in rounds {
            var byRank: [Int: Int] = [:]
            for slice in round.slices where slice.rank != peer && Self.awaited(slice) == peer {
                guard verb.has(phase: slice.phase) else { continue }
                byRank[slice.rank, default: 0] += slice.duration
            }
            let sum = byRank.values.reduce(0, +)
            total += sum
            for (rank, nanoseconds) in byRank.sorted(by: { $0.key < $1.key })
            where nanoseconds > worst.nanoseconds {
                worst = (rank, round.key.epoch, nanoseconds)
            }
            let courses = (0..<worldSize).map { course(of: $0, verb, in: round) }
            guard sum > 0, let own = courses[peer] else { continue }
            let others = courses.enumerated().filter { $0.offset != peer }.compactMap(\.element)
            guard !others.isEmpty else { continue }
            late.append(own.start - Self.median(others.map(\.start)))
            longer.append(own.busy - Self.median(others.map(\.busy)))
        }
        guard total > 0 else { return nil }
        let lateBy = Self.median(late)
        let longerBy = Self.median(longer)
        let beganLate = lateBy >= longerBy
        let rows = relativeRows(of: peer)
        var text =
            "The other ranks waited \(Words.duration(total)) for rank \(peer) in"
            + " \(verb.rawValue), in \(Words.count(rounds.count, "round")) together; at most rank"
            + " \(worst.rank), \(Words.duration(worst.nanoseconds)) in round \(worst.round). "
        if late.isEmpty {
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
        if verb == .combine, let rows, rows >= 1.1 {
            text += " It received \(Words.digits(rows)) times as many rows as the mean rank."
        }
        let title =
            late.isEmpty || max(lateBy, longerBy) <= 0
            ? "Rank \(peer) was awaited in \(verb.rawValue)"
            : beganLate
                ? "Rank \(peer) began \(verb.rawValue) late"
                : "Rank \(peer) was slow in \(verb.rawValue)"
        return Cause(title: title, text: text, nanoseconds: total, rank: peer)
    }

    /// Rows that a rank received, as a multiple of the mean.
    private func relativeRows(of rank: Int) -> Double? {
        let known = rounds.filter { !$0.receivedRows.contains(-1) }
        let all = known.flatMap(\.receivedRows).reduce(0, +)
        guard all > 0 else { return nil }
        return Double(known.map { $0.receivedRows[rank] }.reduce(0, +) * worldSize) / Double(all)
    }

    /// What a rank waited for its own proxy and NIC.
    private func ownNetwork(of rank: Int) -> Cause? {
        let waits = rounds.flatMap(\.slices).filter {
            $0.rank == rank && $0.name.hasPrefix("wait for own network")
        }
        let total = waits.map(\.duration).reduce(0, +)
        guard let longest = waits.max(by: { $0.duration < $1.duration }), total > 0 else {
            return nil
        }
        return Cause(
            title: "Rank \(rank) waited for its own network",
            text:
                "Rank \(rank) waited \(Words.duration(total)) for room in a ring or for packets of the"
                + " round before to be sent; at most \(Words.duration(longest.duration)) in round"
                + " \(longest.epoch).", nanoseconds: total, rank: rank)
    }

    /// What the rank that received most rows spent on them beyond the median rank.
    private func imbalance() -> Cause? {
        guard
            let most = (0..<worldSize).max(by: {
                (relativeRows(of: $0) ?? 0) < (relativeRows(of: $1) ?? 0)
            }), let share = relativeRows(of: most), share >= 1.1
        else { return nil }
        let names = ["dispatch unpack", "combine send"]
        func spent(_ rank: Int) -> Int {
            rounds.map { round in
                // The time of the rank, not of all its warps.
                names.map { name in
                    let parts = round.slices.filter { $0.rank == rank && $0.name == name }
                    return (parts.map(\.end).max() ?? 0) - (parts.map(\.begin).min() ?? 0)
                }.reduce(0, +)
            }.reduce(0, +)
        }
        let others = (0..<worldSize).filter { $0 != most }.map(spent)
        let extra = spent(most) - Self.median(others)
        guard extra > 0 else { return nil }
        return Cause(
            title: "Rank \(most) received most rows",
            text:
                "Rank \(most) received \(Words.digits(share)) times as many rows as the mean rank, and spent"
                + " \(Words.duration(extra)) longer on sending them back than the median rank. Its experts"
                + " have as much more to do.", nanoseconds: extra, rank: most)
    }
}

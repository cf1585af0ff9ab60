import FoundationEssentials
import MoriDevice

/// The page of a trace: what `TraceReport.html` draws.
struct TraceReport: Sendable, Encodable {
    /// One round.
    ///
    /// Slices are [rank, row, class, begin, duration, name, peer, warp]; rows are 0 the host, 1
    /// the first warp, 2 its waits, 3 other warps, 4 the network; classes are those of the page.
    struct Round: Sendable, Encodable {
        var label: String
        var length: Int
        var slices: [[Int]]
        /// [source, time of the signal, rank that waited, time at which it saw it].
        var arrows: [[Int]]
    }
    struct Rank: Sendable, Encodable {
        var rank: Int
    }

    var title: String
    var subtitle: String
    var facts: [[String]]
    var notes: [String]
    var causes: [TraceAnalysis.Cause]
    var names: [String] = []
    var ranks: [Rank]
    var rounds: [Round] = []
    /// Which round is shown first: the one with the longest wait.
    var firstRound = 0
    var roundCount: Int
    var waits: [[Int]]
    var rows: [Int]
    /// [expert, rank, how often it was chosen].
    var experts: [[Int]]
    var footer: String

    /// Rounds that the page can show; more would make it large.
    static let mostRounds = 64

    init(_ file: TraceFile, _ analysis: TraceAnalysis) {
        let share =
            analysis.busyNanoseconds > 0
            ? analysis.waitNanoseconds * 100 / analysis.busyNanoseconds : 0
        let kernels = Set(file.ranks.flatMap(\.operators).map(\.name)).sorted()
        title = "Dispatch and combine on \(Words.count(file.worldSize, "rank"))"
        subtitle =
            "\(kernels.joined(separator: ", ")) on \(Set(file.ranks.map(\.device)).sorted().joined(separator: ", "))"
            + ", \(Words.count(Set(file.ranks.map(\.host)).count, "host"))"
        let lengths = analysis.rounds.map { $0.end - $0.begin }.sorted()
        let longest = analysis.rounds.flatMap(\.slices).filter {
            $0.category == "peer" && $0.peer != $0.rank
        }
        .max { $0.duration < $1.duration }
        facts = [
            ["\(analysis.rounds.count)", "rounds"],
            [Words.duration(lengths.isEmpty ? 0 : lengths[lengths.count / 2]), "median round"],
            ["\(share) %", "of the kernels' time was waiting for other ranks"],
            [
                Words.duration(longest?.duration ?? 0),
                longest.map { "longest wait: rank \($0.rank) for rank \($0.peer)" }
                    ?? "longest wait",
            ],
        ]
        notes = file.notes
        causes = analysis.causes
        ranks = file.ranks.map { Rank(rank: $0.rank) }
        roundCount = analysis.rounds.count
        waits = analysis.waits
        rows = (0..<file.worldSize).map { rank in
            analysis.rounds.map { max(0, $0.receivedRows[rank]) }.reduce(0, +)
        }
        experts = Self.experts(file)
        footer =
            "mori-ep trace report; times are of the hosts' monotonic clocks. docs/tracing.md says what each"
            + " phase is."
        addRounds(analysis, file)
    }

    /// How often each expert was chosen by all ranks, in the order of where they live.
    private static func experts(_ file: TraceFile) -> [[Int]] {
        var chosen: [Int: (rank: Int, count: Int)] = [:]
        // Operators of one model have the same experts; those of the first one's number count together.
        let count = file.ranks.first?.operators.first?.expertRanks.count ?? 0
        for part in file.ranks.flatMap(\.operators) where part.expertRanks.count == count {
            for (expert, times) in part.chosen.enumerated() where expert < count {
                chosen[expert, default: (part.expertRanks[expert], 0)].count += times
            }
        }
        guard chosen.values.contains(where: { $0.count > 0 }) else { return [] }
        return chosen.map { [$0.key, $0.value.rank, $0.value.count] }
            .sorted { ($0[1], $0[0]) < ($1[1], $1[0]) }
    }

    private mutating func addRounds(_ analysis: TraceAnalysis, _ file: TraceFile) {
        func waited(_ round: TraceAnalysis.Round) -> Int {
            round.waits.enumerated().map { rank, peers in
                peers.enumerated().filter { $0.offset != rank }.map(\.element).reduce(0, +)
            }.reduce(0, +)
        }
        let byWait = analysis.rounds.indices.sorted {
            waited(analysis.rounds[$0]) > waited(analysis.rounds[$1])
        }
        let shown = byWait.prefix(Self.mostRounds).sorted()
        if shown.count < analysis.rounds.count {
            notes.append(
                "The timeline has the \(shown.count) rounds with the longest waits, of"
                    + " \(analysis.rounds.count); all numbers are of all rounds.")
        }
        let beside = file.slices.filter { ["host", "nic"].contains($0.category) }
        let severalOperators = Set(analysis.rounds.map(\.key.number)).count > 1
        let severalSlots = Set(analysis.rounds.map(\.key.slot)).count > 1
        var numbers: [String: Int] = [:]
        for index in shown {
            let round = analysis.rounds[index]
            var label = "\(round.key.epoch)"
            if severalSlots { label += ", slot \(round.key.slot)" }
            if severalOperators { label += ", operator \(round.key.number)" }
            rounds.append(
                Round(
                    label: label, length: max(1, round.end - round.begin),
                    slices: slices(of: round, beside: beside, numbers: &numbers),
                    arrows: Self.arrows(of: round)))
        }
        firstRound = shown.firstIndex { $0 == byWait.first } ?? 0
    }

    private mutating func slices(
        of round: TraceAnalysis.Round, beside: [TraceFile.Slice], numbers: inout [String: Int]
    ) -> [[Int]] {
        var all: [[Int]] = []
        func number(_ name: String, _ numbers: inout [String: Int]) -> Int {
            if let known = numbers[name] { return known }
            numbers[name] = names.count
            names.append(name)
            return names.count - 1
        }
        let own = beside.filter {
            $0.end > round.begin && $0.begin < round.end && $0.number == round.key.number
        }
        var tracks: [Int: [Int]] = [:]
        for slice in round.slices where !(tracks[slice.rank] ?? []).contains(slice.track) {
            tracks[slice.rank, default: []].append(slice.track)
        }
        for rank in tracks.keys { tracks[rank]?.sort() }
        let order = ["kernel": 0, "wait": 1, "peer": 2, "gave up": 2]
        let kernels = round.slices.sorted {
            (order[$0.category] ?? 0, $0.begin) < (order[$1.category] ?? 0, $1.begin)
        }
        for slice in own + kernels {
            let warp = tracks[slice.rank]?.firstIndex(of: slice.track) ?? 0
            let isOwnNetwork = slice.name.hasPrefix("wait for own network")
            let row: Int
            switch slice.category {
            case "host": row = 0
            case "nic": row = 4
            case "kernel": row = warp == 0 ? 1 : 3
            // The phase around waits for peers is where they are not.
            case "wait" where !isOwnNetwork: continue
            default: row = warp == 0 ? 2 : 3
            }
            // Words that were there already make no picture.
            if row == 2, slice.duration * 2000 < round.end - round.begin { continue }
            let begin = max(slice.begin, round.begin)
            let end = min(slice.end, round.end)
            all.append([
                slice.rank, row, Self.kind(slice), begin - round.begin, max(0, end - begin),
                number(slice.name, &numbers), slice.peer, row == 3 ? warp - 1 : 0,
            ])
        }
        return all
    }

    /// The class of the page: send, forward, receive, wait, combine, sum, experts, host, network.
    private static func kind(_ slice: TraceFile.Slice) -> Int {
        switch slice.category {
        case "host": return 7
        case "nic": return 8
        case "peer", "gave up", "wait": return 3
        default: break
        }
        switch slice.name {
        case "dispatch begin", "dispatch count", "dispatch order", "dispatch send",
            "dispatch place":
            return 0
        case "dispatch forward", "dispatch unpack": return 1
        case "combine send": return 4
        case "combine forward", "combine own", "combine reduce": return 5
        case "count experts", "pack experts", "sum experts": return 6
        default: return 2
        }
    }

    /// The signals that ended waits which are long enough to be seen.
    private static func arrows(of round: TraceAnalysis.Round) -> [[Int]] {
        struct Word: Hashable {
            var source: Int
            var target: Int
            var phase: Int
            var index: Int
        }
        var sent: [Word: Int] = [:]
        for signal in round.signals {
            let word = Word(
                source: signal.rank, target: signal.peer, phase: signal.phase, index: signal.index)
            sent[word] = signal.time
        }
        let least = (round.end - round.begin) / 40
        return round.slices.compactMap { slice in
            guard slice.category == "peer", slice.duration >= least, slice.peer != slice.rank else {
                return nil
            }
            let word = Word(
                source: slice.peer, target: slice.rank, phase: slice.phase, index: slice.index)
            guard let time = sent[word] else { return nil }
            return [slice.peer, time - round.begin, slice.rank, slice.end - round.begin]
        }
    }

    /// The page.
    ///
    /// - Throws: what encoding throws, which these types do not.
    func html() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Names come from files: none ends the element that holds them.
        let text = String(decoding: try encoder.encode(self), as: UTF8.self)
            .replacing("</", with: "<\\/").replacing("<!", with: "<\\u0021")
        let template = String(decoding: PackageResources.TraceReport_html, as: UTF8.self)
        return Array(template.replacing("MORI_EP_TRACE_DATA", with: text).utf8)
    }
}

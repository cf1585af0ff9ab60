import FoundationEssentials
import MoriShmem

/// The page of a trace: what `TraceReport.html` draws.
package struct TraceReport: Sendable, Encodable {
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
    package var notes: [String]
    var causes: [TraceAnalysis.Cause]
    var names: [String] = []
    var ranks: [Rank]
    var rounds: [Round] = []
    /// Which round is shown first: the one with the longest wait.
    var firstRound = 0
    var roundCount: Int
    var waits: [[Int]]
    package var rows: [Int]
    /// [expert, rank, how often it was chosen].
    var experts: [[Int]]
    var footer: String

    /// Rounds that the page can show; more would make it large.
    static let mostRounds = 64

    package init(_ file: TraceFile, _ analysis: TraceAnalysis) {
        let (busy, waited) = (analysis.busyNanoseconds, analysis.waitNanoseconds)
        // Waits lie in phases, and are no more than these.
        let share = busy > 0 ? Int(100 * min(1, Double(waited) / Double(busy))) : 0
        let kernels = Set(file.ranks.flatMap(\.operators).map(\.name)).sorted()
        title = "Dispatch and combine on \(Words.count(file.worldSize, "rank"))"
        subtitle =
            "\(kernels.joined(separator: ", ")) on \(Set(file.ranks.map(\.device)).sorted().joined(separator: ", "))"
            + ", \(Words.count(Set(file.ranks.map(\.host)).count, "host"))"
        let lengths = analysis.rounds.map { $0.end - $0.begin }.sorted()
        let longest = analysis.rounds.lazy.flatMap(\.slices).filter {
            $0.category == .peer && $0.peer != $0.rank
        }.max { $0.duration < $1.duration }
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
        rows = analysis.receivedRows
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
                chosen[expert, default: (part.expertRanks[expert], 0)].count.addClamped(times)
            }
        }
        guard chosen.values.contains(where: { $0.count > 0 }) else { return [] }
        return chosen.map { [$0.key, $0.value.rank, $0.value.count] }
            .sorted { ($0[1], $0[0]) < ($1[1], $1[0]) }
    }

    private mutating func addRounds(_ analysis: TraceAnalysis, _ file: TraceFile) {
        let byWait = analysis.rounds.indices.sorted {
            analysis.rounds[$0].waitNanoseconds > analysis.rounds[$1].waitNanoseconds
        }
        let shown = byWait.prefix(Self.mostRounds).sorted()
        if shown.count < analysis.rounds.count {
            notes.append(
                "The timeline has the \(shown.count) rounds with the longest waits, of"
                    + " \(analysis.rounds.count); all numbers are of all rounds.")
        }
        let beside = file.slices.filter { $0.category == .host || $0.category == .nic }
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
        let warps = Self.warps(of: round)
        func order(_ slice: TraceFile.Slice) -> Int {
            slice.category == .kernel ? 0 : slice.category == .wait ? 1 : 2
        }
        let kernels = round.slices.sorted { (order($0), $0.begin) < (order($1), $1.begin) }
        for slice in own + kernels {
            let warp = warps[slice.rank]?[slice.track] ?? 0
            let row: Int
            switch slice.category {
            case .host: row = 0
            case .nic: row = 4
            case .kernel: row = warp == 0 ? 1 : 3
            // The phase around waits for peers is where they are not.
            case .wait where !slice.isForOwnNetwork: continue
            default: row = warp == 0 ? 2 : 3
            }
            // Words that were there already make no picture.
            if row == 2, slice.duration < (round.end - round.begin) / 2000 { continue }
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
        case .host: return 7
        case .nic: return 8
        case .peer, .gaveUp, .wait: return 3
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

    /// The places of tracks among those of their rank in a round: [rank: [track: place]].
    private static func warps(of round: TraceAnalysis.Round) -> [Int: [Int: Int]] {
        var tracks: [Int: Set<Int>] = [:]
        for slice in round.slices { tracks[slice.rank, default: []].insert(slice.track) }
        return tracks.mapValues { tracks in
            var places: [Int: Int] = [:]
            for (place, track) in tracks.sorted().enumerated() { places[track] = place }
            return places
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
            guard slice.category == .peer, slice.duration >= least, slice.peer != slice.rank else {
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
    package func html() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Names come from files: none ends the element that holds them.
        let text = String(decoding: try encoder.encode(self), as: UTF8.self)
            .replacing("</", with: "<\\/").replacing("<!", with: "<\\u0021")
        let template = String(decoding: PackageResources.TraceReport_html, as: UTF8.self)
        return Array(template.replacing("MORI_EP_TRACE_DATA", with: text).utf8)
    }
}

import FoundationEssentials
import MoriDevice

/// What one or several files of a trace say, with all times on one axis.
struct TraceFile: Sendable {
    /// The version that `SymmetricMemory.exportTrace` writes and this reads.
    static let version = 1

    /// A rank, as the file describes it.
    struct Rank: Sendable, Codable {
        struct Operator: Sendable, Codable {
            var name: String
            var lost: Int
            var mended: Int
            var expertRanks: [Int]
            var chosen: [Int]
        }
        var rank: Int
        var host: Int
        var device: String
        var clockOffsetNanoseconds: Int
        var clockRoundTripNanoseconds: Int
        var operators: [Operator]
    }

    /// What lasts: a phase, a wait for a peer, a call, a post, a transfer.
    struct Slice: Hashable, Sendable {
        var rank: Int
        var track: Int
        var name: String
        var category: String
        /// Nanoseconds from the trace's begin.
        var begin: Int
        var end: Int
        var slot: Int
        var epoch: Int
        var peer: Int
        var index: Int
        var phase: Int

        var duration: Int { end - begin }
        /// Which of its rank's operators.
        var number: Int { track / 10_000_000 }
    }

    /// What a rank told another, or learnt: a signal, the number of rows received.
    struct Instant: Hashable, Sendable {
        var rank: Int
        var number: Int
        var name: String
        var category: String
        var time: Int
        var slot: Int
        var epoch: Int
        var peer: Int
        var index: Int
        var phase: Int
        var rows: Int
    }

    var worldSize: Int
    var ranks: [Rank] = []
    var slices: [Slice] = []
    var instants: [Instant] = []
    /// What whoever reads the report must know.
    var notes: [String] = []

    /// Reads files that belong together: one of all ranks, or one of each.
    ///
    /// - Throws: `invalidArgument` that says what was found and what is legal.
    init(paths: [String]) throws(MoriError) {
        let documents = try paths.map { (path) throws(MoriError) in
            (path: path, document: try Self.document(path))
        }
        guard let first = documents.first else {
            throw MoriError(.invalidArgument, "no file; legal is one trace, or one of each rank")
        }
        worldSize = first.document.moriEP.worldSize
        let zero = documents.map(\.document.moriEP.zeroNanoseconds).min() ?? 0
        var origins: [Int: String] = [:]
        for (path, document) in documents {
            let about = document.moriEP
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
            try add(
                document.traceEvents, from: path,
                shift: Int(clamping: about.zeroNanoseconds - zero))
        }
        ranks.sort { $0.rank < $1.rank }
        guard slices.contains(where: { $0.category == "kernel" }) else {
            throw MoriError(
                .invalidArgument,
                "\(first.path) is a trace without a round; take one of work that is enqueued after"
                    + " startTrace(on:), and export it once that is done")
        }
        addNotes(fileCount: paths.count)
    }

    /// A file's text.
    private struct Document: Decodable {
        struct About: Decodable {
            var version: Int
            var worldSize: Int
            var zeroNanoseconds: UInt64
            var ranks: [Rank]
        }
        struct Event: Decodable {
            struct Details: Decodable {
                var epoch: Int?
                var slot: Int?
                var peer: Int?
                var index: Int?
                var phase: Int?
                var rows: Int?
            }
            var ph: String
            var name: String
            var cat: String?
            var pid: Int
            var tid: Int?
            var ts: Double?
            var dur: Double?
            var id: String?
            var args: Details?
        }
        var moriEP: About
        var traceEvents: [Event]
    }

    /// As much of a text as tells what it is.
    private struct Probe: Decodable {
        struct About: Decodable { var version: Int? }
        var moriEP: About?
    }

    private static let legal =
        "legal is a file of SymmetricMemory.exportTrace or bench-dispatch-combine --trace"

    private static func document(_ path: String) throws(MoriError) -> Document {
        guard let data = try? Data(contentsOf: URL(filePath: path)) else {
            throw MoriError(.invalidArgument, "\(path) cannot be read; \(legal)")
        }
        guard !data.isEmpty else {
            throw MoriError(.invalidArgument, "\(path) is empty; \(legal)")
        }
        let probe: Probe
        do {
            probe = try JSONDecoder().decode(Probe.self, from: data)
        } catch {
            throw MoriError(.invalidArgument, "\(path) is no JSON object; \(legal)")
        }
        guard let about = probe.moriEP else {
            throw MoriError(
                .invalidArgument,
                "\(path) is JSON without \"moriEP\", so no trace of MoriEP; \(legal)")
        }
        guard about.version == version else {
            throw MoriError(
                .invalidArgument,
                "\(path) is a trace of version \(about.version.map(String.init) ?? "none"); this mori-ep"
                    + " reads version \(version): take the mori-ep of the package that wrote it")
        }
        do {
            return try JSONDecoder().decode(Document.self, from: data)
        } catch DecodingError.keyNotFound(let key, let context) {
            throw damaged(path, "\"\(key.stringValue)\" is missing", context.codingPath)
        } catch DecodingError.typeMismatch(_, let context) {
            throw damaged(path, context.debugDescription, context.codingPath)
        } catch {
            throw MoriError(.invalidArgument, "\(path) is a damaged trace: \(error)")
        }
    }

    private static func damaged(
        _ path: String, _ problem: String, _ place: [any CodingKey]
    ) -> MoriError {
        let words = place.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
        return MoriError(
            .invalidArgument,
            "\(path) is a damaged trace: at \(words.joined(separator: " ")) \(problem); export it anew"
        )
    }

    private mutating func add(
        _ events: [Document.Event], from path: String, shift: Int
    ) throws(MoriError) {
        var underWay: [String: Document.Event] = [:]
        for (place, event) in events.enumerated() where event.ph != "M" {
            guard let time = event.ts, let track = event.tid, (0..<worldSize).contains(event.pid)
            else {
                throw MoriError(
                    .invalidArgument,
                    "\(path) is a damaged trace: event \(place) has no time, no track, or rank"
                        + " \(event.pid) of \(worldSize); export it anew")
            }
            switch event.ph {
            case "X":
                slices.append(
                    Self.slice(
                        event, track: track, from: time, length: event.dur ?? 0, shift: shift))
            case "b":
                if let id = event.id { underWay[id] = event }
            case "e":
                guard let begin = event.id.flatMap({ underWay.removeValue(forKey: $0) }),
                    let start = begin.ts
                else { continue }
                slices.append(
                    Self.slice(begin, track: track, from: start, length: time - start, shift: shift)
                )
            case "i":
                let details = event.args
                instants.append(
                    Instant(
                        rank: event.pid, number: track / 10_000_000, name: event.name,
                        category: event.cat ?? "", time: Self.nanoseconds(time) + shift,
                        slot: details?.slot ?? 0, epoch: details?.epoch ?? 0,
                        peer: details?.peer ?? -1, index: details?.index ?? 0,
                        phase: details?.phase ?? 0, rows: details?.rows ?? 0))
            default: break
            }
        }
    }

    private static func slice(
        _ event: Document.Event, track: Int, from time: Double, length: Double, shift: Int
    ) -> Slice {
        let begin = nanoseconds(time) + shift
        let details = event.args
        return Slice(
            rank: event.pid, track: track, name: event.name, category: event.cat ?? "",
            begin: begin, end: begin + max(0, nanoseconds(length)), slot: details?.slot ?? 0,
            epoch: details?.epoch ?? 0, peer: details?.peer ?? -1, index: details?.index ?? 0,
            phase: details?.phase ?? 0)
    }

    private static func nanoseconds(_ microseconds: Double) -> Int {
        Int(exactly: (microseconds * 1000).rounded()) ?? 0
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
        for rank in ranks {
            let lost = rank.operators.map(\.lost).reduce(0, +)
            if lost > 0 {
                notes.append(
                    "Rank \(rank.rank) had no room for \(lost) records: its last rounds are missing."
                        + " Start the trace with a larger recordCapacity.")
            }
            let mended = rank.operators.map(\.mended).reduce(0, +)
            if mended > 0 {
                notes.append(
                    "Rank \(rank.rank) has \(mended) phases without an end or a begin: they are cut off at"
                        + " its last record, or left out.")
            }
        }
    }
}

/// Numbers in words.
enum Words {
    /// A duration with a unit and three digits.
    static func duration(_ nanoseconds: Int) -> String {
        let value = Double(nanoseconds.magnitude)
        let sign = nanoseconds < 0 ? "-" : ""
        switch value {
        case ..<1000: return "\(nanoseconds) ns"
        case ..<999_500: return sign + digits(value / 1e3) + " µs"
        case ..<999_500_000: return sign + digits(value / 1e6) + " ms"
        default: return sign + digits(value / 1e9) + " s"
        }
    }

    /// Three digits.
    static func digits(_ value: Double) -> String {
        let decimals = value < 10 ? 2 : value < 100 ? 1 : 0
        let scale = [1.0, 10, 100][decimals]
        let whole = Int((value * scale).rounded())
        guard decimals > 0 else { return "\(whole)" }
        let rest = "\(whole % Int(scale))"
        let zeros = String(repeating: "0", count: decimals - rest.count)
        return "\(whole / Int(scale)).\(zeros)\(rest)"
    }

    /// "1 round", "2 rounds".
    static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
}

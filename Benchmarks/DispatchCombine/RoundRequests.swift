import FoundationEssentials
import Glibc
import MoriDevice
import MoriEP
import MoriOracle

/// Rounds that another program asks for, one group at a time, so that it can measure several systems
/// in turn (`make bench-peers`).
///
/// A request is a line with a number of rounds. The answer to it, and to the verification before the
/// first, is a line of JSON. A rank that waits for a request sleeps, and takes nothing from the
/// systems whose turn it is. The end of the file ends the rank.
struct RoundRequests: Sendable {
    /// What a rank says once it has verified a round.
    struct Ready: Codable {
        var verified: Bool
        /// Of the combined rows, for each way of combining; see `RowChecksum`.
        var checksums: [String: UInt64]
        var warmups: Int
    }

    private let requests: Int32
    private let answers: Int32

    /// Opens the rank's FIFOs; waits until the other program has.
    init(prefix: String, rank: Int) throws {
        requests = try Self.open("\(prefix).requests.\(rank)", O_RDONLY)
        answers = try Self.open("\(prefix).answers.\(rank)", O_WRONLY)
    }

    private static func open(_ path: String, _ flags: Int32) throws -> Int32 {
        let descriptor = unsafe Glibc.open(path, flags | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw BenchFailure(
                "--round-requests: \(path) cannot be opened (errno \(errno)); legal is a FIFO that"
                    + " exists")
        }
        return descriptor
    }

    /// How many rounds are asked for; nil: no more.
    func next() async throws -> Int? {
        let line = try await BackgroundThread.run { [requests] in
            var line: [UInt8] = []
            var byte: UInt8 = 0
            while unsafe read(requests, &byte, 1) == 1, byte != UInt8(ascii: "\n") {
                line.append(byte)
            }
            return String(decoding: line, as: UTF8.self)
        }
        guard !line.isEmpty else { return nil }
        guard let count = Int(line), count > 0 else {
            throw BenchFailure("--round-requests: \"\(line)\" is no number of rounds above 0")
        }
        return count
    }

    /// Answers a request.
    func answer(_ value: some Encodable) throws {
        let line = try JSONEncoder().encode(value) + Data("\n".utf8)
        let written = unsafe line.withUnsafeBytes { bytes in
            unsafe write(answers, bytes.baseAddress, bytes.count)
        }
        guard written == line.count else {
            throw BenchFailure("--round-requests: nobody reads the answers (errno \(errno))")
        }
    }

    /// Closes both.
    func close() {
        _ = Glibc.close(requests)
        _ = Glibc.close(answers)
    }
}

/// A number that two programs agree on when they have the same rows, bit for bit: the sum of each
/// element's bits times twice its place plus one, modulo 2^64.
struct RowChecksum {
    private(set) var value: UInt64 = 0
    private var place: UInt64 = 0

    /// Adds what comes next.
    mutating func add<Element: BenchElement>(_ elements: [Element]) {
        for element in elements {
            value &+= UInt64(element.bits) &* (place &* 2 &+ 1)
            place &+= 1
        }
    }
}

extension RankRun {
    /// Verifies each way of combining, then runs the rounds that are asked for, each once with every
    /// way of combining.
    func serve(_ requests: RoundRequests) async throws {
        defer { requests.close() }
        var modes: [Mode] = []
        for input in settings.combineInputs { modes.append(try await prepared(input)) }
        let marks = (try PhaseMarks(on: world.device), try PhaseMarks(on: world.device))
        var ready = RoundRequests.Ready(verified: settings.verifies, checksums: [:], warmups: 0)
        for mode in modes {
            ready.warmups += try await warmUp(mode, marks: marks)
            ready.checksums["\(mode.input)"] = mode.checksum
        }
        try requests.answer(ready)
        while let count = try await requests.next() {
            var rounds: [[String: Interval]] = []
            for _ in 0..<count {
                var phases: [String: Interval] = [:]
                for mode in modes {
                    let times = try await round(mode, marks: marks)
                    // What the stream says, beside what the host noticed.
                    phases["dispatch \(mode.input)"] = times.dispatch
                    phases["combine \(mode.input)"] = times.combine
                    phases["dispatch \(mode.input) on stream"] = try marks.0.interval(clock)
                    phases["combine \(mode.input) on stream"] = try marks.1.interval(clock)
                }
                rounds.append(phases)
            }
            try requests.answer(rounds)
        }
    }

    /// The checksum of combined rows.
    func checksum(of combined: DeviceTensor) async throws(MoriError) -> UInt64 {
        var checksum = RowChecksum()
        let width = Combined.elementType.byteCount(of: settings.workload.hidden)
        for piece in DeviceTensor.pieces(combined.shape[0], rowByteCount: width) {
            let elements: [Combined] = try await combined.rows(piece).elements(on: stream)
            checksum.add(elements)
        }
        return checksum.value
    }
}

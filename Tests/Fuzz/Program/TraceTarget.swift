import FoundationEssentials
import MoriDevice
import MoriTraceReport

/// Files that `mori-ep trace report` is given.
enum TraceTarget {
    /// What is read has a page; what is not is refused with the file's name.
    static func check(_ bytes: [UInt8]) {
        do throws(MoriError) {
            let file = try TraceFile(files: [(path: "a.json", bytes: Data(bytes))])
            let report = TraceReport(file, TraceAnalysis(file))
            precondition((try? report.html())?.isEmpty == false)
            precondition(report.rows.count == file.worldSize)
        } catch {
            precondition(error.code == .invalidArgument && error.message.contains("a.json"))
        }
    }

    /// A round of two ranks on two hosts: a signal, the wait that it ends, rows, a host's call, a post.
    static let seeds = [
        file(
            ranks: [rank(0), rank(1, clock: ",\"deviceClock\":\(deviceClock)")],
            events: [
                event("X", "host", 1, "dispatch", 5, 4, "\"slot\":0"),
                event("X", "kernel", 100, "dispatch send", 10, 90, "\"epoch\":1,\"slot\":0"),
                event(
                    "i", "signal", 100, "signal rank 1", 50, nil,
                    "\"peer\":1,\"epoch\":1,\"slot\":0,\"index\":0,\"phase\":2"),
                event(
                    "X", "kernel", 100, "dispatch receive", 10, 90, "\"epoch\":1,\"slot\":0",
                    rank: 1),
                event(
                    "X", "wait", 100, "dispatch receive", 20, 60, "\"epoch\":1,\"slot\":0", rank: 1),
                event(
                    "X", "peer", 100, "wait for rank 0", 20, 60,
                    "\"peer\":0,\"epoch\":1,\"slot\":0,\"index\":0,\"phase\":2", rank: 1),
                event(
                    "i", "rows", 100, "received", 90, nil, "\"rows\":7,\"epoch\":1,\"slot\":0",
                    rank: 1),
            ]),
        file(
            ranks: [rank(0)],
            events: [
                event("X", "kernel", 100, "combine reduce", 0.5, 1e3, "\"epoch\":1,\"slot\":0")
            ]),
    ]

    private static let deviceClock =
        "{\"offsetNanoseconds\":-12,\"comparisons\":2,\"roundTripNanoseconds\":9000,"
        + "\"driftNanosecondsPerSecond\":50}"

    private static func file(ranks: [String], events: [String]) -> [UInt8] {
        let about =
            "{\"version\":1,\"worldSize\":2,\"zeroNanoseconds\":7,\"ranks\":[\(ranks.joined(separator: ","))]}"
        return Array(
            "{\"moriEP\":\(about),\"traceEvents\":[\(events.joined(separator: ","))]}".utf8)
    }

    private static func rank(_ rank: Int, clock: String = "") -> String {
        "{\"rank\":\(rank),\"host\":\(rank),\"device\":\"host\",\"clockOffsetNanoseconds\":3,"
            + "\"clockRoundTripNanoseconds\":8,\"operators\":[{\"name\":\"intranode\",\"lost\":0,"
            + "\"mended\":0,\"expertRanks\":[0,1],\"chosen\":[1,2]\(clock)}]}"
    }

    private static func event(
        _ kind: String, _ category: String, _ track: Int, _ name: String, _ time: Double,
        _ duration: Double?, _ details: String, rank: Int = 0
    ) -> String {
        let length = duration.map { ",\"dur\":\($0)" } ?? ""
        return "{\"ph\":\"\(kind)\",\"cat\":\"\(category)\",\"pid\":\(rank),\"tid\":\(track),"
            + "\"name\":\"\(name)\",\"ts\":\(time)\(length),\"args\":{\(details)}}"
    }
}

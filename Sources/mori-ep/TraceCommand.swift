import ArgumentParser
import FoundationEssentials
import MoriDevice
import MoriLauncher
import MoriOptions
import MoriTraceReport

/// `mori-ep trace`: what can be done with traces.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Shows what a trace says.",
        subcommands: [TraceReportCommand.self])
}

/// `mori-ep trace report`: one page that says who waited for whom, and why.
struct TraceReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract:
            "Writes one self-contained HTML page: rounds, waits, imbalance, and causes in words.",
        discussion: """
            Reads what SymmetricMemory.exportTrace or bench-dispatch-combine --trace wrote: one file of \
            all ranks, or one of each rank. The page needs no network and no other file.
            """)

    @Argument(help: "The trace: one file of all ranks, or one of each.")
    var files: [String]

    @Option(help: "Write the page there; a file that is there is replaced. (default: FILE.html)")
    var output: String?

    @Option(
        help: ArgumentHelp(
            "Write the numbers there too: waits in nanoseconds, rows, causes.", valueName: "file"))
    var json: String?

    private var page: String {
        if let output { return output }
        let first = files.first ?? "trace.json"
        return (first.hasSuffix(".json") ? String(first.dropLast(5)) : first) + ".html"
    }

    func validate() throws {
        var written = WrittenFiles(besides: files, called: "the trace itself")
        try written.add(page, option: "--output")
        try written.add(json, option: "--json")
    }

    /// What `--json` writes.
    private struct Numbers: Encodable {
        var rounds: Int
        var busyNanoseconds: Int
        var waitNanoseconds: Int
        /// By rank and peer.
        var waits: [[Int]]
        var receivedRows: [Int]
        var causes: [TraceAnalysis.Cause]
        var notes: [String]
    }

    func run() throws {
        do {
            let file = try TraceFile(paths: files)
            let analysis = TraceAnalysis(file)
            let report = TraceReport(file, analysis)
            try FilePlace(page).replace(with: report.html(), what: "the page")
            if let json {
                let numbers = Numbers(
                    rounds: analysis.rounds.count, busyNanoseconds: analysis.busyNanoseconds,
                    waitNanoseconds: analysis.waitNanoseconds, waits: analysis.waits,
                    receivedRows: report.rows, causes: analysis.causes, notes: report.notes)
                try FilePlace(json).replace(
                    with: Array(JSONEncoder().encode(numbers)), what: "the numbers")
            }
            for cause in analysis.causes {
                Console.print(
                    "\(Words.duration(cause.nanoseconds))  \(cause.title)\n    \(cause.text)\n")
            }
            for note in report.notes { Console.print("note: \(note)\n") }
            Console.print("written: \(page)\n")
        } catch {
            Console.error("mori-ep trace report: \(error)\n")
            throw ExitCode.failure
        }
    }
}

import FoundationEssentials
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.TraceTests {
    /// What `mori-ep trace report --json` writes.
    private struct Numbers: Decodable {
        struct Cause: Decodable {
            var title: String
            var text: String
            var nanoseconds: Int
            var rank: Int
        }
        var rounds: Int
        var busyNanoseconds: Int
        var waitNanoseconds: Int
        var waits: [[Int]]
        var receivedRows: [Int]
        var causes: [Cause]
        var notes: [String]
    }

    private func report(
        on path: String, in folder: String
    ) async throws -> (page: String, output: String, numbers: Numbers) {
        let page = folder + "/page.html"
        let ended = try await Programs.run(
            "mori-ep",
            ["trace", "report", path, "--output", page, "--json", folder + "/numbers.json"])
        #expect(ended.exit.isSuccess, "\(ended.errors)")
        let data = try Data(contentsOf: URL(filePath: folder + "/numbers.json"))
        return (page, ended.output, try JSONDecoder().decode(Numbers.self, from: data))
    }

    /// A trace in which rank 2 of 4 comes to every dispatch so much later than the others.
    private func takeSlow(
        _ path: String, rounds: Int = 5, by delay: Duration = .milliseconds(30)
    ) async throws {
        _ = try await TracedRounds.take(
            path, ranks: 4, config: TracedRounds.config(),
            workload: TracedRounds.workload(ranks: 4), rounds: rounds, late: (2, delay))
    }

    @Test(.timeLimit(.minutes(1)))
    func aSlowRankIsNamedAsTheLargestCauseAndTheMatrixAddsUp() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            try await takeSlow(path)
            let (_, output, numbers) = try await report(on: path, in: folder)
            let cause = try #require(numbers.causes.first)
            #expect(cause.rank == 2)
            #expect(cause.title == "Rank 2 began dispatch late")
            #expect(cause.text.contains("waited") && cause.text.contains("for rank 2 in dispatch"))
            #expect(output.contains(cause.text))
            #expect(numbers.causes.count == 3)
            #expect(
                zip(numbers.causes, numbers.causes.dropFirst()).allSatisfy {
                    $0.nanoseconds >= $1.nanoseconds
                })
            // Three ranks waited most of 30 ms, five times; as it is with other ranks none did.
            #expect(cause.nanoseconds > 3 * 5 * 20_000_000, "\(cause)")
            #expect(numbers.rounds == 5)

            // The matrix is the sum of the waits in the file, rank by rank.
            var expected = Array(repeating: Array(repeating: 0, count: 4), count: 4)
            for wait in try TraceText(path).slices("peer", "gave up") {
                expected[wait.pid][try #require(wait.args?.peer)] += wait.end - wait.begin
            }
            #expect(numbers.waits == expected)
            let others = (0..<4).map { rank in
                numbers.waits[rank].enumerated().filter { $0.offset != rank }.map(\.element).reduce(
                    0, +)
            }
            #expect(others.reduce(0, +) == numbers.waitNanoseconds)
            #expect(numbers.waitNanoseconds <= numbers.busyNanoseconds)
            #expect(numbers.waits.map { $0[2] }.reduce(0, +) > numbers.waitNanoseconds / 2)
        }
    }

    /// A rank whose experts are slow: it is late for combine.
    @Test(.timeLimit(.minutes(1)))
    func aRankWithSlowExpertsIsLateForCombine() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            let routes = Routes(TracedRounds.workload(ranks: 3))
            _ = try await withLocalWorld(3) { world in
                let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                try op.startTrace(on: stream)
                for _ in 0..<4 {
                    try await world.barrier()
                    let received = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, on: stream)
                    try await stream.completion()
                    if world.rank == 1 { try await Task.sleep(for: .milliseconds(30)) }
                    let output = received.tokens
                    _ = try op.combine(output, of: received, on: stream)
                    try await stream.completion()
                }
                try await world.exportTrace(to: path)
                try await op.close()
            }
            let (_, _, numbers) = try await report(on: path, in: folder)
            let cause = try #require(numbers.causes.first)
            #expect(cause.title == "Rank 1 began combine late", "\(numbers.causes)")
            #expect(cause.text.contains("its experts"))
        }
    }

    @Test(.timeLimit(.minutes(2)))
    func thePageDrawsWhatItsNumbersSay() async throws {
        guard Chromium.path != nil else {
            print("skipped: no chromium on this machine; scripts/setup.sh browser installs it")
            return
        }
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            try await takeSlow(path)
            let (page, _, numbers) = try await report(on: path, in: folder)
            let source = try String(contentsOfFile: page, encoding: .utf8)
            // Self-contained: nothing is asked for, of no host and no file.
            for link in ["src=", "href=", "@import", "url(http", "fetch(", "XMLHttpRequest"] {
                #expect(!source.contains(link), "\(link)")
            }
            let dom = try await Chromium.open(page, ["--dump-dom"], folder: folder)
            #expect(dom.contains("data-ready=\"yes\""), "the page's script did not come to its end")
            // Whole numbers of the matrix, as cells.
            for rank in 0..<4 {
                for peer in 0..<4 where peer != rank {
                    #expect(dom.contains("data-nanoseconds=\"\(numbers.waits[rank][peer])\""))
                }
            }
            #expect(dom.contains("data-nanoseconds=\"\(numbers.waitNanoseconds)\""))
            for cause in numbers.causes {
                #expect(dom.contains("<h3>\(cause.title)</h3>"))
                #expect(dom.contains("<p>\(cause.text)</p>"))
            }
            // A round's waits for the slow rank, drawn and labelled, with arrows and a scale.
            #expect(dom.contains("data-peer=\"2\""))
            #expect(dom.contains("class=\"arrow\""))
            // Which steps it has depends on how long the round took.
            #expect(dom.contains(/>[1-9][0-9]*\.[0-9] ms<\/text>/))
            for rank in 0..<4 { #expect(dom.contains(">rank \(rank)</text>")) }
            for epoch in 2...6 { #expect(dom.contains(">\(epoch)</option>")) }
            let total = numbers.receivedRows.max() ?? 0
            #expect(dom.contains("received \(grouped(total)) rows"))

            let picture = ProcessVariables.all["TEST_TRACE_PICTURE"] ?? folder + "/page.png"
            _ = try await Chromium.open(
                page, ["--screenshot=\(picture)", "--window-size=1400,1500"], folder: folder)
            let bytes = try Data(contentsOf: URL(filePath: picture))
            #expect(bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            #expect(bytes.count > 20_000)
        }
    }

    /// The world's ranks have a column each, those too that left no trace because they died.
    @Test(.timeLimit(.minutes(2)))
    func thePageHasAColumnForARankThatDied() async throws {
        guard Chromium.path != nil else {
            print("skipped: no chromium on this machine; scripts/setup.sh browser installs it")
            return
        }
        try await TracedRounds.inFolder { folder in
            func rank(_ rank: Int) -> String {
                "{\"rank\":\(rank),\"host\":0,\"device\":\"host\",\"clockOffsetNanoseconds\":0,"
                    + "\"clockRoundTripNanoseconds\":0,\"operators\":[{\"name\":\"intranode\","
                    + "\"lost\":0,\"mended\":0,\"expertRanks\":[0,1,2],\"chosen\":[1,1,1]}]}"
            }
            // Microseconds that each of the others waited for rank 2, and rank 0 for rank 1.
            func slice(_ rank: Int, _ category: String, _ peer: Int?, _ length: Int) -> String {
                let about = peer.map { "\"peer\":\($0),\"phase\":2," } ?? ""
                return "{\"ph\":\"X\",\"name\":\"dispatch receive\",\"cat\":\"\(category)\","
                    + "\"pid\":\(rank),\"tid\":100,\"ts\":0.000,\"dur\":\(length).000,"
                    + "\"args\":{\(about)\"epoch\":1,\"slot\":0}}"
            }
            let events = [
                slice(0, "kernel", nil, 9000), slice(1, "kernel", nil, 9000),
                slice(0, "peer", 1, 70), slice(0, "gave up", 2, 8000), slice(1, "gave up", 2, 7000),
            ]
            let path = folder + "/trace.json"
            try Data(
                ("{\"moriEP\":{\"version\":1,\"worldSize\":3,\"zeroNanoseconds\":0,\"ranks\":["
                    + "\(rank(0)),\(rank(1))]},\"traceEvents\":[\(events.joined(separator: ","))]}")
                    .utf8
            ).write(to: URL(filePath: path))
            let (page, _, numbers) = try await report(on: path, in: folder)
            #expect(numbers.waitNanoseconds == 15_070_000)
            #expect(numbers.causes.first?.rank == 2)
            let dom = try await Chromium.open(page, ["--dump-dom"], folder: folder)
            #expect(dom.contains("data-ready=\"yes\""), "the page's script did not come to its end")
            let body = try #require(
                dom.firstMatch(of: /<tbody>(.*?)<\/tbody>/.dotMatchesNewlines()))
            let rows = body.1.split(separator: "</tr>").map { row in
                row.matches(of: /data-nanoseconds="(\d+)"/).map { String($0.1) }
            }.filter { !$0.isEmpty }
            #expect(
                rows == [
                    ["70000", "8000000", "8070000"], ["0", "7000000", "7000000"],
                    ["0", "70000", "15000000", "15070000"],
                ])
            // The bars beside it have the same sums.
            #expect(dom.contains("rank 0\nwaited 8.07 ms for others"))
            #expect(dom.contains("rank 1\nwaited 7.00 ms for others"))
        }
    }

    /// A whole number as the page writes it.
    private func grouped(_ number: Int) -> String {
        var text = ""
        for (place, digit) in "\(number)".reversed().enumerated() {
            if place > 0, place % 3 == 0 { text = "," + text }
            text = "\(digit)" + text
        }
        return text
    }

    /// A file that is not what the report reads, and what it says of it.
    struct BadFile: Sendable, CustomTestStringConvertible {
        var content: String?
        var says: [String]

        var testDescription: String { says[0] }

        private static let about =
            "\"moriEP\":{\"version\":1,\"worldSize\":2,\"zeroNanoseconds\":0,\"ranks\":[]}"

        static let all: [BadFile] = [
            BadFile(content: nil, says: ["cannot be read", "SymmetricMemory.exportTrace"]),
            BadFile(content: "", says: ["is empty", "bench-dispatch-combine --trace"]),
            BadFile(content: "rank 0\n", says: ["is no JSON object", "legal is"]),
            BadFile(content: "[1, 2]", says: ["is no JSON object"]),
            BadFile(
                content: "{\"traceEvents\":[]}",
                says: ["JSON without \"moriEP\", so no trace of MoriEP"]),
            BadFile(
                content: "{\"moriEP\":{\"version\":7}}",
                says: ["of version 7; this mori-ep reads version 1", "the package that wrote it"]),
            BadFile(content: "{\"moriEP\":{}}", says: ["of version none"]),
            BadFile(
                content: "{\(about),\"traceEvents\":[]}",
                says: ["a trace without a round", "startTrace(on:)"]),
            BadFile(content: "{\(about)}", says: ["damaged", "\"traceEvents\" is missing"]),
            BadFile(
                content:
                    "{\(about),\"traceEvents\":[{\"ph\":\"X\",\"name\":\"a\",\"pid\":0,\"tid\":1}]}",
                says: ["damaged", "event 0 has no time"]),
            BadFile(
                content: "{\(about),\"traceEvents\":["
                    + "{\"ph\":\"X\",\"name\":\"a\",\"pid\":9,\"tid\":1,\"ts\":0.5,\"dur\":1}]}",
                says: ["damaged", "rank 9 of 2"]),
            BadFile(
                content: "{\(about),\"traceEvents\":[{\"ph\":3,\"name\":\"a\",\"pid\":0}]}",
                says: ["damaged", "traceEvents [0] ph"]),
        ]

        /// What a damaged file can say of a rank or of its first event, beside what is legal.
        private static let damages:
            [(ranks: Int, described: [String], event: String, says: String)] = {
                let first = "\"rank\":0"
                let kernel = "\"ph\":\"X\",\"cat\":\"kernel\",\"pid\":0,\"tid\":100"
                let wait = "\"ph\":\"X\",\"cat\":\"peer\",\"pid\":0,\"tid\":100,\"ts\":0,\"dur\":1"
                let signal = "\"ph\":\"i\",\"cat\":\"signal\",\"pid\":0,\"tid\":100,\"ts\":0"
                let received = "\"ph\":\"i\",\"cat\":\"rows\",\"pid\":0,\"tid\":100,\"ts\":0"
                let good = kernel + ",\"ts\":0,\"dur\":1"
                return [
                    (-1, [first], good, "a world of -1 ranks; legal are 1 to 256"),
                    (0, [first], good, "a world of 0 ranks"),
                    (1_000_000, [first], good, "a world of 1000000 ranks"),
                    (2, ["\"rank\":-1"], good, "it describes rank -1 of 2"),
                    (2, [first, "\"rank\":2"], good, "it describes rank 2 of 2"),
                    (2, [first, first], good, "it describes rank 0 twice"),
                    (2, ["\"rank\":1"], good, "event 0 is of rank 0, which it does not describe"),
                    (2, [first], kernel + ",\"ts\":1e300,\"dur\":1", "event 0 has the time 1e+300"),
                    (2, [first], kernel + ",\"ts\":-9e16,\"dur\":1", "event 0 has the time -9e+16"),
                    (2, [first], kernel + ",\"ts\":0,\"dur\":9e16", "event 0 lasts 9e+16"),
                    (2, [first], kernel + ",\"ts\":0,\"dur\":-1", "event 0 lasts -1"),
                    (2, [first], wait, "event 0 waits for no rank"),
                    (2, [first], wait + ",\"args\":{\"peer\":-1}", "event 0 is about rank -1 of 2"),
                    (2, [first], wait + ",\"args\":{\"peer\":2}", "event 0 is about rank 2 of 2"),
                    (2, [first], signal, "event 0 tells no rank"),
                    (2, [first], received + ",\"args\":{\"rows\":-5}", "event 0 has -5 rows"),
                    (2, [first], received + ",\"args\":{\"rows\":9223372036854775807}", "rows"),
                    (2, [first + ",\"lost\":-1"], good, "a number below 0"),
                    (2, [first + ",\"chosen\":[-7]"], good, "a number below 0"),
                    (2, [first + ",\"expertRanks\":[2]"], good, "an expert at rank 2 of 2"),
                    (
                        2,
                        [
                            first + ",\"deviceClock\":{\"offsetNanoseconds\":0,\"comparisons\":2,"
                                + "\"roundTripNanoseconds\":-5,\"driftNanosecondsPerSecond\":0}"
                        ], good, "the clock of rank 0's device answered in -5 ns"
                    ),
                ]
            }()

        static let damaged: [BadFile] = damages.map { damage in
            let described = damage.described.map { text in
                func value(_ name: String, _ usual: String) -> String {
                    text.contains("\"\(name)\":") ? "" : ",\"\(name)\":\(usual)"
                }
                let parts = text.split(separator: ",", maxSplits: 1)
                let rest = parts.count > 1 ? "," + parts[1] : ""
                return "{\(parts[0]),\"host\":0,\"device\":\"host\",\"clockOffsetNanoseconds\":0,"
                    + "\"clockRoundTripNanoseconds\":0,\"operators\":[{\"name\":\"intranode\""
                    + "\(value("lost", "0")),\"mended\":0\(value("expertRanks", "[0]"))"
                    + "\(value("chosen", "[1]"))\(rest)}]}"
            }
            return BadFile(
                content: "{\"moriEP\":{\"version\":1,\"worldSize\":\(damage.ranks),"
                    + "\"zeroNanoseconds\":0,\"ranks\":[\(described.joined(separator: ","))]},"
                    + "\"traceEvents\":[{\"name\":\"dispatch send\",\(damage.event)}]}",
                says: [damage.says, "damaged", "export it anew"])
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: BadFile.all + BadFile.damaged)
    func whatIsNoTraceIsRefusedWithWhatItIs(_ file: BadFile) async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/file.json"
            if let content = file.content {
                try Data(content.utf8).write(to: URL(filePath: path))
            }
            let ended = try await Programs.run("mori-ep", ["trace", "report", path])
            #expect(!ended.exit.isSuccess)
            #expect(ended.errors.contains(path))
            for words in file.says { #expect(ended.errors.contains(words), "\(ended.errors)") }
            #expect(!FileManager.default.fileExists(atPath: folder + "/file.html"))
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func filesOfOneRankTwiceAreRefused() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            _ = try await TracedRounds.take(
                path, ranks: 2, config: TracedRounds.config(),
                workload: TracedRounds.workload(ranks: 2), rounds: 1)
            let ended = try await Programs.run("mori-ep", ["trace", "report", path, path])
            #expect(!ended.exit.isSuccess)
            #expect(
                ended.errors.contains("rank 0 is in")
                    && ended.errors.contains("give each rank once"))
            let none = try await Programs.run("mori-ep", ["trace", "report"])
            #expect(!none.exit.isSuccess && none.errors.contains("<files>"))
            let unwritable = try await Programs.run(
                "mori-ep", ["trace", "report", path, "--output", "/nowhere/page.html"])
            #expect(unwritable.errors.contains("--output /nowhere/page.html"))
            let itself = try await Programs.run(
                "mori-ep", ["trace", "report", path, "--output", path])
            #expect(itself.errors.contains("the trace itself; legal is another file"))
        }
    }

    /// Neither the page nor the numbers take the place of the trace or of each other, however it is spelt.
    @Test(.timeLimit(.minutes(1)))
    func noFileThatIsWrittenIsTheTraceOrAnotherOne() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            _ = try await TracedRounds.take(
                path, ranks: 2, config: TracedRounds.config(),
                workload: TracedRounds.workload(ranks: 2), rounds: 1)
            let before = try Data(contentsOf: URL(filePath: path))
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/link.json", withDestinationPath: "trace.json")
            try FileManager.default.linkItem(atPath: path, toPath: folder + "/hard.json")
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/soon.html", withDestinationPath: "new.html")
            try FileManager.default.createDirectory(
                atPath: folder + "/inner", withIntermediateDirectories: false)
            for (option, file) in [
                ("--json", path), ("--json", folder + "/inner/../trace.json"),
                ("--json", folder + "/link.json"), ("--json", folder + "/hard.json"),
                ("--output", folder + "/link.json"), ("--output", folder + "//trace.json"),
            ] {
                let ended = try await Programs.run(
                    "mori-ep", ["trace", "report", path, option, file])
                #expect(ended.exit.reason == .exited(64), "\(option) \(file)")
                #expect(
                    ended.errors.contains("\(option) is \(file), the trace itself"),
                    "\(ended.errors)")
            }
            for (page, json) in [
                (folder + "/new.html", folder + "/inner/../new.html"),
                (folder + "/soon.html", folder + "/new.html"),
            ] {
                let ended = try await Programs.run(
                    "mori-ep", ["trace", "report", path, "--output", page, "--json", json])
                #expect(ended.exit.reason == .exited(64), "\(page) \(json)")
                #expect(
                    ended.errors.contains(
                        "--json is \(json), the file of --output; legal is another"),
                    "\(ended.errors)")
            }
            #expect(try Data(contentsOf: URL(filePath: path)) == before)
            #expect(!FileManager.default.fileExists(atPath: folder + "/new.html"))
            // Two that are no files may be one.
            let nowhere = try await Programs.run(
                "mori-ep",
                ["trace", "report", path, "--output", "/dev/null", "--json", "/dev/null"])
            #expect(nowhere.exit.isSuccess, "\(nowhere.errors)")
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aTraceThatCannotBeWrittenIsSaidOnEveryRank() async throws {
        _ = try await withLocalWorld(2) { world in
            let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
            let stream = try DeviceStream(on: world.device)
            try op.startTrace(on: stream)
            try await stream.completion()
            let error = await #expect(throws: MoriError.self) {
                try await world.exportTrace(to: "/nowhere/trace.json")
            }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("/nowhere/trace.json") == true)
            try await op.close()
        }
    }
}

import FoundationEssentials
import MoriLauncher
import Testing

/// Every option of the programs, with a value that is none.
@Suite struct OptionTests {
    /// What `--experimental-dump-help` prints: ArgumentParser's own list of what a program takes.
    private struct Dump: Decodable {
        var command: Command
        struct Command: Decodable {
            var commandName: String
            var subcommands: [Command]?
            var arguments: [Argument]?
        }
        struct Argument: Decodable {
            struct Name: Decodable {
                var kind: String
                var name: String
            }
            var kind: String
            var names: [Name]?
            var shouldDisplay: Bool?
            /// As it is written: "--ranks" or "-n".
            var spelling: String? {
                (names?.first { $0.kind == "long" } ?? names?.first).map {
                    ($0.kind == "long" ? "--" : "-") + $0.name
                }
            }
        }
    }

    /// Options that take any text; what they name is found out later, or is only words.
    private static let free = [
        "mori-ep tune --origin",
        // A prefix of FIFOs, which are looked for once the ranks are there.
        "bench-dispatch-combine --round-requests",
    ]

    /// What else a command needs, so that it is the option that is refused.
    private static let needed = [
        "launch": ["-n", "2", "--", "true"], "tune": ["--output", "/tmp/rules.json"],
        "trace": ["/tmp/trace.json"],
    ]

    private func options(_ program: String) async throws -> [(command: [String], option: String)] {
        let ended = try await Programs.run(program, ["--experimental-dump-help"])
        let dump = try JSONDecoder().decode(Dump.self, from: Data(ended.output.utf8))
        func all(_ command: Dump.Command, _ path: [String]) -> [([String], String)] {
            let own = (command.arguments ?? []).filter { $0.kind == "option" }
                .compactMap(\.spelling).map { (path, $0) }
            return own
                + (command.subcommands ?? []).filter { $0.commandName != "help" }
                .flatMap { all($0, path + [$0.commandName]) }
        }
        return all(dump.command, []).map { (command: $0.0, option: $0.1) }
    }

    @Test(.timeLimit(.minutes(2)), arguments: ["mori-ep", "bench-dispatch-combine"])
    func aWrongValueOfAnyOptionNamesTheLegalOnes(_ program: String) async throws {
        let options = try await options(program)
        #expect(options.count >= 10, "\(options)")
        for (command, option) in options {
            let name = ([program] + command + [option]).joined(separator: " ")
            if Self.free.contains(name) { continue }
            var rest = Self.needed[command.first ?? ""] ?? []
            // Given twice, the last one counts.
            if rest.first == option { rest.removeFirst(2) }
            let ended = try await Programs.run(
                program, command + ["\(option)=/no/such/value"] + rest)
            #expect(!ended.exit.isSuccess, "\(name)")
            #expect(ended.output == "", "\(name): \(ended.output)")
            let words = ended.errors
            let saysWhatIsLegal = ["legal is", "legal are", "Please provide one of"]
                .contains { words.contains($0) }
            #expect(saysWhatIsLegal || words.contains("cannot be written"), "\(name): \(words)")
        }
    }

    /// A number that only a 64-bit integer holds is refused with words wherever a size is meant.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            "--ranks", "--gpus-per-node", "--queue-pairs", "--tokens", "--hidden",
            "--experts-per-rank", "--topk",
        ])
    func noSizeIsTooLargeToBeRefused(_ option: String) async throws {
        for number in [Int.max, Int.max / 2 + 1, 1 << 32] {
            var commands = [("bench-dispatch-combine", ["--world", "thread", "--warmup", "0"])]
            if option != "--queue-pairs" {
                commands.append(("mori-ep", ["tune", "--output", "/tmp/moriep-never.json"]))
            }
            for (program, command) in commands {
                let ended = try await Programs.run(program, command + ["\(option)=\(number)"])
                guard case .exited(let status) = ended.exit.reason else {
                    Issue.record("\(program) \(option)=\(number): \(ended.exit)")
                    continue
                }
                #expect(status != 0)
                #expect(ended.output == "", "\(program) \(option)=\(number): \(ended.output)")
                #expect(ended.errors.contains("legal"), "\(program): \(ended.errors)")
            }
        }
    }

    /// Files that are written at the end are refused at the begin where that cannot be.
    @Test(.timeLimit(.minutes(1)))
    func aFolderOrNoNameIsNoFileToWrite() async throws {
        try await TracedRounds.inFolder { folder in
            let file = folder + "/file"
            try Data().write(to: URL(filePath: file))
            for (path, words) in [
                (folder, "is a folder; legal is a file"), (folder + "/", "is a folder"),
                ("", "is empty; legal is a file"), (folder + "/none/", "cannot be written"),
                (file + "/below", "cannot be written"),
            ] {
                for (program, command, option) in [
                    ("mori-ep", ["tune", "--ranks", "1", "--tokens", "1"], "--output"),
                    ("mori-ep", ["trace", "report", file], "--output"),
                    ("mori-ep", ["trace", "report", file], "--json"),
                    ("bench-dispatch-combine", ["--ranks", "1", "--tokens", "1"], "--json"),
                    ("bench-dispatch-combine", ["--ranks", "1", "--tokens", "1"], "--trace"),
                ] {
                    let ended = try await Programs.run(program, command + [option, path])
                    #expect(ended.exit.reason == .exited(64), "\(program) \(option)=\(path)")
                    #expect(ended.output == "")
                    #expect(
                        ended.errors.contains("\(option) ") && ended.errors.contains(words),
                        "\(program) \(option)=\(path): \(ended.errors)")
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func theBenchmarksTraceAndResultsAreDifferentFiles() async throws {
        try await TracedRounds.inFolder { folder in
            let ended = try await Programs.run(
                "bench-dispatch-combine",
                [
                    "--ranks", "1", "--tokens", "1", "--trace", folder + "/one.json", "--json",
                    folder + "/../" + (folder.split(separator: "/").last ?? "") + "/one.json",
                ])
            #expect(ended.exit.reason == .exited(64))
            #expect(ended.errors.contains("the file of --trace; legal is another"))
            #expect(!FileManager.default.fileExists(atPath: folder + "/one.json"))
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func anUnknownOptionIsNamedWithTheOneThatIsMeant() async throws {
        let ended = try await Programs.run("mori-ep", ["doctor", "--jsn"])
        #expect(ended.exit.reason == .exited(64))
        #expect(ended.errors.contains("--jsn"))
        #expect(ended.errors.contains("--json"))
    }
}

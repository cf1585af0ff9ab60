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

    @Test(.timeLimit(.minutes(1)))
    func anUnknownOptionIsNamedWithTheOneThatIsMeant() async throws {
        let ended = try await Programs.run("mori-ep", ["doctor", "--jsn"])
        #expect(ended.exit.reason == .exited(64))
        #expect(ended.errors.contains("--jsn"))
        #expect(ended.errors.contains("--json"))
    }
}

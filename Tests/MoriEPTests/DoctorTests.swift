import FoundationEssentials
import MoriLauncher
import Testing

/// What `mori-ep doctor` prints, and how it ends.
@Suite struct DoctorTests {
    /// What `--json` prints, as a program of somebody else would read it.
    private struct Report: Decodable {
        struct Variable: Decodable {
            var name: String
            var value: String
            var origin: String
            var meaning: String
            var role: String
            var problem: String?
        }
        struct Unknown: Decodable {
            var name: String
            var nearest: String
        }
        var variables: [Variable]
        var unknown: [Unknown]
        var problems: [String]
    }

    @Test(.timeLimit(.minutes(1)))
    func theTableShowsValueOriginAndMeaning() async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor"],
            environment: ["MORI_EP_TIMEOUT": "2.5", "MORI_BOOTSTRAP_SECRET": "hush"])
        #expect(ended.exit.isSuccess)
        let lines = ended.output.split(separator: "\n").map {
            $0.split(separator: " ").map(String.init)
        }
        func line(_ name: String) -> [String] { lines.first { $0.first == name } ?? [] }
        #expect(lines.first == ["VARIABLE", "VALUE", "ORIGIN", "MEANING"])
        #expect(line("MORI_EP_TIMEOUT").prefix(4) == ["MORI_EP_TIMEOUT", "2.5", "set", "the"])
        #expect(line("MORI_SHMEM_HEAP_SIZE").dropFirst().prefix(2) == ["8G", "default"])
        #expect(line("MORI_SHMEM_MODE").prefix(3) == ["MORI_SHMEM_MODE", "-", "default"])
        #expect(line("MORI_BOOTSTRAP_SECRET").prefix(3).last == "set")
        #expect(!ended.output.contains("hush"))
    }

    @Test(.timeLimit(.minutes(1)), arguments: [[], ["--json"]])
    func anUnparsableValueIsStatusOne(_ options: [String]) async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor"] + options, environment: ["MORI_EP_TIMEOUT": "soon"])
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.output.contains("MORI_EP_TIMEOUT is "))
        #expect(ended.output.contains("; legal is a number of seconds"))
    }

    @Test(.timeLimit(.minutes(1)))
    func aFileOfRulesThatCannotBeReadIsStatusOne() async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor"], environment: ["MORI_EP_TUNING_CONFIG": "no-such-rules.json"])
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.output.contains("no-such-rules.json, which cannot be read"))
    }

    @Test(.timeLimit(.minutes(1)))
    func aLauncherThatContradictsItselfIsStatusOne() async throws {
        let ended = try await Programs.run("mori-ep", ["doctor"], environment: ["RANK": "1"])
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.output.contains("RANK is set without WORLD_SIZE"))
    }

    @Test(.timeLimit(.minutes(1)))
    func anUnknownVariableIsNoFailureButNamed() async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor"], environment: ["MORI_SHMEM_HEAPSIZE": "6G"])
        #expect(ended.exit.isSuccess)
        #expect(ended.output.contains("MORI_SHMEM_HEAPSIZE: did you mean MORI_SHMEM_HEAP_SIZE?"))
    }

    @Test(.timeLimit(.minutes(1)))
    func theJSONSaysTheSame() async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor", "--json"],
            environment: [
                "MORI_SHMEM_HEAP_SIZE": "6G", "MORI_EP_FABRICS": "verbs", "MORI_RDMA_SL": "99",
                "MORI_JIT_CACHE_DIR": "cache",
            ])
        let report = try JSONDecoder().decode(Report.self, from: Data(ended.output.utf8))
        func variable(_ name: String) -> Report.Variable? {
            report.variables.first { $0.name == name }
        }
        #expect(variable("MORI_SHMEM_HEAP_SIZE")?.value == "6G")
        #expect(variable("MORI_SHMEM_HEAP_SIZE")?.origin == "set")
        #expect(variable("MORI_SHMEM_HEAP_SIZE")?.role == "setting")
        #expect(variable("MASTER_PORT")?.role == "launcher")
        #expect(variable("MORI_JIT_CACHE_DIR")?.role == "ignored")
        #expect(variable("MORI_RDMA_SL")?.problem?.contains("0 to 15") == true)
        #expect(report.unknown.map(\.name) == ["MORI_EP_FABRICS"])
        #expect(report.unknown.first?.nearest == "MORI_EP_FABRIC")
        #expect(report.problems.count == 1)
    }
}

import FoundationEssentials
import MoriLauncher
import Testing

/// What `mori-ep doctor` prints, and how it ends.
@Suite struct DoctorTests {
    @Test(.timeLimit(.minutes(1)))
    func theTableShowsValueOriginAndMeaning() async throws {
        let ended = try await Programs.run(
            "mori-ep", ["doctor", "--all"],
            environment: ["MORI_EP_TIMEOUT": "2.5", "MORI_BOOTSTRAP_SECRET": "hush"])
        #expect(ended.exit.isSuccess, "\(ended.output)")
        let lines = ended.output.split(separator: "\n").map {
            $0.split(separator: " ").map(String.init)
        }
        func line(_ name: String) -> [String] { lines.first { $0.first == name } ?? [] }
        #expect(line("VARIABLE") == ["VARIABLE", "VALUE", "ORIGIN", "MEANING"])
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
    func theJSONSaysTheSameOfVariables() async throws {
        let (report, _) = try await DoctorDocument.of(
            [],
            environment: [
                "MORI_SHMEM_HEAP_SIZE": "6G", "MORI_EP_FABRICS": "verbs", "MORI_RDMA_SL": "99",
                "MORI_JIT_CACHE_DIR": "cache",
            ])
        func variable(_ name: String) -> DoctorDocument.Variable? {
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
        #expect(report.selfTests.allSatisfy { $0.result == "skipped" })
    }

    /// This machine has at least its processor: both transports of it are tested, within five seconds.
    @Test(.timeLimit(.minutes(1)))
    func aRoundOverEachTransportPassesWithinFiveSeconds() async throws {
        let start = ContinuousClock.now
        let (report, status) = try await DoctorDocument.of([])
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(status == .exited(report.problems.isEmpty ? 0 : 1))
        let tested = report.selfTests.map { "\($0.transport) \($0.result) \($0.reason ?? "")" }
        #expect(tested.contains("host memory passed "), "\(tested)")
        #expect(tested.contains("loopback fabric passed "), "\(tested)")
        #expect(report.defaultDevice == "host:0")
        #expect(report.host.processors >= 1)
        #expect((report.host.memoryBytes ?? 0) > (report.host.availableMemoryBytes ?? 0))
    }

    /// Rank 1 of the self-test ends at once: the test fails with its words instead of waiting.
    @Test(.timeLimit(.minutes(1)))
    func aTransportThatFailsIsStatusOneWithTheCommandThatShowsIt() async throws {
        let (report, status) = try await DoctorDocument.of(
            [], environment: ["MORI_SHMEM_HEAP_SIZE": "1K"])
        #expect(status == .exited(1))
        let failed = report.selfTests.filter { $0.result == "failed" }
        #expect(failed.map(\.transport) == ["host memory", "loopback fabric"])
        #expect(failed.allSatisfy { $0.reason?.contains("MORI_SHMEM_HEAP_SIZE") == true })
        #expect(report.problems.count == 2)
        #expect(
            report.problems.allSatisfy {
                $0.command.contains("mori-ep launch -n 2 -- mori-ep self-test-rank --kernel ")
            })
    }

    @Test(.timeLimit(.minutes(1)))
    func aLibraryThatCannotBeOpenedIsNamedWithEveryPathTried() async throws {
        let (report, _) = try await DoctorDocument.of(
            ["--no-self-test"], environment: ["MORI_EP_LIBRARY": "/no/such/folder"])
        let amd = try #require(report.devices.first { $0.kind == "amd" })
        #expect(amd.attempts.first?.path == "/no/such/folder/libmoriep_amd.so")
        // Where one was built, the search ends there.
        let taken = amd.attempts.first { $0.reason == nil }
        #expect(amd.library == taken?.path)
        #expect(amd.attempts.dropLast().allSatisfy { $0.reason?.isEmpty == false })
        if taken == nil { #expect(amd.attempts.last?.path == "libmoriep_amd.so") }
    }

    @Test(.timeLimit(.minutes(1)))
    func aRootWithNothingToLookAtIsStatusTwo() async throws {
        let ended = try await Programs.run("mori-ep", ["doctor", "--root", "/no/such/root"])
        #expect(ended.exit.reason == .exited(2))
        #expect(ended.errors.contains("/no/such/root has no proc and sys"))
        #expect(ended.errors.contains("legal is"))
    }
}

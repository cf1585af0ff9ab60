import FoundationEssentials
import Glibc
import MoriDevice
import MoriLauncher
import Testing

/// Starting the ranks of a world on one machine.
@Suite struct LauncherTests {
    private func shell(
        _ script: String, ranks: Int, grace: Duration = .seconds(20)
    ) async throws -> [RankExit] {
        try await RankLauncher(
            program: "sh", arguments: ["-c", script], worldSize: ranks,
            standardOutput: .collected, standardError: .collected, grace: grace
        ).run()
    }

    private func lines(_ exit: RankExit) -> [String] {
        String(decoding: exit.standardOutput, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    @Test(.timeLimit(.minutes(1)))
    func everyRankLearnsItsPlace() async throws {
        let exits = try await shell(
            "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR; echo $MASTER_PORT",
            ranks: 3)
        #expect(exits.map(\.rank) == [0, 1, 2])
        #expect(exits.allSatisfy { $0.isSuccess })
        for (rank, exit) in exits.enumerated() {
            #expect(lines(exit).first == "\(rank) \(rank) 3 3 127.0.0.1")
        }
        let ports = Set(exits.map { lines($0).last })
        #expect(ports.count == 1)
    }

    @Test(.timeLimit(.minutes(1)))
    func theSecretIsTheWorldsOwn() async throws {
        let first = try await shell("echo $MORI_BOOTSTRAP_SECRET", ranks: 2)
        let second = try await shell("echo $MORI_BOOTSTRAP_SECRET", ranks: 2)
        let secrets = (first + second).map { lines($0).first ?? "" }
        #expect(secrets.allSatisfy { $0.count == 64 })
        #expect(secrets[0] == secrets[1])
        #expect(secrets[2] == secrets[3])
        #expect(secrets[0] != secrets[2])
    }

    @Test(.timeLimit(.minutes(1)))
    func ranksInheritFourDescriptorsOnly() async throws {
        let file = unsafe open("/dev/null", O_RDONLY)
        defer { close(file) }
        // The last number is the descriptor by which `ls` reads the folder.
        let exits = try await shell("ls /proc/self/fd; true", ranks: 1)
        #expect(lines(exits[0]).prefix(4) == ["0", "1", "2", "3"])
        #expect(lines(exits[0]).count == 5)
    }

    @Test(.timeLimit(.minutes(1)))
    func oneFailureEndsTheOthersAndWhatTheyStartedAfterTheGrace() async throws {
        let mark = UUID().uuidString
        // The shell's sleep is a process of its own.
        let exits = try await RankLauncher(
            program: "sh",
            arguments: ["-c", "test $RANK = 1 && exit 7; test $RANK = 2 && exit 0; sleep 1000; :"],
            worldSize: 3, environment: [Processes.markVariable: mark], grace: .milliseconds(200)
        ).run()
        let isGone = try await Processes.wait { Processes.marked(mark).isEmpty }
        #expect(isGone)
        #expect(exits[0].reason == .signalled(SIGKILL))
        #expect(exits[0].wasEndedByLauncher)
        #expect(exits[1].reason == .exited(7))
        #expect(!exits[1].wasEndedByLauncher)
        #expect(exits[2].isSuccess)
        #expect(exits.firstFailure?.rank == 1)
        #expect(exits[1].shellStatus == 7)
    }

    @Test(.timeLimit(.minutes(1)))
    func aRankThatWasKilledIsReportedWithItsSignal() async throws {
        let exits = try await shell("test $RANK = 0 && kill -9 $$; true", ranks: 2)
        #expect(exits[0].description == "rank 0 was killed by signal 9 (Killed)")
        #expect(exits.firstFailure?.shellStatus == 137)
    }

    @Test(.timeLimit(.minutes(1)))
    func aCancelledLaunchLeavesNoRank() async throws {
        let mark = UUID().uuidString
        let task = Task {
            try await RankLauncher(
                program: "sleep", arguments: ["1000"], worldSize: 2,
                environment: [Processes.markVariable: mark]
            ).run()
        }
        let isRunning = try await Processes.wait { Processes.marked(mark).count == 2 }
        #expect(isRunning)
        task.cancel()
        let exits = try await task.value
        #expect(exits.allSatisfy { $0.reason == .signalled(SIGKILL) && $0.wasEndedByLauncher })
        #expect(Processes.marked(mark).isEmpty)
    }

    @Test(.timeLimit(.minutes(1)))
    func aProgramThatIsNotThereIsNamed() async throws {
        let error = await #expect(throws: MoriError.self) {
            try await RankLauncher(program: "no-such-program", worldSize: 2).run()
        }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("\"no-such-program\" in PATH") == true)
    }

    @Test(.timeLimit(.minutes(1)))
    func linesOfOutputCarryTheirRank() async throws {
        let ended = try await Programs.run(
            "mori-ep",
            ["launch", "-n", "2", "--", "sh", "-c", "echo out; echo err >&2; printf end"])
        #expect(ended.exit.isSuccess)
        #expect(
            ended.output.split(separator: "\n").sorted()
                == ["[0] end", "[0] out", "[1] end", "[1] out"])
        #expect(ended.errors.split(separator: "\n").sorted() == ["[0] err", "[1] err"])
    }

    @Test(.timeLimit(.minutes(1)))
    func theCommandEndsWithTheFirstFailuresStatus() async throws {
        let ended = try await Programs.run(
            "mori-ep",
            ["launch", "-n", "2", "--no-prefix", "--", "sh", "-c", "exit $((RANK * 5))"])
        #expect(ended.exit.reason == .exited(5))
        #expect(ended.errors.contains("rank 1 exited with status 5"))
    }

    @Test(.timeLimit(.minutes(1)))
    func ranksEndWithALauncherThatIsKilled() async throws {
        let mark = UUID().uuidString
        async let ended = Programs.run(
            "mori-ep", ["launch", "-n", "3", "--", "sleep", "1000"], mark: mark)
        let isRunning = try await Processes.wait {
            Processes.marked(mark).count { $0.rank != nil } == 3
        }
        #expect(isRunning)
        let launcher = try #require(Processes.marked(mark).first { $0.rank == nil })
        kill(launcher.id, SIGKILL)
        let reason = try await ended.exit.reason
        #expect(reason == .signalled(SIGKILL))
        let isGone = try await Processes.wait { Processes.marked(mark).isEmpty }
        #expect(isGone)
    }

    @Test(.timeLimit(.minutes(1)))
    func aRankThatWatchesItsLifelineEndsWithIt() async throws {
        await #expect(processExitsWith: .exitCode(113)) {
            var ends: [Int32] = [-1, -1]
            guard unsafe pipe(&ends) == 0 else { return }
            unsafe setenv(Lifeline.variable, "\(ends[0])", 1)
            try Lifeline.watch()
            close(ends[1])
            try await Task.sleep(for: .seconds(30))
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aLifelineThatIsNoneIsRefused() async throws {
        await #expect(processExitsWith: .success) {
            unsafe setenv(Lifeline.variable, "12345", 1)
            let error = #expect(throws: MoriError.self) { try Lifeline.watch() }
            #expect(error?.code == .invalidConfiguration)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func infoNamesEveryKindOfDevice() async throws {
        let ended = try await Programs.run("mori-ep", ["info"])
        #expect(ended.exit.isSuccess)
        for heading in ["host devices", "amd devices", "nvidia devices", "RDMA NICs"] {
            #expect(ended.output.contains(heading))
        }
        #expect(ended.output.contains("host:0: "))
    }
}

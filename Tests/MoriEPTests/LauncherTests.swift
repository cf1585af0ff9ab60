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

    /// Starts two ranks of a script, sends signals to their launcher once both are ready, and gives how
    /// it ended; nothing may be left of them.
    private func signalled(
        _ signals: [Int32], grace: String, _ script: String
    ) async throws -> Programs.Ended {
        let mark = UUID().uuidString
        let folder = FileManager.default.temporaryDirectory.appending(path: "moriep-\(mark)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func count(_ prefix: String) -> Int {
            let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path)
            return names?.count { $0.hasPrefix(prefix) } ?? 0
        }
        async let running = Programs.run(
            "mori-ep",
            ["launch", "-n", "2", "--grace", grace, "--", "sh", "-c", script], mark: mark,
            environment: ["FOLDER": folder.path])
        let isReady = try await Processes.wait { count("ready") == 2 }
        #expect(isReady)
        let launcher = try #require(Processes.marked(mark).first { $0.rank == nil })
        for (number, signal) in signals.enumerated() {
            kill(launcher.id, signal)
            // The next one only when the ranks have this one: signals do not queue.
            guard number < signals.count - 1 else { break }
            let isThere = try await Processes.wait { count("got\(number + 1)") == 2 }
            #expect(isThere)
        }
        let ended = try await running
        let isGone = try await Processes.wait { Processes.marked(mark).isEmpty }
        #expect(isGone)
        return ended
    }

    @Test(.timeLimit(.minutes(1)))
    func aSignalThatEndsTheLaunchGivesEveryRankTheGraceToEnd() async throws {
        let ended = try await signalled(
            [SIGTERM], grace: "30",
            """
            trap 'touch $FOLDER/got1.$RANK; echo last words; exit 3' TERM
            touch $FOLDER/ready.$RANK; while :; do sleep 0.05; done
            """)
        #expect(ended.exit.reason == .exited(3))
        #expect(
            ended.output.split(separator: "\n").sorted() == ["[0] last words", "[1] last words"])
    }

    @Test(.timeLimit(.minutes(1)))
    func aSignalThatEndsNothingIsPassedOn() async throws {
        let ended = try await signalled(
            [SIGUSR1, SIGUSR2], grace: "30",
            """
            trap 'touch $FOLDER/got1.$RANK' USR1; trap 'touch $FOLDER/got2.$RANK; exit 0' USR2
            touch $FOLDER/ready.$RANK; while :; do sleep 0.05; done
            """)
        #expect(ended.exit.isSuccess, "\(ended.errors)")
    }

    @Test(.timeLimit(.minutes(1)))
    func ranksThatIgnoreTheSignalAreKilledAfterTheGraceOrAtTheSecondOne() async throws {
        let stubborn = """
            trap 'touch $FOLDER/got1.$RANK' TERM
            touch $FOLDER/ready.$RANK; while :; do sleep 0.05; done
            """
        let late = try await signalled([SIGTERM], grace: "0.3", stubborn)
        #expect(late.exit.reason == .exited(137))
        let twice = try await signalled([SIGTERM, SIGTERM], grace: "1000", stubborn)
        #expect(twice.exit.reason == .exited(137))
    }

    @Test(.timeLimit(.minutes(1)))
    func aSignalsStatusIsTheRanks() async throws {
        let ended = try await signalled(
            [SIGINT], grace: "30",
            "touch $FOLDER/ready.$RANK; exec sleep 1000")
        #expect(ended.exit.reason == .exited(130), "\(ended.errors)")
    }

    /// Also what went into a session of its own, which no signal to a group reaches.
    @Test(.timeLimit(.minutes(1)))
    func whatARankLeavesBehindEndsWithTheLaunch() async throws {
        let mark = UUID().uuidString
        let ended = try await Programs.run(
            "mori-ep",
            ["launch", "-n", "2", "--", "sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0"],
            mark: mark)
        #expect(ended.exit.isSuccess)
        #expect(Processes.marked(mark).isEmpty)
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

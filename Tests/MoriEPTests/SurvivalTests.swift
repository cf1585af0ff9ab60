import Foundation
import Glibc
import MoriEP
import MoriLauncher
import MoriTestSupport
import Testing

/// Ranks that are processes, of which some are killed or stopped, as the argument of a test.
struct SurvivalCase: Sendable, CustomTestStringConvertible {
    var kernelType: KernelType
    var ranks = 4
    var perNode = 2
    var victims: [Int]
    /// kill, stop or pause; see `mori-lab survive`.
    var fault: String
    var moment: String

    var testDescription: String {
        "\(kernelType), \(ranks) ranks, \(perNode) a node, \(fault) \(victims) \(moment)"
    }
}

extension WorldTests.SurvivalTests {
    /// How long after the first wait began a rank may have its error, beyond the deadline.
    static let allowance = Duration.milliseconds(100)
    static let deadline = Duration.milliseconds(500)

    /// Killed with SIGKILL: the ended connection names it, long before a deadline.
    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            SurvivalCase(
                kernelType: .intraNode, victims: [1], fault: "kill", moment: "beforeDispatch"),
            SurvivalCase(
                kernelType: .intraNode, victims: [0], fault: "kill", moment: "duringDispatch"),
            SurvivalCase(
                kernelType: .interNode, victims: [0], fault: "kill", moment: "afterDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1, victims: [2], fault: "kill", moment: "duringDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1, victims: [0], fault: "kill", moment: "duringCombine"),
            SurvivalCase(
                kernelType: .interNodeV1LL, victims: [3], fault: "kill", moment: "afterCombine"),
            SurvivalCase(
                kernelType: .asyncLL, victims: [1], fault: "kill", moment: "duringCombine"),
            SurvivalCase(
                kernelType: .interNodeV1, ranks: 5, victims: [0, 1], fault: "kill",
                moment: "beforeDispatch"),
        ])
    func survivorsOfAKilledRankNameItAndGoOn(_ test: SurvivalCase) async throws {
        try await Self.run(test)
    }

    /// A process that exits in the middle of a round without closing anything: no crash, no file left.
    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            SurvivalCase(
                kernelType: .intraNode, victims: [0], fault: "exit", moment: "duringDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1LL, victims: [2], fault: "exit", moment: "duringCombine"),
        ])
    func aProcessThatExitsWithoutClosingLeavesNothing(_ test: SurvivalCase) async throws {
        let shared = try FileManager.default.contentsOfDirectory(atPath: "/dev/shm").sorted()
        try await Self.run(test)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "/dev/shm").sorted() == shared)
    }

    /// Stopped with SIGSTOP, and resumed while the others run rounds without it: its late writes
    /// reach nothing, and it is told that it is out.
    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            SurvivalCase(
                kernelType: .intraNode, victims: [2], fault: "stop", moment: "afterDispatch"),
            SurvivalCase(
                kernelType: .intraNode, victims: [0], fault: "stop", moment: "beforeDispatch"),
            SurvivalCase(
                kernelType: .interNode, victims: [3], fault: "stop", moment: "duringCombine"),
            SurvivalCase(
                kernelType: .interNodeV1, victims: [0], fault: "stop", moment: "beforeDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1LL, victims: [2], fault: "stop", moment: "afterDispatch"),
            SurvivalCase(kernelType: .asyncLL, victims: [1], fault: "stop", moment: "afterCombine"),
        ])
    func survivorsOfAStoppedRankNameItAndGoOn(_ test: SurvivalCase) async throws {
        try await Self.run(test)
    }

    /// Stopped, and resumed when the others had given up: all go on, and nothing is lost.
    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            SurvivalCase(
                kernelType: .intraNode, victims: [1], fault: "pause", moment: "duringCombine"),
            SurvivalCase(
                kernelType: .interNode, victims: [0], fault: "pause", moment: "duringDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1, victims: [3], fault: "pause", moment: "afterDispatch"),
            SurvivalCase(
                kernelType: .interNodeV1LL, victims: [0], fault: "pause", moment: "beforeDispatch"),
            SurvivalCase(
                kernelType: .asyncLL, victims: [2], fault: "pause", moment: "beforeDispatch"),
        ])
    func nothingIsLostOfARankThatWasOnlySlow(_ test: SurvivalCase) async throws {
        try await Self.run(test)
    }

    /// A busy machine may hold up a rank that is there, which is then blamed, or the error; it does
    /// not do so three times.
    private static func run(_ test: SurvivalCase) async throws {
        var complaints: [String] = []
        for _ in 0..<3 {
            guard let complaint = try await attempt(test) else { return }
            print("again: \(test.testDescription): \(complaint)")
            complaints.append(complaint)
        }
        Issue.record("\(complaints.joined(separator: "\n\n"))")
    }

    /// nil when all went as it should.
    private static func attempt(_ test: SurvivalCase) async throws -> String? {
        let mark = UUID().uuidString
        // Where a process would leave its temporary files.
        let folder = FileManager.default.temporaryDirectory.appending(path: mark)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let milliseconds = Int(deadline / .milliseconds(1))
        let exits = try await RankLauncher(
            program: Programs.path("mori-lab"),
            arguments: [
                "survive", "--kernel", "\(test.kernelType)", "--per-node", "\(test.perNode)",
                "--victims", test.victims.map(String.init).joined(separator: ","),
                "--fault", test.fault, "--moment", test.moment, "--deadline", "\(milliseconds)",
            ], worldSize: test.ranks,
            environment: [
                Processes.markVariable: mark, "MORI_EP_DEVICE": "host", "TMPDIR": folder.path,
            ],
            standardOutput: .collected, standardError: .collected, grace: .seconds(10)
        ).run()
        let words = exits.map { exit in
            "\(exit.description): "
                + String(decoding: exit.standardOutput + exit.standardError, as: UTF8.self)
        }
        for exit in exits {
            let isKilled = test.fault == "kill" && test.victims.contains(exit.rank)
            guard exit.reason == (isKilled ? .signalled(SIGKILL) : .exited(0)) else {
                return words.joined(separator: "\n")
            }
        }
        let times = exits.filter { !test.victims.contains($0.rank) }.map(Times.init)
        let began = times.map(\.began).min() ?? 0
        let failed = times.map(\.failed).max() ?? .max
        guard began > 0, failed > began else { return "no times: \(words)" }
        let took = Duration.nanoseconds(failed - began)
        print("\(test.testDescription): the last survivor had its error after \(took)")
        guard took <= deadline + allowance else { return "the error took \(took): \(words)" }
        #expect(Processes.marked(mark).isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        return nil
    }

    /// When a rank began the round that failed, and when it had the error.
    private struct Times {
        var began: UInt64 = 0
        var failed: UInt64 = 0

        init(_ exit: RankExit) {
            for line in String(decoding: exit.standardOutput, as: UTF8.self).split(separator: "\n")
            {
                let words = line.split(separator: " ")
                guard words.count == 6, words[2] == "began", words[4] == "failed" else { continue }
                began = UInt64(words[3]) ?? 0
                failed = UInt64(words[5]) ?? 0
            }
        }
    }
}

#if Checked
import Foundation
import MoriEP
import MoriShmem
import MoriTestSupport
import Testing

extension CheckedTests.FaultTests {
    /// `SCHEDULES` of them, beginning with `SEED`.
    private static let seeds: Range<UInt64> = {
        let environment = ProcessInfo.processInfo.environment
        let count = environment["SCHEDULES"].flatMap(UInt64.init) ?? 1000
        let first = environment["SEED"].flatMap(UInt64.init) ?? 1
        return first..<first + count
    }()

    /// Two ranks whose network has one fault.
    private static func rounds(_ fault: LoopbackBehavior.Fault) async throws -> [Outcome] {
        let schedule = Schedule(rounds: Schedule.rounds([[20, 20], [20, 20]], seed: 1)) {
            $0.kernelType = .asyncLL
            $0.devicesPerNode = 1
            $0.loopback = .delayed(.nanoseconds(1)).failing(fault)
        }
        return try await schedule.run().outcomes
    }

    @Test(.timeLimit(.minutes(1)), arguments: LoopbackFaults.verbsStatuses)
    func everyStatusOfACompletionIsAnErrorThatNamesThePeer(_ status: Int32) async throws {
        let outcomes = try await Self.rounds(
            .completionError(rank: 0, peer: 1, request: 0, status: status))
        for (rank, outcome) in outcomes.enumerated() {
            guard case .failed(let error, _, let after) = outcome else {
                Issue.record("rank \(rank) \(outcome)")
                continue
            }
            #expect(after < .milliseconds(20), "not at once: \(error)")
            #expect(error.ranks == [1], "\(error)")
            guard rank == 0 else { continue }
            #expect(error.code == .networkFailure || error.code == .aborted, "\(error)")
            #expect(error.description.contains("status \(status)"), "\(error)")
        }
    }

    /// To the tenth of a millisecond, on however busy a machine.
    @Test(.timeLimit(.minutes(1)))
    func aWriteCountsUntilTheDeadlineAndNotAfterIt() async throws {
        let deadline = Duration.milliseconds(200)
        let inTime = try await Self.rounds(
            .lateRequest(rank: 0, peer: 1, request: 0, by: deadline - .microseconds(100)))
        #expect(inTime.allSatisfy { if case .finished = $0 { true } else { false } }, "\(inTime)")
        let tooLate = try await Self.rounds(
            .lateRequest(rank: 0, peer: 1, request: 0, by: deadline + .milliseconds(11)))
        guard case .failed(let error, round: 0, let after) = tooLate[1] else {
            Issue.record("\(tooLate)")
            return
        }
        #expect(error.code == .timedOut && error.ranks == [0], "\(error)")
        #expect(after >= deadline && after <= deadline + .milliseconds(10), "\(after)")
    }

    /// Whatever goes wrong: a right result, or an error that says what, by the deadline.
    @Test(.timeLimit(.minutes(600)))
    func everyScheduleEndsRightOrInAnErrorByTheDeadline() async throws {
        var ends: [Disturbance: (right: Int, failed: Int)] = [:]
        var codes: [String: Int] = [:]
        for seed in Self.seeds {
            let (schedule, disturbance) = Schedule.random(seed: seed)
            let watch = Watch("seed \(seed), \(disturbance): \(schedule)")
            let report = try await schedule.run()
            watch.stop()
            if Self.seeds.count < 100 {
                print("seed \(seed), \(disturbance): \(schedule)", report.outcomes)
            }
            let findings = schedule.findings(report, disturbance)
            if !findings.isEmpty {
                Issue.record(
                    """
                    \(findings.joined(separator: "\\n"))
                    again with: make test-faults SCHEDULES=1 SEED=\(seed)
                    \(disturbance): \(schedule)
                    """)
            }
            var failed = false
            for case .failed(let error, _, _) in report.outcomes {
                failed = true
                codes["\(error.code)", default: 0] += 1
            }
            ends[disturbance, default: (0, 0)].right += failed ? 0 : 1
            ends[disturbance, default: (0, 0)].failed += failed ? 1 : 0
        }
        print("seeds \(Self.seeds)")
        for disturbance in Disturbance.allCases {
            let (right, failed) = ends[disturbance] ?? (0, 0)
            print("\(disturbance): \(right) right, \(failed) with errors")
        }
        print("errors by kind: \(codes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
        // A thousand of them have everything; a few may not.
        guard Self.seeds.count >= 500 else { return }
        for disturbance in Disturbance.allCases where disturbance != .nothing {
            #expect((ends[disturbance]?.failed ?? 0) > 0, "\(disturbance) never disturbed")
        }
    }
}

/// Says what runs if it does not end.
private final class Watch: Sendable {
    private let task: Task<Void, Never>

    init(_ words: String) {
        task = Task.detached {
            do { try await Task.sleep(for: .seconds(60)) } catch { return }
            fatalError("a schedule hangs: \(words)")
        }
    }

    func stop() { task.cancel() }
}

extension Schedule {
    /// A waiting kernel looks at its deadline this often.
    private static let look = Duration.milliseconds(10)
    /// Waits that follow each other in one round, at most, each of which ends by its deadline.
    private static let waitsOfRound = 10

    /// What of a report must not be.
    func findings(_ report: Report, _ disturbance: Disturbance) -> [String] {
        var findings = report.races
        for (rank, outcome) in report.outcomes.enumerated() {
            switch outcome {
            case .finished: break
            case .wrong(let words): findings.append(words)
            case .failed(let error, _, let after):
                if disturbance == .nothing {
                    findings.append("rank \(rank) failed, though nothing was wrong: \(error)")
                }
                if after > limit {
                    findings.append("rank \(rank) failed after \(after): \(error)")
                }
                if !Self.codes(of: disturbance).contains(error.code) {
                    findings.append("rank \(rank) failed with \(error)")
                }
                if let waited = error.milliseconds, waited > deadline + Self.look {
                    findings.append("rank \(rank) waited \(waited): \(error)")
                }
            }
        }
        return findings
    }

    /// How long a round may take until its error.
    private var limit: Duration {
        let pauses = pauses.reduce(Duration.zero) { $0 + $1.duration }
        let late = loopback.faults.reduce(Duration.zero) { sum, fault in
            if case .lateRequest(_, _, _, let by) = fault { sum + by } else { sum }
        }
        return (deadline + Self.look) * Self.waitsOfRound + pauses + late
    }

    /// The errors that a disturbance may lead to.
    private static func codes(of disturbance: Disturbance) -> Set<MoriError.Code> {
        switch disturbance {
        case .nothing: []
        case .completionError, .lostPeer: [.networkFailure, .aborted, .timedOut]
        case .lostCompletion, .lateRequest, .slowRank: [.timedOut, .aborted]
        case .failingLaunch: [.outOfMemory, .aborted]
        case .failingAllocation: [.outOfMemory, .deviceFailure, .aborted, .timedOut]
        }
    }
}

extension MoriError {
    /// How long a wait lasted, as its words say.
    fileprivate var milliseconds: Duration? {
        guard let match = message.firstMatch(of: /waited (\d+) ms/) else { return nil }
        return Int(match.1).map { .milliseconds($0) }
    }
}
#endif

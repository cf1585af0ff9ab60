#if Checked
import MoriEP
import MoriTestSupport

/// Something to run in which a mistake of the kernels would show.
struct Scenario: Sendable, CustomStringConvertible {
    /// What it is, in words.
    let name: String
    let schedule: Schedule
    /// What of the outcomes is not as it has to be.
    let findings: @Sendable (Report) -> [String]

    var description: String { name }

    init(
        _ name: String, _ schedule: Schedule,
        findings: @escaping @Sendable (Report) -> [String] = Self.everythingFinished
    ) {
        self.name = name
        self.schedule = schedule
        self.findings = findings
    }

    /// Runs it and gives what was noticed, nothing for kernels that are right.
    func run() async throws -> [String] { findings(try await schedule.run()) }

    /// Findings of a schedule that nothing disturbs.
    static let everythingFinished: @Sendable (Report) -> [String] = { report in
        let outcomes = report.outcomes.filter {
            if case .finished = $0 { false } else { true }
        }.map { "\($0)" }
        // What was wrong before what came of it.
        return report.races + outcomes.filter { $0.hasPrefix("WRONG") }
            + outcomes.filter { !$0.hasPrefix("WRONG") }
    }

    /// Findings where these ranks have to fail like that, within so much time.
    static func failing(
        _ ranks: [Int], within limit: Duration,
        _ isRight: @escaping @Sendable (MoriError) -> Bool
    ) -> @Sendable (Report) -> [String] {
        { report in
            ranks.compactMap { rank in
                switch report.outcomes[rank] {
                case .failed(let error, _, let after) where isRight(error) && after <= limit:
                    nil
                case let other: "rank \(rank): \(other)"
                }
            }
        }
    }
}
#endif

import FoundationEssentials
import MoriShmem

/// What `mori-ep doctor --json` prints.
struct DoctorReport: Codable {
    /// One variable.
    struct Variable: Codable {
        var name: String
        /// What holds: the value, or in words what takes its place.
        var value: String
        /// "set" or "default".
        var origin: EnvironmentReport.Origin
        var meaning: String
        var legal: String
        /// "setting", "launcher" or "ignored".
        var role: String
        /// Why the value cannot be read.
        var problem: String?
    }

    var variables: [Variable]
    var unknown: [UnknownVariable]
    var problems: [String]

    init(_ report: EnvironmentReport) {
        variables = report.rows.map { row in
            let role =
                switch row.variable.role {
                case .setting: "setting"
                case .launcher: "launcher"
                case .ignored: "ignored"
                }
            return Variable(
                name: row.name, value: row.value, origin: row.origin,
                meaning: row.variable.meaning, legal: row.variable.legal, role: role,
                problem: row.problem)
        }
        unknown = report.unknown
        problems = report.problems
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

import MoriShmem

/// What `mori-ep doctor` prints for people.
enum DoctorTable {
    static func text(of report: EnvironmentReport) -> String {
        func rows(_ role: (KnownVariable.Role) -> Bool) -> [EnvironmentReport.Row] {
            report.rows.filter { role($0.variable.role) }
        }
        var text = table(rows { $0 == .setting }, "MEANING")
        text += "\nset by the launcher\n" + table(rows { $0 == .launcher }, "MEANING")
        let ignored = rows { if case .ignored = $0 { true } else { false } }
        text += "\naccepted without effect\n" + table(ignored, "WHY")
        if !report.unknown.isEmpty {
            text += "\nunknown\n"
            for variable in report.unknown {
                text += "  \(variable.name): did you mean \(variable.nearest)?\n"
            }
        }
        if !report.problems.isEmpty {
            text += "\nproblems\n"
            for problem in report.problems { text += "  \(problem)\n" }
        }
        return text
    }

    private static func table(_ rows: [EnvironmentReport.Row], _ heading: String) -> String {
        let cells =
            [["VARIABLE", "VALUE", "ORIGIN", heading]]
            + rows.map { row in
                [
                    row.name, row.value.isEmpty ? "-" : row.value,
                    row.problem == nil ? row.origin.rawValue : "wrong", row.variable.meaning,
                ]
            }
        let widths = (0..<3).map { column in cells.map { $0[column].count }.max() ?? 0 }
        return cells.map { line in
            zip(line, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
                .joined(separator: "  ") + "  " + line[3] + "\n"
        }.joined()
    }
}

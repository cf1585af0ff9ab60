import FoundationEssentials
import MoriShmem
import Testing

/// The pages say what the list of variables says.
@Suite struct EnvironmentDocumentationTests {
    private func page(_ path: String) throws -> String {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    @Test func theTablesOfThePageAreTheLists() throws {
        func table(_ role: (KnownVariable.Role) -> Bool, _ row: (KnownVariable) -> String) -> String
        {
            MoriEnvironment.knownVariables.filter { role($0.role) }.map { row($0) + "\n" }.joined()
        }
        let expected =
            "## Read by this library\n\n"
            + "| Variable | Legal | Default | Meaning |\n|---|---|---|---|\n"
            + table({ $0 == .setting }) {
                "| `\($0.name)` | \($0.legal) | \($0.defaultText) | \($0.meaning) |"
            }
            + "\n## Set by launchers\n\n| Variable | Default | Meaning |\n|---|---|---|\n"
            + table({ $0 == .launcher }) {
                "| `\($0.name)` | \($0.defaultText) | \($0.meaning) |"
            }
            + "\n## Accepted without effect\n\nVariables of the original, and why they do nothing"
            + " here.\n\n| Variable | Why |\n|---|---|\n"
            + table({ if case .ignored = $0 { true } else { false } }) {
                "| `\($0.name)` | \($0.meaning) |"
            }
        let found = try page("docs/environment.md")
        if !found.hasSuffix("\n\n" + expected) {
            Issue.record("docs/environment.md differs from the list; legal is:\n\(expected)")
        }
    }

    @Test func theReadmeNamesWhatThereIs() throws {
        let readme = try page("README.md")
        for variable in MoriEnvironment.knownVariables where variable.role == .setting {
            // What only `mori-ep launch` sets is nobody's to set.
            if variable.name == "MORI_LIFELINE_FD" { continue }
            #expect(readme.contains("`\(variable.name)`"), "\(variable.name) is not in README.md")
        }
    }
}

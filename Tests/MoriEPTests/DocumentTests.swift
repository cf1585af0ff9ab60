import FoundationEssentials
import MoriEP
import Testing

/// What the documents name is there.
@Suite struct DocumentTests {
    private static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: repository.appending(path: path), encoding: .utf8)
    }

    /// The names of all functions of the tests.
    private static func functions() throws -> Set<String> {
        var functions: Set<String> = []
        for target in ["MoriDeviceTests", "MoriShmemTests", "MoriEPTests"] {
            let folder = repository.appending(path: "Tests/\(target)")
            for file in try FileManager.default.contentsOfDirectory(atPath: folder.path)
            where file.hasSuffix(".swift") {
                let source = try text("Tests/\(target)/\(file)")
                functions.formUnion(source.matches(of: /func (\w+)/).map { String($0.1) })
            }
        }
        return functions
    }

    /// The last cell of a row of faults is its tests.
    @Test func everyTestOfTheReliabilityPageIsThere() throws {
        let functions = try Self.functions()
        var count = 0
        for line in try Self.text("docs/reliability.md").split(separator: "\n") {
            guard let cell = line.firstMatch(of: /\| ((`\w+`(, )?)+) \|$/) else { continue }
            for test in cell.1.matches(of: /`(\w+)`/).map({ String($0.1) }) {
                #expect(functions.contains(test), "no test is called \(test)")
                count += 1
            }
        }
        #expect(count > 20)
    }

    @Test func everyTestOfTheFeatureTableIsThere() throws {
        let functions = try Self.functions()
        var rows = 0
        for line in try Self.text("docs/feature-table.md").split(separator: "\n")
        where line.hasPrefix("|") && !line.hasPrefix("|---") {
            let cells = line.dropFirst().dropLast().split(separator: "|")
            try #require(cells.count == 4, "\(line)")
            rows += 1
            let isThere = !cells[2].contains("not yet") && !cells[2].contains("scope")
            for test in cells[3].matches(of: /`(\w+)`/).map({ String($0.1) })
            where !["example", "kernels"].contains(test) {
                #expect(functions.contains(test), "no test is called \(test)")
            }
            // A row that works has something that shows it.
            if isThere && cells[2].trimmingPrefix(" ") != "in work " {
                #expect(cells[3] != " - ", "\(line)")
            }
        }
        #expect(rows > 60)
    }

    private static func files(in folder: String, _ suffix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(
            atPath: repository.appending(path: folder).path
        ).filter { $0.hasSuffix(suffix) }.map { "\(folder)/\($0)" }
    }

    /// A command that names a kernel type names it as the command line does.
    @Test func kernelsOfCommandsAreThere() throws {
        let legal = Set(KernelType.allCases.map(\.description))
        var count = 0
        for file in try Self.files(in: "docs", ".md") + Self.files(in: "scripts", ".sh")
            + ["README.md", "CONTRIBUTING.md", "Makefile"]
        {
            let text = try Self.text(file)
            let named = text.matches(of: /--kernel[ =]([A-Za-z][\w-]+)/).map { String($0.1) }
            let listed = text.matches(of: /for kernel in ([a-z0-9 -]+);/)
                .flatMap { $0.1.split(separator: " ").map(String.init) }
            for kernel in named + listed {
                #expect(legal.contains(kernel), "\(file) names the kernel \(kernel)")
                count += 1
            }
        }
        #expect(count > 4)
    }

    @Test func filesThatDocumentsLinkToAreThere() throws {
        for document in try Self.files(in: "docs", ".md") + ["README.md", "CONTRIBUTING.md"] {
            let folder = Self.repository.appending(path: document).deletingLastPathComponent()
            for link in try Self.text(document).matches(of: /\]\(([^)#:]+)\)/) {
                let target = folder.appending(path: String(link.1)).path
                #expect(
                    FileManager.default.fileExists(atPath: target),
                    "\(document) links to \(link.1)")
            }
        }
    }
}

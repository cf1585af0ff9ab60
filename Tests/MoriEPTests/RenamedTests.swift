import FoundationEssentials
import Testing

/// Code typed from the guide: every Python name leads to its Swift name, which is there.
@Suite struct RenamedTests {
    /// Both files in one run of the compiler: what is typed from the guide, and what it is sent to.
    @Test(.timeLimit(.minutes(2)))
    func everyPythonNameIsAnErrorThatTellsTheSwiftName() async throws {
        let found = try await Self.typeCheck(["PythonNames.swift", "SwiftNames.swift"])
        #expect(found.filter { $0.file == "SwiftNames.swift" }.isEmpty, "\(found)")
        let lines = try TypeCheck.text("Tests/MoriEPTests/PythonNames/PythonNames.swift")
            .split(separator: "\n", omittingEmptySubsequences: false)
        var expected = 0
        for (index, line) in lines.enumerated() {
            let errors = found.filter { $0.file == "PythonNames.swift" && $0.line == index + 1 }
            guard let arrow = line.firstRange(of: "// -> ") else {
                #expect(errors.isEmpty, "line \(index + 1): \(errors.map(\.message))")
                continue
            }
            expected += 1
            let target = line[arrow.upperBound...]
            #expect(
                errors.contains { $0.message.contains(target) },
                "line \(index + 1): \(target) is not among \(errors.map(\.message))")
        }
        #expect(expected > 100)
    }

    @Test func everyTwinIsTriedAndItsTargetUsedAndInTheDocument() throws {
        let python = Self.words(
            try TypeCheck.text("Tests/MoriEPTests/PythonNames/PythonNames.swift"))
        let swift = Self.words(try TypeCheck.text("Tests/MoriEPTests/PythonNames/SwiftNames.swift"))
        let document = Self.words(try TypeCheck.text("docs/coming-from-python.md"))
        let folder = TypeCheck.repository.appending(path: "Sources/MoriEP")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasPrefix("Renamed") }
        var twins = 0
        for file in files {
            for twin in Self.twins(in: try TypeCheck.text("Sources/MoriEP/\(file)")) {
                twins += 1
                if twin.name != "init" {
                    #expect(python.contains(twin.name), "\(twin.name) is not in PythonNames.swift")
                    #expect(document.contains(twin.name), "\(twin.name) is not in the document")
                }
                // "launch.blocks" and "combine(_:of:on:)": all of the path, and all labels.
                for word in Self.words(twin.renamed) where word != "_" {
                    #expect(swift.contains(word), "\(word) is not used in SwiftNames.swift")
                }
            }
        }
        #expect(twins > 100)
    }

    // -------------------------------------------------------------------------------------------
    // Reading sources

    private struct Twin {
        var name: String
        /// Empty where a message stands instead.
        var renamed: String
    }

    /// The unavailable declarations of a file.
    private static func twins(in source: String) -> [Twin] {
        source.components(separatedBy: "@available(").dropFirst().compactMap { part in
            let renamed = part.firstMatch(of: /renamed: "([^"]*)"/).map { String($0.1) } ?? ""
            guard let declared = part.firstMatch(of: /(?:var|func|typealias) (\w+)|init\(/)
            else { return nil }
            return Twin(name: declared.1.map(String.init) ?? "init", renamed: renamed)
        }
    }

    private static func words(_ text: String) -> Set<String> {
        Set(text.matches(of: /\w+/).map { String($0.0) })
    }

    /// The errors of files of the folder PythonNames.
    private static func typeCheck(_ names: [String]) async throws -> [TypeCheck.Found] {
        let files = names.map {
            TypeCheck.repository.appending(path: "Tests/MoriEPTests/PythonNames/\($0)").path
        }
        let found = try await TypeCheck.program(files)
        // Else it is the test that is wrong, such as a module that was not found.
        try #require(!found.errors.isEmpty, "the compiler says: \(found.output)")
        return found.errors
    }
}

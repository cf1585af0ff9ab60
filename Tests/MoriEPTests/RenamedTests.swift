import FoundationEssentials
import MoriDevice
import MoriLauncher
import Testing

/// Code typed from the guide: every Python name leads to its Swift name, which is there.
@Suite struct RenamedTests {
    private static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: repository.appending(path: path), encoding: .utf8)
    }

    /// Both files in one run of the compiler: what is typed from the guide, and what it is sent to.
    @Test(.timeLimit(.minutes(2)))
    func everyPythonNameIsAnErrorThatTellsTheSwiftName() async throws {
        let found = try await Self.typeCheck(["PythonNames.swift", "SwiftNames.swift"])
        #expect(found.filter { $0.file == "SwiftNames.swift" }.isEmpty, "\(found)")
        let lines = try Self.text("Tests/MoriEPTests/PythonNames/PythonNames.swift")
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
        let python = Self.words(try Self.text("Tests/MoriEPTests/PythonNames/PythonNames.swift"))
        let swift = Self.words(try Self.text("Tests/MoriEPTests/PythonNames/SwiftNames.swift"))
        let document = Self.words(try Self.text("docs/coming-from-python.md"))
        let folder = Self.repository.appending(path: "Sources/MoriEP")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasPrefix("Renamed") }
        var twins = 0
        for file in files {
            for twin in Self.twins(in: try Self.text("Sources/MoriEP/\(file)")) {
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

    // -------------------------------------------------------------------------------------------
    // Compiling

    private struct Found: CustomStringConvertible {
        var file: String
        var line: Int
        var message: String
        var description: String { "\(file):\(line): \(message)" }
    }

    /// The errors of files that see the modules as they were just built.
    private static func typeCheck(_ names: [String]) async throws -> [Found] {
        let own = try #require(ProcessVariables.executable)
        let products = URL(filePath: own).deletingLastPathComponent()
        let scratch = products.deletingLastPathComponent().deletingLastPathComponent()
        // Modules that ours were built with have to be found; which of them are, is SwiftPM's.
        let folders = [
            (repository.appending(path: "Sources"), 1), (products, 1),
            (scratch.appending(path: "checkouts"), 4),
        ]
        let maps = folders.flatMap { moduleMaps(below: $0.0, depth: $0.1) }
        let files = names.map {
            repository.appending(path: "Tests/MoriEPTests/PythonNames/\($0)").path
        }
        let plan = ProcessPlan(
            path: "/usr/bin/env",
            arguments: [
                "env", "swiftc", "-typecheck", "-swift-version", "6", "-suppress-warnings",
                "-diagnostic-style", "llvm", "-I", products.appending(path: "Modules").path,
            ] + maps.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] } + files,
            environment: ProcessVariables.all, standardOutput: .collected,
            standardError: .collected)
        let exits = try await ProcessGroup(plans: [plan], grace: .zero).run()
        let exit = try #require(exits.first)
        let output = String(decoding: exit.standardError + exit.standardOutput, as: UTF8.self)
        let errors = output.matches(of: /(\w+\.swift):(\d+):\d+: error: (.*)/).map {
            Found(file: String($0.1), line: Int($0.2) ?? 0, message: String($0.3))
        }
        // Else it is the test that is wrong, such as a module that was not found.
        try #require(!errors.isEmpty, "the compiler says: \(output)")
        return errors
    }

    private static func moduleMaps(below folder: URL, depth: Int) -> [String] {
        let map = folder.appending(path: "module.modulemap")
        if FileManager.default.fileExists(atPath: map.path) { return [map.path] }
        guard depth > 0 else { return [] }
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return entries.flatMap {
            moduleMaps(below: folder.appending(path: $0), depth: depth - 1)
        }
    }
}

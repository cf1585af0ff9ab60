import FoundationEssentials
import MoriLauncher
import Testing

/// The articles (Sources/MoriEP/MoriEP.docc), the README and the pages in docs: their Swift compiles,
/// and what they list is complete.
@Suite struct DocumentationTests {
    private static let catalog = "Sources/MoriEP/MoriEP.docc"

    private static func files(below folder: String, suffix: String) throws -> [String] {
        let path = TypeCheck.repository.appending(path: folder).path
        return try FileManager.default.subpathsOfDirectory(atPath: path)
            .filter { $0.hasSuffix(suffix) }.map { "\(folder)/\($0)" }.sorted()
    }

    private static func articles() throws -> [String] { try files(below: catalog, suffix: ".md") }

    // -------------------------------------------------------------------------------------------
    // Snippets

    /// A block of Swift in a document.
    private struct Snippet {
        var file: String
        /// Of its first line.
        var line: Int
        var text: String

        var isManifest: Bool { text.contains("import PackageDescription") }
        var isDependency: Bool { text.hasPrefix(".package(") }
        var isProgram: Bool { text.contains("@main") }

        /// So that the compiler's errors name the document.
        var location: String { "#sourceLocation(file: \"\(file)\", line: \(line))" }
    }

    /// The blocks of a document, or those of a source's documentation.
    private static func snippets(of file: String) throws -> [Snippet] {
        var snippets: [Snippet] = []
        var open: Snippet?
        let lines = try TypeCheck.text(file).split(
            separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            var line = line
            if file.hasSuffix(".swift") {
                guard let comment = line.firstMatch(of: /^\s*\/\/\/ ?(.*)$/) else { continue }
                line = comment.1
            }
            if var snippet = open {
                if line.hasPrefix("```") {
                    snippets.append(snippet)
                    open = nil
                } else {
                    snippet.text += line + "\n"
                    open = snippet
                }
            } else if line == "```swift" {
                open = Snippet(file: file, line: index + 2, text: "")
            }
        }
        #expect(open == nil, "a block of \(file) has no end")
        return snippets
    }

    private static func allSnippets() throws -> [Snippet] {
        let sources = try ["MoriDevice", "MoriShmem", "MoriEP"].flatMap {
            try files(below: "Sources/\($0)", suffix: ".swift")
        }
        let documents = try ["README.md"] + articles() + files(below: "docs", suffix: ".md")
        return try (documents + sources).flatMap(snippets)
    }

    /// Names that snippets may use without saying where they come from.
    private static let context = """
        import CDLPack
        import CoreMetrics
        import MoriEP
        func PrometheusMetricsFactory() -> any MetricsFactory { made() }
        func made<Value: ~Copyable>() -> Value { fatalError() }
        var world: SymmetricMemory { made() }
        var config: EPDispatchCombineConfig { made() }
        var op: EPDispatchCombineOp { made() }
        var stream: DeviceStream { made() }
        var tokens: DeviceTensor { made() }
        var weights: DeviceTensor { made() }
        var indices: DeviceTensor { made() }
        var received: DispatchOutput { made() }
        var count: Int { made() }
        var expertOutput: DeviceTensor { made() }
        var combined: CombineOutput { made() }
        var error: MoriError { made() }
        func experts(_: DeviceTensor, _: DeviceTensor, _: DeviceTensor) -> DeviceTensor { made() }
        func sharedExpert(_: DeviceTensor, on: DeviceStream) throws(MoriError) {}
        var capsule: OpaquePointer { made() }
        var torchStream: UInt { made() }
        func PyCapsule_GetPointer(_: OpaquePointer, _: String) -> UnsafeMutableRawPointer { made() }
        func PyCapsule_SetName(_: OpaquePointer, _: String) {}

        """

    /// Statements of several snippets as one file, each in a function of its own.
    private static func statements(_ snippets: [Snippet]) -> String {
        var text = context
        for (index, snippet) in snippets.enumerated() {
            let body = snippet.text.replacing(/(?m)^import MoriEP$/, with: "")
            text += "func snippet\(index)() async throws {\n\(snippet.location)\n\(body)"
            text += "#sourceLocation()\n}\n"
        }
        return text
    }

    /// Gives a body the path of a file with this text, which is gone afterwards.
    private static func withFile<Value>(
        _ text: String, _ body: (String) async throws -> Value
    ) async throws -> Value {
        let file = FileManager.default.temporaryDirectory.appending(
            path: "mori-ep-snippets-\(UUID().uuidString).swift")
        try Data(text.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        return try await body(file.path)
    }

    private static func expectSuccess(_ found: TypeCheck) {
        #expect(found.isSuccess, "\(found.errors.isEmpty ? found.output : "\(found.errors)")")
    }

    @Test(.timeLimit(.minutes(2)))
    func everySnippetOfTheDocumentsCompiles() async throws {
        let snippets = try Self.allSnippets()
        let (manifests, rest) = (
            snippets.filter { $0.isManifest || $0.isDependency },
            snippets.filter { !$0.isManifest && !$0.isDependency }
        )
        #expect(rest.count > 20)
        let inside = Self.statements(rest.filter { !$0.isProgram })
        try await Self.withFile(inside) { file in
            Self.expectSuccess(try await TypeCheck.program([file], ["-parse-as-library"]))
        }
        for program in rest where program.isProgram {
            try await Self.withFile("\(program.location)\n\(program.text)") { file in
                Self.expectSuccess(try await TypeCheck.program([file], ["-parse-as-library"]))
            }
        }
        #expect(!manifests.isEmpty)
        for manifest in manifests {
            let text =
                manifest.isManifest
                ? "\(manifest.location)\n\(manifest.text)"
                : """
                import PackageDescription
                func dependency() -> Package.Dependency {
                \(manifest.location)
                \(manifest.text)
                #sourceLocation()
                }
                """
            try await Self.withFile(text) { file in
                Self.expectSuccess(try await TypeCheck.manifest([file], toolsVersion: "6.2.0"))
            }
        }
    }

    /// Else the test above would hold for anything.
    @Test(.timeLimit(.minutes(2)))
    func aSnippetThatIsWrongIsNamedByDocumentAndLine() async throws {
        let wrong = Snippet(
            file: "README.md", line: 41,
            text:
                "let stream = try DeviceStream(on: world.device)\ntry op.dispatchAll(on: stream)\n")
        try await Self.withFile(Self.statements([wrong])) { file in
            let found = try await TypeCheck.program([file], ["-parse-as-library"])
            #expect(!found.isSuccess)
            #expect(
                found.errors.contains {
                    $0.file == "README.md" && $0.line == 42 && $0.message.contains("dispatchAll")
                }, "\(found.output)")
        }
    }

    // -------------------------------------------------------------------------------------------
    // Lists

    /// Name and first sentence of all codes, as the source has them, and as the article has them.
    @Test func troubleshootingHasEveryCodeInItsWords() throws {
        let source = try TypeCheck.text("Sources/MoriDevice/MoriError.swift")
        let codes = source.matches(of: /\/\/\/ (.*)\n\s*public static let (\w+) = Code\("(\w+)"\)/)
        #expect(codes.count > 10)
        #expect(codes.count == source.matches(of: /= Code\("/).count)
        let article = try TypeCheck.text("\(Self.catalog)/Troubleshooting.md")
        for code in codes {
            #expect(code.2 == code.3)
            #expect(
                article.contains("### \(code.2)\n\n*\(code.1)*\n"),
                "Troubleshooting.md has no section \(code.2) that begins with *\(code.1)*")
        }
        let known = Set(codes.map { $0.2 })
        for heading in article.matches(of: /(?m)^### (\w+)$/) {
            #expect(known.contains(heading.1), "there is no code \(heading.1)")
        }
    }

    @Test func articlesNameVariablesAndPagesThatAreThere() throws {
        let variables = Set(
            try TypeCheck.text("docs/environment.md").matches(of: /MORI_\w+/).map { $0.0 })
        var count = 0
        for article in try Self.articles() {
            let text = try TypeCheck.text(article)
            for variable in text.matches(of: /MORI_\w+/).map({ $0.0 }) {
                count += 1
                #expect(variables.contains(variable), "\(article) names \(variable)")
            }
            for page in text.matches(of: /`(docs\/[\w\-]+\.md|Examples\/\w+)`/).map({ $0.1 }) {
                count += 1
                #expect(
                    FileManager.default.fileExists(
                        atPath: TypeCheck.repository.appending(path: String(page)).path),
                    "\(article) names \(page)")
            }
        }
        #expect(count > 20)
    }

    @Test func theVersionIsTheSameEverywhere() throws {
        let makefile = try TypeCheck.text("Makefile")
        let version = try #require(makefile.firstMatch(of: /(?m)^VERSION := (\d+\.\d+\.\d+)$/)).1
        for file in [
            "README.md", "\(Self.catalog)/GettingStarted.md",
            "Tests/Packaging/Consumer/Package.swift",
        ] {
            let named = try TypeCheck.text(file).matches(of: /from: "([\d.]+)"/)
            #expect(!named.isEmpty, "\(file)")
            for other in named { #expect(other.1 == version, "\(file) names \(other.1)") }
        }
        #expect(try TypeCheck.text("CHANGELOG.md").contains(version))
    }

    @Test func contributingHasEveryTargetOfMakeAndEveryFolder() throws {
        let page = try TypeCheck.text("CONTRIBUTING.md")
        let targets = Set(
            try TypeCheck.text("Makefile").matches(of: #/(?m)^([a-z\-]+):.*## /#).map { $0.1 })
        #expect(targets.count > 20)
        for target in targets {
            #expect(page.contains("`make \(target)`"), "CONTRIBUTING.md has no `make \(target)`")
        }
        let documents =
            try ["README.md", "CONTRIBUTING.md"] + Self.files(below: "docs", suffix: ".md")
            + Self.articles()
        for document in documents {
            for target in try TypeCheck.text(document).matches(of: /`make ([a-z\-]+)[ `]/) {
                #expect(targets.contains(target.1), "\(document) names `make \(target.1)`")
            }
        }
        for folder in try FileManager.default.contentsOfDirectory(
            atPath: TypeCheck.repository.path)
        where !folder.hasPrefix(".") {
            var isFolder = false
            _ = FileManager.default.fileExists(
                atPath: TypeCheck.repository.appending(path: folder).path, isDirectory: &isFolder)
            if isFolder {
                #expect(page.contains("| `\(folder)` |"), "CONTRIBUTING.md has no row of \(folder)")
            }
        }
    }
}

import FoundationEssentials
import MoriDevice
import MoriLauncher
import Testing

/// Runs of the compiler over files that see the modules as they were just built.
struct TypeCheck {
    /// What the compiler found wrong.
    struct Found: CustomStringConvertible {
        var file: String
        var line: Int
        var message: String
        var description: String { "\(file):\(line): \(message)" }
    }

    /// The errors, by file name and line.
    var errors: [Found]
    /// All that the compiler said.
    var output: String
    /// Whether it ended with 0.
    var isSuccess: Bool

    static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// Reads a file of the repository.
    static func text(_ path: String) throws -> String {
        try String(contentsOf: repository.appending(path: path), encoding: .utf8)
    }

    /// Programs of this package: they import MoriEP.
    static func program(_ files: [String], _ options: [String] = []) async throws -> TypeCheck {
        let own = try #require(ProcessVariables.executable)
        let products = URL(filePath: own).deletingLastPathComponent()
        let scratch = products.deletingLastPathComponent().deletingLastPathComponent()
        // Modules that ours were built with have to be found; which of them are, is SwiftPM's.
        let folders = [
            (repository.appending(path: "Sources"), 1), (products, 1),
            (scratch.appending(path: "checkouts"), 4),
        ]
        let maps = folders.flatMap { moduleMaps(below: $0.0, depth: $0.1) }
        return try await run(
            ["-I", products.appending(path: "Modules").path]
                + maps.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] } + options, files)
    }

    /// Manifests of packages.
    static func manifest(_ files: [String], toolsVersion: String) async throws -> TypeCheck {
        let info = try await run(["-print-target-info"], [], typeChecks: false)
        let resources = try #require(info.output.firstMatch(of: /"runtimeResourcePath": "(.*)"/)).1
        return try await run(
            ["-I", "\(resources)/pm/ManifestAPI", "-package-description-version", toolsVersion],
            files)
    }

    private static func run(
        _ options: [String], _ files: [String], typeChecks: Bool = true
    ) async throws -> TypeCheck {
        let checks = [
            "-typecheck", "-swift-version", "6", "-suppress-warnings", "-diagnostic-style", "llvm",
        ]
        let plan = ProcessPlan(
            path: "/usr/bin/env",
            arguments: ["env", "swiftc"] + (typeChecks ? checks : []) + options + files,
            environment: ProcessVariables.all, standardOutput: .collected,
            standardError: .collected)
        let exits = try await ProcessGroup(plans: [plan], grace: .zero).run()
        let exit = try #require(exits.first)
        let output = String(decoding: exit.standardError + exit.standardOutput, as: UTF8.self)
        let errors = output.matches(of: /([\w.\-\/+]+\.(?:swift|md)):(\d+):\d+: error: (.*)/).map {
            Found(
                file: $0.1.split(separator: "/").last.map(String.init) ?? "",
                line: Int($0.2) ?? 0, message: String($0.3))
        }
        return TypeCheck(errors: errors, output: output, isSuccess: exit.isSuccess)
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

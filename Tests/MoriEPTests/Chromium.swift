import FoundationEssentials
import MoriDevice
import MoriLauncher
import Testing

/// A headless Chromium, where the machine has one: scripts/setup.sh browser.
enum Chromium {
    private static let names = ["chromium", "chromium-browser", "google-chrome", "chrome"]

    /// Its program; nil: there is none.
    static let path: String? = {
        let folders = (ProcessVariables.all["PATH"] ?? "").split(separator: ":").map(String.init)
        return folders.flatMap { folder in names.map { "\(folder)/\($0)" } }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    /// Loads a page and lets its scripts run.
    ///
    /// - Parameters:
    ///   - arguments: What it is to give.
    ///   - page: The file.
    ///   - folder: Where it keeps its profile.
    /// - Returns: Its standard output.
    static func open(
        _ page: String, _ arguments: [String], folder: String
    ) async throws -> String {
        let program = try #require(path)
        var variables = ProcessVariables.all
        variables["HOME"] = folder
        let plan = ProcessPlan(
            path: program,
            arguments: [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--hide-scrollbars", "--no-first-run", "--user-data-dir=\(folder)/profile",
                // What is not in the page is not found, so a page that asks for more shows it.
                "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000",
            ] + arguments + ["file://\(page)"],
            environment: variables, standardOutput: .collected, standardError: .collected)
        let exits = try await ProcessGroup(plans: [plan], grace: .zero).run()
        let ended = try #require(exits.first)
        #expect(ended.isSuccess, "\(String(decoding: ended.standardError, as: UTF8.self))")
        return String(decoding: ended.standardOutput, as: UTF8.self)
    }
}

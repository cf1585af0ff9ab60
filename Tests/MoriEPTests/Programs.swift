import FoundationEssentials
import Glibc
import MoriDevice
import MoriLauncher
import MoriTestSupport
import Testing

/// The built executables, run as a user runs them.
enum Programs {
    /// How a program ended, and what it wrote.
    struct Ended: Sendable {
        var exit: RankExit
        var output: String { String(decoding: exit.standardOutput, as: UTF8.self) }
        var errors: String { String(decoding: exit.standardError, as: UTF8.self) }
    }

    /// The file of an executable of this package: it lies beside the tests' own.
    static func path(_ name: String) throws -> String {
        let own = try #require(ProcessVariables.executable)
        return URL(filePath: own).deletingLastPathComponent().appending(path: name).path
    }

    /// Runs an executable to its end.
    ///
    /// - Parameter mark: A text by which `Processes.marked` finds it and the processes it starts.
    static func run(
        _ name: String, _ arguments: [String], mark: String = "none",
        environment: [String: String] = [:]
    ) async throws -> Ended {
        var variables = ProcessVariables.all
        for name in ["RANK", "WORLD_SIZE", "MORI_EP_TIMEOUT", "MORI_SHMEM_HEAP_SIZE"] {
            variables[name] = nil
        }
        variables["MORI_EP_DEVICE"] = "host"
        variables[Processes.markVariable] = mark
        let program = try path(name)
        let plan = ProcessPlan(
            path: program, arguments: [program] + arguments,
            environment: variables.merging(environment) { $1 }, standardOutput: .collected,
            standardError: .collected)
        let exits = try await ProcessGroup(plans: [plan], grace: .zero).run()
        return Ended(exit: try #require(exits.first))
    }
}

/// Processes of this machine, found through procfs.
enum Processes {
    static let markVariable = "MORIEP_TEST_MARK"

    struct Found: Sendable {
        var id: Int32
        /// nil for what is no rank, such as a launcher.
        var rank: Int?
    }

    /// The processes whose environment carries the mark.
    static func marked(_ mark: String) -> [Found] {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.compactMap(Int32.init).compactMap { id in
            let variables = text("/proc/\(id)/environ").split(separator: "\0")
            guard variables.contains("\(markVariable)=\(mark)") else { return nil }
            let rank = variables.first { $0.hasPrefix("RANK=") }.flatMap { Int($0.dropFirst(5)) }
            return Found(id: id, rank: rank)
        }
    }

    /// Whether a process maps memory of peers, which it does once its world and operator stand.
    static func isInWorld(_ id: Int32) -> Bool {
        text("/proc/\(id)/maps").split(separator: "\n").count { $0.contains("memfd:") } > 2
    }

    /// Waits until a condition holds.
    static func wait(
        _ limit: Duration = Patience.prompt, until condition: () -> Bool
    ) async throws -> Bool {
        let end = ContinuousClock.now + limit
        while ContinuousClock.now < end {
            if condition() { return true }
            try await Task.sleep(for: .milliseconds(20))
        }
        return condition()
    }

    /// A file of procfs, which comes in pieces; nothing when the process has ended meanwhile.
    private static func text(_ path: String) -> String {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe read(file, &buffer, buffer.count)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
    }
}

import Glibc

/// How a rank's process ended.
public struct RankExit: Hashable, Sendable, CustomStringConvertible {
    /// What ended it.
    public enum Reason: Hashable, Sendable {
        /// It exited by itself, with this status.
        case exited(Int32)
        /// This signal killed it.
        case signalled(Int32)
    }

    /// Which rank.
    public let rank: Int
    /// The process's number; it may belong to another one by now.
    public let processID: Int32
    /// What ended it.
    public let reason: Reason
    /// Whether the launcher killed it, because another rank had failed or the launch was cancelled.
    public let wasEndedByLauncher: Bool
    /// Its place in the order in which the ranks ended, from 0.
    public let order: Int
    /// What it wrote to standard output, where that was collected.
    public let standardOutput: [UInt8]
    /// What it wrote to standard error, where that was collected.
    public let standardError: [UInt8]

    /// Whether it exited with status 0.
    public var isSuccess: Bool { reason == .exited(0) }

    /// What a shell would report: the status, or 128 and the signal.
    public var shellStatus: Int32 {
        switch reason {
        case .exited(let status): status
        case .signalled(let signal): 128 + signal
        }
    }

    /// "rank 3 was killed by signal 9 (Killed)".
    public var description: String {
        switch reason {
        case .exited(let status): "rank \(rank) exited with status \(status)"
        case .signalled(let signal):
            "rank \(rank) was killed by signal \(signal) (\(signalName(signal)))"
                + (wasEndedByLauncher ? ", sent by its launcher" : "")
        }
    }
}

extension [RankExit] {
    /// The failure that came first and was not the launcher's doing; nil when all ranks succeeded.
    public var firstFailure: RankExit? {
        let failures = filter { !$0.isSuccess }
        return failures.filter { !$0.wasEndedByLauncher }.min { $0.order < $1.order }
            ?? failures.min { $0.order < $1.order }
    }
}

private func signalName(_ signal: Int32) -> String {
    guard let name = unsafe strsignal(signal) else { return "unknown" }
    return unsafe String(cString: name)
}

import CMoriSystem
import Glibc
package import MoriDevice
import Synchronization

/// What one process starts with.
package struct ProcessPlan: Sendable {
    /// The program's file.
    package var path: String
    /// Its arguments, the name first.
    package var arguments: [String]
    /// Its whole environment.
    package var environment: [String: String]
    /// Where its standard output goes.
    package var standardOutput: RankLauncher.Output
    /// Where its standard error goes.
    package var standardError: RankLauncher.Output

    /// Describes a process.
    package init(
        path: String, arguments: [String], environment: [String: String],
        standardOutput: RankLauncher.Output, standardError: RankLauncher.Output
    ) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.standardOutput = standardOutput
        self.standardError = standardError
    }
}

/// Processes that live and end together; their numbers are their places in the list.
package struct ProcessGroup: Sendable {
    /// What to start.
    package var plans: [ProcessPlan]
    /// How long the others may go on when one has failed.
    package var grace: Duration
    /// Whether this process's signals go to the group.
    package var forwardsSignals: Bool

    /// Describes a group.
    package init(plans: [ProcessPlan], grace: Duration, forwardsSignals: Bool = false) {
        self.plans = plans
        self.grace = grace
        self.forwardsSignals = forwardsSignals
    }

    /// Runs the processes to their end.
    ///
    /// When the task is cancelled, they are killed.
    ///
    /// - Returns: How each ended, in the plans' order.
    /// - Throws: `invalidArgument` when a program cannot be started; the others are killed then.
    package func run() async throws(MoriError) -> [RankExit] {
        let cancellation = Cancellation()
        // Before the first process is there: none misses a signal.
        if forwardsSignals { mori_catch_signals() }
        let result: Result<[RankExit], MoriError>
        do {
            // One thread starts all, and lives until the last has ended: the kernel kills a
            // process when the thread that started it ends.
            result = try await withTaskCancellationHandler {
                try await BackgroundThread.run {
                    Result { () throws(MoriError) in
                        var supervisor = try Supervisor(
                            grace: grace, forwardsSignals: forwardsSignals)
                        try supervisor.start(plans)
                        return supervisor.run(cancellation)
                    }
                }
            } onCancel: {
                cancellation.request()
            }
        } catch let error as MoriError {
            throw error
        } catch {
            throw MoriError(.outOfMemory, "the processes could not be started: \(error)")
        }
        return try result.get()
    }
}

/// Whether a group's task was cancelled.
final class Cancellation: Sendable {
    private let isSet = Atomic(false)

    var isRequested: Bool { isSet.load(ordering: .acquiring) }

    func request() { isSet.store(true, ordering: .releasing) }
}

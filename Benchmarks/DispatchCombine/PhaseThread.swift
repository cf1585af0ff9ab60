import Dispatch
import Glibc

/// The thread on which a rank's timed phases block, one after the other: one that is there already,
/// for a new one's first steps would be timed with them.
struct PhaseThread: Sendable {
    private let queue = DispatchQueue(label: "timed phases")

    /// Runs `body` there, then leaves the cores to the ranks that are still timed.
    func run<Success: Sendable>(_ body: @escaping @Sendable () -> Success) async -> Success {
        await withCheckedContinuation { continuation in
            queue.async {
                let success = body()
                usleep(1000)
                continuation.resume(returning: success)
            }
        }
    }
}

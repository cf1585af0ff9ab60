import Foundation
import Synchronization

/// A thread of one rank's own, on which its tasks run.
///
/// A rank blocks while it waits for others. On Swift's shared threads, of which there are as many as
/// cores, the others might then have none to come on.
package final class RankThread: TaskExecutor {
    private let jobs = NSCondition()
    private let queue = Mutex<Queue>(Queue())

    private struct Queue {
        var jobs: [UnownedJob] = []
        var isStopped = false
    }

    package init(name: String) {
        let thread = Thread { [self] in run() }
        thread.name = name
        thread.stackSize = 4 << 20
        thread.start()
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.lock()
        queue.withLock { $0.jobs.append(job) }
        jobs.signal()
        jobs.unlock()
    }

    /// Ends the thread once its jobs are done.
    package func stop() {
        jobs.lock()
        queue.withLock { $0.isStopped = true }
        jobs.signal()
        jobs.unlock()
    }

    private func run() {
        while let next = take() {
            for job in next { unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
        }
    }

    /// The jobs that wait, once there are some; nil: there will be none any more.
    private func take() -> [UnownedJob]? {
        jobs.lock()
        defer { jobs.unlock() }
        while true {
            let (next, isStopped) = queue.withLock { queue in
                defer { queue.jobs = [] }
                return (queue.jobs, queue.isStopped)
            }
            if !next.isEmpty { return next }
            if isStopped { return nil }
            jobs.wait()
        }
    }
}

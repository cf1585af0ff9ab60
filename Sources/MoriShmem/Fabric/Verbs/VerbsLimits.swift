/// What the queues of a link may hold, from what the NICs allow.
package enum VerbsLimits {
    /// Requests under way that a queue is asked to hold.
    package static let wantedDepth = 1024
    /// Fewer do not carry a round's chunks.
    package static let leastDepth = 16

    /// The depth of each queue so that no completion queue can overrun.
    ///
    /// An error flushes every request of a queue with a completion of its own, the unsignaled ones
    /// too, so a completion queue has room for all requests of all its queues.
    ///
    /// - Parameters:
    ///   - maxRequests: What a queue pair may hold (max_qp_wr).
    ///   - maxCompletions: What a completion queue may hold (max_cqe).
    ///   - queueCount: Queues that share the completion queue.
    /// - Returns: The depth; nil where not even `leastDepth` fits.
    package static func depth(
        maxRequests: Int, maxCompletions: Int, queueCount: Int
    ) -> Int? {
        let depth = min(wantedDepth, maxRequests, maxCompletions / max(queueCount, 1))
        return depth >= leastDepth ? depth : nil
    }
}

/// How long a queue pair tries before a request ends with an error.
///
/// A packet that is not acknowledged within `4.096 us * 2 ** timeout` is sent again, `retries` times,
/// and then the request fails: `(retries + 1) * 4.096 us * 2 ** timeout`, which is 0.9 s here. NICs
/// may take up to four times as long (InfiniBand specification, 9.7.6.1.3): 3.8 s. Longer would
/// survive longer outages of a link; but a rank whose peer has died waits as long for the error.
package enum VerbsRetry {
    /// The exponent of the time.
    package static let timeout: UInt8 = 15
    /// Repetitions.
    ///
    /// Not 7: soft-RoCE repeats without end then, and a dead peer is never noticed.
    package static let count: UInt8 = 6
    /// Repetitions when the peer has no receive ready, which writes do not need.
    package static let countWithoutReceiver: UInt8 = 6
}

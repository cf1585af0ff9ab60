/// When a loopback fabric delivers, and what fails on command.
package struct LoopbackBehavior: Hashable, Sendable {
    /// How long each write is on its way; its payload is read from the source at the end of it, so
    /// that source memory which is stored to too early shows.
    ///
    /// Nil: none, delivered when posted.
    package var delay: Duration?
    /// Seeds the order across queues, and with a delay each write's own, from none to twice as
    /// long.
    ///
    /// Nil: queues are served as they were posted to. The order within a queue always holds.
    package var seed: UInt64?
    /// How long after its delivery a request completes: with a seed, from none to twice as long.
    package var completionDelay: Duration?
    /// Whether payload is read once more when its request completes, as a NIC may until then, and
    /// the request fails if it is not what was delivered.
    package var watchesSource = false
    /// What fails.
    package var faults: [Fault] = []
    /// Requests of one queue that may be under way.
    package var queueDepth = 128
    /// Bytes of one request, at most.
    package var maxRequestByteCount = 1 << 30

    /// Something that fails on command.
    ///
    /// Requests count from 0, for each pair of ranks, over all queues, in the order of their posts.
    package enum Fault: Hashable, Sendable {
        /// The completion of a request from `rank` to `peer` reports an error, a status of
        /// `ibv_wc_status`, by default a remote access error; what comes after it on its queue is
        /// flushed.
        case completionError(rank: Int, peer: Int, request: Int, status: Int32 = 10)
        /// A request from `rank` to `peer` is delivered, and its completion never comes. (That of a
        /// later one of the queue covers it.)
        case lostCompletion(rank: Int, peer: Int, request: Int)
        /// A request from `rank` to `peer` is so much longer under way.
        case lateRequest(rank: Int, peer: Int, request: Int, by: Duration)
        /// Every request to `rank`, from any other, fails from this one on.
        case lostPeer(rank: Int, request: Int)
        /// The queues from `rank` to `peer` refuse this many posts.
        case fullQueue(rank: Int, peer: Int, posts: Int)
    }

    /// Delivers at once, and nothing fails.
    package static let immediate = LoopbackBehavior()

    /// Delivers each write so much later.
    package static func delayed(_ delay: Duration) -> LoopbackBehavior {
        var behavior = LoopbackBehavior()
        behavior.delay = delay
        return behavior
    }

    /// Delivers in an order across queues that the seed gives; with a delay, that much later on
    /// average.
    package static func shuffled(seed: UInt64, delay: Duration? = nil) -> LoopbackBehavior {
        var behavior = LoopbackBehavior()
        behavior.seed = seed
        behavior.delay = delay
        return behavior
    }

    /// The same, with these faults.
    package func failing(_ faults: Fault...) -> LoopbackBehavior {
        var behavior = self
        behavior.faults += faults
        return behavior
    }
}

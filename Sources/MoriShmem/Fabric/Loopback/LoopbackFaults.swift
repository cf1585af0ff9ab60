import MoriDevice

/// What of a loopback link fails on command: the faults of one rank, by peer.
package struct LoopbackFaults {
    /// Statuses of completions, with the numbers that verbs has for the like (ibv_wc_status).
    enum Status {
        static let flushed: Int32 = 5
        static let peerLost: Int32 = 12
        /// Beyond what verbs has.
        static let sourceChanged: Int32 = 100
    }

    /// What fails towards one peer.
    private struct Plan {
        /// Requests so far.
        var requests = 0
        /// Those whose completion reports an error, and which.
        var errors: [Int: Int32] = [:]
        /// Those whose completion never comes.
        var lost: Set<Int> = []
        /// Those that are longer under way, in nanoseconds.
        var late: [Int: Int64] = [:]
        /// From here on all fail.
        var lostFrom = Int.max
        /// Posts yet to be refused.
        var refusals = 0
    }

    private var plans: [Plan]
    private let isEmpty: Bool

    init(_ faults: [LoopbackBehavior.Fault], rank: Int, worldSize: Int) {
        var plans = [Plan](repeating: Plan(), count: worldSize)
        for fault in faults {
            switch fault {
            case .completionError(rank, let peer, let request, let status)
            where plans.indices.contains(peer):
                plans[peer].errors[request] = status
            case .lostCompletion(rank, let peer, let request) where plans.indices.contains(peer):
                plans[peer].lost.insert(request)
            case .lateRequest(rank, let peer, let request, let delay)
            where plans.indices.contains(peer):
                plans[peer].late[request] = delay.nanoseconds
            case .lostPeer(let peer, let request) where plans.indices.contains(peer):
                plans[peer].lostFrom = min(plans[peer].lostFrom, request)
            case .fullQueue(rank, let peer, let posts) where plans.indices.contains(peer):
                plans[peer].refusals += posts
            default: break
            }
        }
        self.plans = plans
        isEmpty = faults.isEmpty
    }

    /// Whether a post to this peer finds the queue full.
    mutating func refusesPost(to peer: Int) -> Bool {
        guard !isEmpty, plans[peer].refusals > 0 else { return false }
        plans[peer].refusals -= 1
        return true
    }

    /// What happens to a request.
    struct Fate {
        /// What its completion reports, 0 being success.
        var status: Int32 = 0
        /// Whether its completion never comes.
        var isLost = false
        /// How much longer it is under way, in nanoseconds.
        var delay: Int64 = 0
    }

    /// Counts a request to this peer and tells what happens to it.
    mutating func fateOfNextRequest(to peer: Int) -> Fate {
        if isEmpty { return Fate() }
        let request = plans[peer].requests
        plans[peer].requests += 1
        var fate = Fate()
        fate.status =
            request >= plans[peer].lostFrom
            ? Status.peerLost : plans[peer].errors[request, default: 0]
        fate.isLost = plans[peer].lost.contains(request)
        fate.delay = plans[peer].late[request, default: 0]
        return fate
    }

    /// What a status means, in the words of verbs.
    static func words(for status: Int32) -> String {
        if status == Status.sourceChanged {
            return "the payload was stored to again before its request was complete"
        }
        let words = [
            "success", "local length error", "local QP operation error",
            "local EE context operation error", "local protection error",
            "given up after an error on the same queue", "memory window bind error",
            "bad response", "local access error", "remote invalid request", "remote access error",
            "remote operation error", "retries exceeded: the peer is lost",
            "receiver-not-ready retries exceeded", "local RDD violation",
            "remote invalid RD request", "remote aborted", "invalid EE context number",
            "invalid EE context state", "fatal error", "response timeout", "general error",
        ]
        return words.indices.contains(Int(status)) ? words[Int(status)] : "unknown status"
    }

    /// The statuses of failed completions that verbs has.
    package static let verbsStatuses: ClosedRange<Int32> = 1...21
}

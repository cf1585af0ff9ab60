/// What of a loopback link fails on command: the faults of one rank, by peer.
struct LoopbackFaults {
    /// Statuses of completions, with the numbers that verbs has for the like (ibv_wc_status).
    enum Status {
        static let flushed: Int32 = 5
        static let commanded: Int32 = 10
        static let peerLost: Int32 = 12
    }

    /// What fails towards one peer.
    private struct Plan {
        /// Requests so far.
        var requests = 0
        /// Those whose completion reports an error.
        var errors: [Int] = []
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
            case .completionError(rank, let peer, let request) where plans.indices.contains(peer):
                plans[peer].errors.append(request)
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

    /// Counts a request to this peer and gives the status that its completion will have.
    mutating func statusOfNextRequest(to peer: Int) -> Int32 {
        if isEmpty { return 0 }
        let request = plans[peer].requests
        plans[peer].requests += 1
        if request >= plans[peer].lostFrom { return Status.peerLost }
        return plans[peer].errors.contains(request) ? Status.commanded : 0
    }

    /// What a status means.
    static func words(for status: Int32) -> String {
        switch status {
        case 0: "success"
        case Status.flushed: "given up after an error on the same queue"
        case Status.commanded: "failed on command"
        case Status.peerLost: "the peer is lost on command"
        default: "unknown status"
        }
    }
}

/// Random numbers that repeat with their seed (splitmix64).
struct SplitMix {
    var state: UInt64

    /// A number in `0..<bound`, `bound` being 1 or more.
    mutating func next(below bound: Int64) -> Int64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 31
        return Int64(mixed % UInt64(bound))
    }
}

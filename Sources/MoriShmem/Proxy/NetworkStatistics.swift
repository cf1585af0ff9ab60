/// What one rank asked of the network, by verb and by peer.
///
/// Counts grow for as long as the operator lives; the difference of two snapshots is what happened
/// between them.
public struct NetworkStatistics: Codable, Hashable, Sendable {
    /// Counts of one verb towards one peer.
    public struct Counts: Codable, Hashable, Sendable {
        /// Writes posted: payloads and words, after splitting and coalescing.
        public var workRequests = 0
        /// Chains handed to a queue; one that carries both verbs counts for its first request's.
        public var posts = 0
        /// Completions taken from the network, counted with the post that asked for them.
        public var completions = 0
        /// Bytes of payload.
        public var payloadByteCount = 0
        /// Bytes of words, 8 each.
        public var signalByteCount = 0
        /// The longest chain of writes of which each waited for a word that came over the network.
        public var phases = 0

        /// Counts of nothing.
        public init() {}

        /// The sum of both; of `phases` the larger.
        public static func + (left: Counts, right: Counts) -> Counts {
            var sum = left
            sum.workRequests += right.workRequests
            sum.posts += right.posts
            sum.completions += right.completions
            sum.payloadByteCount += right.payloadByteCount
            sum.signalByteCount += right.signalByteCount
            sum.phases = max(left.phases, right.phases)
            return sum
        }

        /// What came between two snapshots; `phases` is the later snapshot's.
        public static func - (later: Counts, earlier: Counts) -> Counts {
            var difference = later
            difference.workRequests -= earlier.workRequests
            difference.posts -= earlier.posts
            difference.completions -= earlier.completions
            difference.payloadByteCount -= earlier.payloadByteCount
            difference.signalByteCount -= earlier.signalByteCount
            return difference
        }
    }

    /// Counts of one verb.
    public struct Verb: Codable, Hashable, Sendable {
        /// By rank of the peer.
        public var byPeer: [Int: Counts]

        /// Creates counts of one verb.
        public init(byPeer: [Int: Counts] = [:]) { self.byPeer = byPeer }

        /// All peers together.
        public var total: Counts { byPeer.values.reduce(Counts(), +) }
        /// Writes posted: payloads and words, after splitting and coalescing.
        public var workRequests: Int { total.workRequests }
        /// Chains handed to a queue; one that carries both verbs counts for its first request's.
        public var posts: Int { total.posts }
        /// Completions taken from the network.
        public var completions: Int { total.completions }
        /// Bytes of payload.
        public var payloadByteCount: Int { total.payloadByteCount }
        /// Bytes of words, 8 each.
        public var signalByteCount: Int { total.signalByteCount }
        /// The longest chain of writes of which each waited for a word that came over the network.
        public var phases: Int { total.phases }

        /// The sum, peer by peer.
        public static func + (left: Verb, right: Verb) -> Verb {
            Verb(byPeer: left.byPeer.merging(right.byPeer, uniquingKeysWith: +))
        }

        /// What came between two snapshots, peer by peer.
        public static func - (later: Verb, earlier: Verb) -> Verb {
            var difference = later
            for (peer, counts) in earlier.byPeer {
                difference.byPeer[peer] = (later.byPeer[peer] ?? Counts()) - counts
            }
            return difference
        }
    }

    /// Counts of dispatches.
    public var dispatch: Verb
    /// Counts of combines.
    public var combine: Verb

    /// Creates statistics.
    public init(dispatch: Verb = Verb(), combine: Verb = Verb()) {
        self.dispatch = dispatch
        self.combine = combine
    }

    /// The sum, verb by verb; over all ranks it is what one operation cost the network.
    public static func + (left: NetworkStatistics, right: NetworkStatistics) -> NetworkStatistics {
        NetworkStatistics(
            dispatch: left.dispatch + right.dispatch, combine: left.combine + right.combine)
    }

    /// What came between two snapshots; `phases` is the later snapshot's.
    public static func - (
        later: NetworkStatistics, earlier: NetworkStatistics
    ) -> NetworkStatistics {
        NetworkStatistics(
            dispatch: later.dispatch - earlier.dispatch, combine: later.combine - earlier.combine)
    }
}

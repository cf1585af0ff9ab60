package import MoriDevice

/// The bootstrap of a world whose ranks are threads or tasks of one process.
///
/// A member that is dropped without `close` says goodbye by itself.
package final class LocalBootstrap: Bootstrap {
    package let rank: Int
    package let worldSize: Int
    package let members: [Int]

    private let hub: Hub
    private let inbox: Inbox

    private init(rank: Int, hub: Hub) {
        self.rank = rank
        self.worldSize = hub.inboxes.count
        self.members = hub.members
        self.hub = hub
        self.inbox = hub.inboxes[rank]
    }

    deinit { hub.post(.goodbye, from: rank) }

    /// Makes a world.
    ///
    /// - Parameter size: The number of ranks, 1 or more.
    /// - Returns: One member for each rank, by rank.
    package static func world(size: Int) -> [LocalBootstrap] {
        let hub = Hub(worldSize: size, members: Array(0..<size))
        for rank in 0..<size { hub.admit(rank) }
        return (0..<size).map { LocalBootstrap(rank: $0, hub: hub) }
    }

    package func regroup(
        _ members: [Int], generation: Int, timeout: Duration
    ) async throws(MoriError) -> any Bootstrap {
        let next = try hub.successor(generation, members: members, for: rank)
        let member = LocalBootstrap(rank: rank, hub: next)
        next.admit(rank)
        try await next.inboxes[rank].awaitWorld(timeout: timeout) { [rank] message in
            next.post(message, from: rank)
        }
        return member
    }

    package func allGather(
        _ name: String, _ value: [UInt8], timeout: Duration
    ) async throws(MoriError) -> [[UInt8]] {
        try await inbox.gather(name, value, timeout: timeout) { [hub, rank] message in
            hub.post(message, from: rank)
        }
    }

    package func abort(culprit: Int?, message: String) {
        let message = String(decoding: message.utf8.prefix(BootstrapLimit.message), as: UTF8.self)
        inbox.fail(
            MoriError(.aborted, "rank \(rank) aborted: \(message)", ranks: [culprit ?? rank]))
        hub.post(.abort(culprit: culprit, message: message), from: rank)
    }

    package func report(waitingFor ranks: [Int]) { hub.post(.waits(for: ranks), from: rank) }

    package func onEvent(_ handler: @escaping @Sendable (BootstrapEvent) -> Void) {
        inbox.setHandler(handler)
    }

    /// Says goodbye; in one process there is nothing to wait for.
    package func close(timeout: Duration) async {
        inbox.close()
        hub.post(.goodbye, from: rank)
    }
}

/// What the members of a local world share.
private final class Hub: Sendable {
    let members: [Int]
    let inboxes: [Inbox]
    private let rendezvous: Locked<Rendezvous>
    private let successors = Locked<[Int: Successor]>([:])
    /// What was decided and is not delivered yet.
    private let outbox = Locked(Outbox())

    private struct Outbox {
        var deliveries: [Rendezvous.Delivery] = []
        var isDelivering = false
    }

    /// A meeting that follows this one.
    private struct Successor: Sendable {
        let hub: Hub
        var came: Set<Int>
    }

    init(worldSize: Int, members: [Int]) {
        self.members = members
        let leader = members.first ?? 0
        inboxes = (0..<worldSize).map { Inbox(rank: $0, worldSize: worldSize, leader: leader) }
        rendezvous = Locked(Rendezvous(worldSize: worldSize, expected: members))
    }

    func post(_ message: RankMessage, from rank: Int) {
        deliver { $0.receive(message, from: rank) }
    }

    /// Lets a rank in; the last one completes the world.
    func admit(_ rank: Int) { deliver { $0.admit(rank) } }

    /// Where the ranks meet that go on; a rank that comes again begins another attempt.
    func successor(
        _ generation: Int, members: [Int], for rank: Int
    ) throws(MoriError) -> Hub {
        let (hub, error) = successors.withLock { successors -> (Hub, MoriError?) in
            if var known = successors[generation], !known.came.contains(rank), !known.hub.isOver {
                guard known.hub.members == members else {
                    let error = MoriError(
                        .ranksDisagree,
                        "rank \(rank) meets \(rankList(members)), others meet"
                            + " \(rankList(known.hub.members)); all must name the same active ranks",
                        ranks: [rank])
                    return (known.hub, error)
                }
                known.came.insert(rank)
                successors[generation] = known
                return (known.hub, nil)
            }
            let hub = Hub(worldSize: inboxes.count, members: members)
            successors[generation] = Successor(hub: hub, came: [rank])
            return (hub, nil)
        }
        guard let error else { return hub }
        // Those who came are told too: their meeting cannot be complete.
        hub.deliver { $0.fail(error) }
        throw error
    }

    /// Whether nobody can meet here any more.
    private var isOver: Bool { rendezvous.withLock { $0.failure != nil } }

    private func deliver(_ step: (inout Rendezvous) -> [Rendezvous.Delivery]) {
        // In the order of the decisions: a rank that has its answer and leaves must not be seen to
        // leave before the others have theirs.
        let delivers = rendezvous.withLock { rendezvous in
            let deliveries = step(&rendezvous)
            return outbox.withLock { outbox in
                outbox.deliveries += deliveries
                defer { outbox.isDelivering = true }
                return !outbox.isDelivering
            }
        }
        // By one thread at a time, and outside the locks, because handlers may post.
        while delivers, let delivery = nextDelivery() {
            inboxes[delivery.rank].receive(delivery.message)
        }
    }

    private func nextDelivery() -> Rendezvous.Delivery? {
        outbox.withLock { outbox in
            guard outbox.deliveries.isEmpty else { return outbox.deliveries.removeFirst() }
            outbox.isDelivering = false
            return nil
        }
    }
}

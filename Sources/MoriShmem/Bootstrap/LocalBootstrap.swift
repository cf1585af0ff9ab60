package import MoriDevice

/// The bootstrap of a world whose ranks are threads or tasks of one process.
///
/// A member that is dropped without `close` says goodbye by itself.
package final class LocalBootstrap: Bootstrap {
    package let rank: Int
    package let worldSize: Int

    private let hub: Hub
    private let inbox: Inbox

    private init(rank: Int, hub: Hub) {
        self.rank = rank
        self.worldSize = hub.inboxes.count
        self.hub = hub
        self.inbox = hub.inboxes[rank]
    }

    deinit { hub.post(.goodbye, from: rank) }

    /// Makes a world.
    ///
    /// - Parameter size: The number of ranks, 1 or more.
    /// - Returns: One member for each rank, by rank.
    package static func world(size: Int) -> [LocalBootstrap] {
        let hub = Hub(worldSize: size)
        return (0..<size).map { LocalBootstrap(rank: $0, hub: hub) }
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
    let inboxes: [Inbox]
    private let rendezvous: Locked<Rendezvous>
    /// What was decided and is not delivered yet.
    private let outbox = Locked(Outbox())

    private struct Outbox {
        var deliveries: [Rendezvous.Delivery] = []
        var isDelivering = false
    }

    init(worldSize: Int) {
        inboxes = (0..<worldSize).map { Inbox(rank: $0, worldSize: worldSize) }
        var formed = Rendezvous(worldSize: worldSize)
        for rank in 0..<worldSize { _ = formed.admit(rank) }
        rendezvous = Locked(formed)
    }

    func post(_ message: RankMessage, from rank: Int) {
        // In the order of the decisions: a rank that has its answer and leaves must not be seen to
        // leave before the others have theirs.
        let delivers = rendezvous.withLock { rendezvous in
            let deliveries = rendezvous.receive(message, from: rank)
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

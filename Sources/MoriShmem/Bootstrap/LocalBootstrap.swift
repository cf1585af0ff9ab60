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

    init(worldSize: Int) {
        inboxes = (0..<worldSize).map { Inbox(rank: $0, worldSize: worldSize) }
        var formed = Rendezvous(worldSize: worldSize)
        for rank in 0..<worldSize { _ = formed.admit(rank) }
        rendezvous = Locked(formed)
    }

    func post(_ message: RankMessage, from rank: Int) {
        // Delivered outside the lock, because handlers may post. Two threads may thus deliver in
        // the other order; every message stands for itself.
        let deliveries = rendezvous.withLock { $0.receive(message, from: rank) }
        for delivery in deliveries { inboxes[delivery.rank].receive(delivery.message) }
    }
}

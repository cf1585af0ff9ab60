import MoriDevice
import MoriShmem
import MoriTestSupport
import Testing

/// What `onFailure` of a channel was called with.
final class Failures: Sendable {
    private let list = Locked<[(MoriError, Int?)]>([])

    var all: [(error: MoriError, culprit: Int?)] { list.withLock { $0.map { ($0.0, $0.1) } } }

    func add(_ error: MoriError, _ culprit: Int?) { list.withLock { $0.append((error, culprit)) } }
}

/// Segments of a few ranks in plain memory, joined by a loopback fabric.
struct LoopbackWorld: Sendable {
    let segments: [TestMemory]
    let links: [any FabricLink]
    let queuesPerPeer: Int

    init(
        ranks: Int, segmentByteCount: Int, queuesPerPeer: Int = 1,
        behavior: LoopbackBehavior = .immediate
    ) async throws {
        // Poisoned, so that what was not written shows.
        let segments = (0..<ranks).map { _ in
            TestMemory(byteCount: segmentByteCount, filledWith: 0xA5)
        }
        let device = try Device(.host)
        let fabric = LoopbackFabric(behavior)
        let members = LocalBootstrap.world(size: ranks)
        links = try await withThrowingTaskGroup(of: (Int, any FabricLink).self) { group in
            for member in members {
                let rank = member.rank
                let request = FabricRequest(
                    device: device, address: segments[rank].address, byteCount: segmentByteCount,
                    mappedAddresses: segments.map(\.address),
                    peers: (0..<ranks).filter { $0 != rank }, queuesPerPeer: queuesPerPeer,
                    purpose: "a test")
                group.addTask {
                    (
                        rank,
                        try await fabric.connect(request, over: member, timeout: Patience.healthy)
                    )
                }
            }
            var links: [Int: any FabricLink] = [:]
            for try await (rank, link) in group { links[rank] = link }
            return try (0..<ranks).map { try #require(links[$0]) }
        }
        self.segments = segments
        self.queuesPerPeer = queuesPerPeer
    }

    /// A channel of one rank over its link.
    func channel(
        rank: Int, rings: TestRings, settings: ProxySettings = ProxySettings(),
        failures: Failures = Failures(), onTick: (@Sendable () -> Void)? = nil
    ) throws -> ProxyChannel {
        try ProxyChannel(
            link: links[rank], rank: rank, worldSize: segments.count,
            peers: segments.indices.filter { $0 != rank }, queuesPerPeer: queuesPerPeer,
            memory: rings.memory, segmentByteCount: segments[rank].byteCount, settings: settings,
            onTick: onTick, onFailure: { failures.add($0, $1) })
    }
}

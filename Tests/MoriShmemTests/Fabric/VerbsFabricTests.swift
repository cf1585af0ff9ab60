import MoriDevice
import Testing

@testable import MoriShmem

/// What VerbsFabric says on a host without NICs; with NICs it is tested by `make test-rdma`.
struct VerbsFabricTests {
    private func connect(peers: [[Int]]) async throws -> [Result<any FabricLink, MoriError>] {
        let device = try Device(.host)
        let buffer = try DeviceBuffer(byteCount: 4096, kind: .symmetric, on: device)
        return await withTaskGroup(of: (Int, Result<any FabricLink, MoriError>).self) { group in
            for bootstrap in LocalBootstrap.world(size: peers.count) {
                group.addTask {
                    let request = FabricRequest(
                        device: device, address: buffer.address, byteCount: 4096,
                        mappedAddresses: [UInt](repeating: 0, count: peers.count),
                        peers: peers[bootstrap.rank], queuesPerPeer: 1, purpose: "a test")
                    let link = await outcome { () async throws(MoriError) in
                        try await FabricSelection.verbs(RDMASettings(), for: "a test").connect(
                            request, over: bootstrap, timeout: .seconds(20))
                    }
                    return (bootstrap.rank, link)
                }
            }
            var links: [(Int, Result<any FabricLink, MoriError>)] = []
            for await link in group { links.append(link) }
            return links.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    @Test func ranksWithoutPeersGetALinkWithoutQueues() async throws {
        for link in try await connect(peers: [[], []]) {
            let link = try link.get()
            #expect(link.ordersWrites)
            #expect(!link.wakesReaders)
            #expect(link.queueDepth > 0)
            var completion = WorkCompletion(id: 0, queue: 0, status: 0, vendorError: 0)
            #expect(unsafe link.poll(&completion, capacity: 1) == 0)
            var request = WorkRequest(
                kind: .word, isSignaled: true, byteCount: 8, source: 0, destination: 0, value: 1,
                id: 1)
            #expect(unsafe link.post(&request, count: 1, to: 0) != 0)
            link.close()
        }
    }

    @Test(.enabled(if: (try? RDMAHost.nics())?.isEmpty ?? true, "this host has NICs"))
    func withoutNICsEveryRankThrowsTheSame() async throws {
        let links = try await connect(peers: [[1], [0], []])
        for link in links {
            let error = try #require(throws: MoriError.self) { try link.get() }
            #expect(error.code == .unsupported)
            #expect(error.ranks == [0, 1])
            #expect(error.message.contains("a test: ranks 0 and 1 cannot map all of each other's"))
            #expect(error.message.contains("can use no NIC"))
            #expect(
                error.message.contains("libibverbs lists no NICs") || error.message.contains("IPv4")
            )
        }
    }
}

import MoriDevice
import MoriShmem
import Testing

/// A proxy between one rank's rings and a loopback fabric.
@Suite struct ProxyTests {
    @Test(.timeLimit(.minutes(1)))
    func whatAKernelPushesReachesThePeerWithItsWord() async throws {
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 4096)
        let rings = TestRings(slots: 2)
        let failures = Failures()
        let channel = try world.channel(rank: 0, rings: rings, failures: failures)
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        world.segments[0][64..<164] = (0..<100).map { UInt8($0 + 1) }
        rings.push(
            Transfer(
                peer: 1, slot: 1, phase: 1, bytes: 100, source: 64, destination: 512,
                word: (offset: 1024, value: .max - 5)), doorbell: proxy.doorbellAddress)
        #expect(await eventually { world.segments[1].load(1024) == .max - 5 })
        #expect(world.segments[1][512..<612] == (0..<100).map { UInt8($0 + 1) })
        #expect(await eventually { rings.completed(1) == 1 && channel.isDrained })
        #expect(rings.completed(0) == 0 && rings.consumed() == 1)
        #expect(await proxy.detach(channel, within: .seconds(5)))
        #expect(failures.all.isEmpty)
        let counts = try #require(channel.statistics().dispatch.byPeer[1])
        #expect(counts.workRequests == 2 && counts.posts == 1 && counts.completions == 1)
        #expect(counts.payloadByteCount == 100 && counts.signalByteCount == 8)
        #expect(counts.phases == 1)
    }
}

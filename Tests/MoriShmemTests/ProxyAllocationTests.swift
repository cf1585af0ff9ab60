import CAllocationCount
import MoriDevice
import MoriShmem
import Testing

/// The proxy's promise that it allocates nothing once it runs.
///
/// Allocations are counted by an interposer of malloc (Tests/CAllocationCount): every call of the
/// thread that drives the channel, whether it is freed again or not.
@Suite struct ProxyAllocationTests {
    @Test func allocationsAreCounted() {
        guard mori_allocation_count() >= 0 else { return }
        let before = mori_allocation_count()
        let list = (0..<1000).map { $0 + Int(before) }
        #expect(mori_allocation_count() - before >= 1)
        #expect(list.count == 1000)
    }

    @Test(
        .enabled(if: mori_allocation_count() >= 0, "a sanitizer counts its own way"),
        .timeLimit(.minutes(2)),
        arguments: [(LoopbackBehavior.immediate, 1_000_000), (.shuffled(seed: 3), 100_000)])
    func aMillionOperationsAllocateNothing(
        behavior: LoopbackBehavior, operations: Int
    ) async throws {
        let world = try await LoopbackWorld(
            ranks: 4, segmentByteCount: 1 << 16, queuesPerPeer: 2, behavior: behavior)
        let entries = 1024
        let rings = TestRings(rings: 2, entries: entries, slots: 2)
        let failures = Failures()
        let channel = try world.channel(rank: 0, rings: rings, failures: failures)
        // One lap and the next, made beforehand: what is pushed allocates, what is popped must not.
        let lap = (0..<2 * entries).map { ticket in
            let place = ticket % 64
            return Transfer(
                peer: 1 + ticket % 3, queue: ticket % 2, slot: ticket / 2 % 2, phase: 1,
                isCombine: ticket % 5 == 0, bytes: 16 * (ticket % 4), source: 512 * place,
                destination: 512 * place,
                word: ticket % 3 == 0 ? nil : (offset: 8 * place, value: UInt64(ticket))
            ).words(ticket: ticket, entryCount: entries)
        }
        var pushed = 0
        func pushAll() {
            for ring in 0..<2 {
                for ticket in pushed..<pushed + entries {
                    rings.store(lap[ticket % (2 * entries)], ring, ticket)
                }
            }
            pushed += entries
        }
        // The first lap may set up what stays, such as a library's first call.
        pushAll()
        while channel.turn().progressed {}
        var allocations: Int64 = 0
        while 2 * pushed < operations + 2 * entries {
            pushAll()
            let before = mori_allocation_count()
            var turn = channel.turn()
            while turn.progressed || turn.isUnderWay { turn = channel.turn() }
            allocations += mori_allocation_count() - before
        }
        #expect(allocations == 0)
        #expect(rings.consumed(0) == pushed && rings.consumed(1) == pushed)
        #expect(rings.completed(0) + rings.completed(1) == 2 * pushed)
        #expect(channel.isDrained && failures.all.isEmpty)
    }
}

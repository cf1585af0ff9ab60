import CMoriSystem
import Glibc
import MoriDevice
import MoriShmem
import MoriTestSupport
import Synchronization
import Testing

/// The proxy's thread among producers and readers that run at the same time.
@Suite struct ProxyThreadTests {
    /// What the payload of a transfer holds: no two alike at one place.
    private static func bytes(_ producer: Int, _ transfer: Int, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: 31 * transfer + 17 * producer + $0 + 1) }
    }

    /// Producers on several rings write payloads and words into two peers, whose readers check that
    /// the payload is there as soon as its word is.
    @Test(
        .timeLimit(.minutes(2)),
        arguments: [
            LoopbackBehavior.immediate, .shuffled(seed: 1), .delayed(.microseconds(200)),
            .shuffled(seed: 2, delay: .microseconds(100)),
        ], [1, 2, 64])
    func whoSeesAWordSeesItsPayload(behavior: LoopbackBehavior, entries: Int) async throws {
        let producers = 4
        let transfers = 150
        let size = 48
        let area = transfers * (size + 8)
        let world = try await LoopbackWorld(
            ranks: 3, segmentByteCount: producers * area, queuesPerPeer: 2, behavior: behavior)
        let rings = TestRings(rings: 2, entries: entries, slots: 2)
        let failures = Failures()
        let channel = try world.channel(rank: 0, rings: rings, failures: failures)
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        let torn = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for producer in 0..<producers {
                let peer = 1 + producer % 2
                group.addTask {
                    try await BackgroundThread.run {
                        for transfer in 0..<transfers {
                            let begin = producer * area + transfer * (size + 8)
                            world.segments[0][begin..<begin + size] = Self.bytes(
                                producer, transfer, count: size)
                            rings.push(
                                Transfer(
                                    peer: peer, queue: transfer % 2, slot: producer / 2,
                                    bytes: size, source: begin, destination: begin,
                                    word: (offset: begin + size, value: UInt64(transfer + 1))),
                                ring: producer % 2, doorbell: proxy.doorbellAddress)
                        }
                    }
                }
                group.addTask {
                    try await BackgroundThread.run {
                        let memory = world.segments[peer]
                        for transfer in 0..<transfers {
                            let begin = producer * area + transfer * (size + 8)
                            while memory.load(begin + size) != UInt64(transfer + 1) {
                                sched_yield()
                            }
                            if memory[begin..<begin + size]
                                != Self.bytes(producer, transfer, count: size)
                            {
                                torn.add()
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(torn.count == 0)
        #expect(await eventually { channel.isDrained })
        #expect(rings.completed(0) == 2 * transfers && rings.completed(1) == 2 * transfers)
        let counts = channel.statistics().dispatch
        #expect(counts.workRequests == 2 * producers * transfers)
        #expect(counts.payloadByteCount == producers * transfers * size)
        #expect(counts.completions <= counts.workRequests / 16 + counts.posts)
        #expect(await proxy.detach(channel, within: Patience.healthy))
        #expect(failures.all.isEmpty)
    }

    /// With an hour between two ticks nothing but the doorbell wakes an idle proxy.
    @Test(.timeLimit(.minutes(1)))
    func aDoorbellIsNeverLost() async throws {
        var settings = ProxySettings()
        settings.tickInterval = .seconds(3600)
        // It tries to sleep whenever it finds nothing.
        (settings.spinTurns, settings.yieldTurns) = (0, 0)
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 64)
        let rings = TestRings(entries: 4)
        let channel = try world.channel(rank: 0, rings: rings, settings: settings)
        let proxy = try Proxy(on: Device(.host), settings: settings)
        try proxy.attach(channel)
        let seed = UInt64.random(in: 0 ... .max)
        let rounds = 10_000
        // Where the two threads share a core a round takes a time slice: then fewer have to do.
        let end = ContinuousClock.now + .seconds(20)
        let answered = try await BackgroundThread.run { () -> Int in
            var generator = SeededGenerator(seed: seed)
            func words(_ round: Int) -> [UInt64] {
                Transfer(peer: 1, word: (offset: 8, value: UInt64(round)))
                    .words(ticket: round - 1, entryCount: 4)
            }
            var next = words(1)
            for round in 1...rounds {
                if round > 100, ContinuousClock.now > end { break }
                rings.store(next, 0, round - 1)
                rings.wake(proxy.doorbellAddress)
                // What takes long is done before: the thread falls asleep within a microsecond.
                next = words(round + 1)
                let pause = Int.random(in: 0...100, using: &generator)
                let deadline = ContinuousClock.now + .seconds(20)
                var looks = 0
                while rings.completed() != round {
                    if ContinuousClock.now > deadline { return round }
                    looks += 1
                    if looks > 1000 { sched_yield() }
                }
                for _ in 0..<pause { mori_pause_core() }
            }
            return rounds
        }
        #expect(answered == rounds, "seed \(seed)")
        #expect(await proxy.detach(channel, within: Patience.healthy))
    }

    @Test(.timeLimit(.minutes(1)))
    func whereNobodyRingsTheProxyLooksByItself() async throws {
        var settings = ProxySettings()
        settings.wakesProducers = false
        settings.tickInterval = .seconds(3600)
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 64)
        let rings = TestRings()
        let channel = try world.channel(rank: 0, rings: rings, settings: settings)
        let proxy = try Proxy(on: Device(.host), settings: settings)
        try proxy.attach(channel)
        for round in 1...20 {
            try await Task.sleep(for: .milliseconds(2))
            rings.push(Transfer(peer: 1, word: (offset: 8, value: UInt64(round))))
            #expect(await eventually { rings.completed() == round })
        }
        await proxy.detach(channel, within: Patience.healthy)
    }

    @Test(.timeLimit(.minutes(1)))
    func aDetachFinishesWhatIsUnderWay() async throws {
        let world = try await LoopbackWorld(
            ranks: 2, segmentByteCount: 64, behavior: .delayed(.milliseconds(100)))
        let rings = TestRings()
        let channel = try world.channel(rank: 0, rings: rings)
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        for round in 1...50 {
            rings.push(
                Transfer(peer: 1, word: (offset: 8, value: UInt64(round))),
                doorbell: proxy.doorbellAddress)
        }
        #expect(await proxy.detach(channel, within: Patience.healthy))
        #expect(rings.completed() == 50 && channel.isDrained)
        #expect(world.segments[1].load(8) == 50)
        rings.push(Transfer(peer: 1, word: (offset: 8, value: 51)), doorbell: proxy.doorbellAddress)
        try await Task.sleep(for: .milliseconds(20))
        #expect(rings.consumed() == 50, "nobody serves it any more")
        #expect(await proxy.detach(channel, within: .zero), "a second time there is nothing to do")
    }

    @Test(.timeLimit(.minutes(1)))
    func aDetachDoesNotWaitBeyondItsDeadline() async throws {
        let world = try await LoopbackWorld(
            ranks: 2, segmentByteCount: 64, behavior: .delayed(.seconds(3600)))
        let rings = TestRings()
        let channel = try world.channel(rank: 0, rings: rings)
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        rings.push(
            Transfer(peer: 1, word: (offset: 8, value: 1)), doorbell: proxy.doorbellAddress)
        #expect(await eventually { rings.consumed() == 1 })
        let start = ContinuousClock.now
        async let other = proxy.detach(channel, within: .seconds(3600))
        #expect(await proxy.detach(channel, within: .milliseconds(50)) == false)
        #expect(ContinuousClock.now - start >= .milliseconds(50))
        // Both end with the first, whichever of them the thread heard of first.
        _ = await other
        #expect(ContinuousClock.now - start < Patience.prompt)
        #expect(rings.completed() == 0)
    }

    @Test(.timeLimit(.minutes(1)))
    func oneThreadServesManyChannelsThatComeAndGo() async throws {
        let ranks = 8
        let world = try await LoopbackWorld(ranks: ranks, segmentByteCount: 64 * ranks)
        let proxy = try Proxy(on: Device(.host))
        for round in UInt64(1)...5 {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for rank in 0..<ranks {
                    group.addTask {
                        let rings = TestRings()
                        let failures = Failures()
                        let channel = try world.channel(
                            rank: rank, rings: rings, failures: failures)
                        try proxy.attach(channel)
                        for peer in 0..<ranks where peer != rank {
                            rings.push(
                                Transfer(peer: peer, word: (offset: 64 * rank, value: round)),
                                doorbell: proxy.doorbellAddress)
                        }
                        #expect(await eventually { rings.completed() == ranks - 1 })
                        #expect(await proxy.detach(channel, within: Patience.healthy))
                        #expect(failures.all.isEmpty)
                    }
                }
                try await group.waitForAll()
            }
            for rank in 0..<ranks {
                for peer in 0..<ranks where peer != rank {
                    #expect(world.segments[rank].load(64 * peer) == round)
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func theThreadEndsWithTheLastChannelOrWithTheProxy() async throws {
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 64)
        var proxy: Proxy? = try Proxy(on: Device(.host))
        for leaves in [true, false] {
            let tracked = Tracked()
            func serve() async throws {
                let ticked = tracked.object
                let channel = try world.channel(
                    rank: 0, rings: tracked.rings, onTick: { [ticked] in _ = ticked })
                try proxy?.attach(channel)
                if leaves { await proxy?.detach(channel, within: Patience.healthy) }
            }
            try await serve()
            tracked.drop()
            if !leaves {
                try await Task.sleep(for: .milliseconds(20))
                #expect(tracked.isAlive, "the thread holds the channel")
                proxy = nil
            }
            #expect(await eventually { !tracked.isAlive }, "the thread let go of the channel")
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func channelsAreLookedAfterWhileIdleAndWhileBusy() async throws {
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 64)
        let rings = TestRings(entries: 256)
        let ticks = Counter()
        let channel = try world.channel(rank: 0, rings: rings, onTick: { ticks.add() })
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        #expect(await eventually { ticks.count >= 5 })
        try await BackgroundThread.run {
            let before = ticks.count
            let deadline = ContinuousClock.now + .seconds(20)
            while ticks.count < before + 5, ContinuousClock.now < deadline {
                rings.push(
                    Transfer(peer: 1, word: (offset: 8, value: 1)),
                    doorbell: proxy.doorbellAddress)
            }
        }
        let before = ticks.count
        await proxy.detach(channel, within: Patience.healthy)
        #expect(before >= 10)
        let after = ticks.count
        try await Task.sleep(for: .milliseconds(20))
        #expect(ticks.count == after, "not after it left")
    }

    @Test(.timeLimit(.minutes(1)))
    func aFailureReachesTheOperatorOnceWhateverFollows() async throws {
        let world = try await LoopbackWorld(
            ranks: 3, segmentByteCount: 64,
            behavior: .immediate.failing(
                .fullQueue(rank: 0, peer: 1, posts: 3), .lostPeer(rank: 2, request: 3)))
        let rings = TestRings(entries: 8)
        let failures = Failures()
        let channel = try world.channel(rank: 0, rings: rings, failures: failures)
        let proxy = try Proxy(on: Device(.host))
        try proxy.attach(channel)
        func send(_ peer: Int, _ count: Int) async throws {
            try await BackgroundThread.run {
                for value in 0..<count {
                    rings.push(
                        Transfer(peer: peer, word: (offset: 8, value: UInt64(value))),
                        doorbell: proxy.doorbellAddress)
                }
            }
        }
        try await send(1, 100)
        #expect(await eventually { rings.completed() == 100 }, "a full queue is no failure")
        #expect(failures.all.isEmpty)
        try await send(2, 100)
        #expect(await eventually { rings.consumed() == 200 }, "no producer waits for ever")
        let failure = try #require(failures.all.first)
        #expect(failures.all.count == 1 && failure.culprit == 2)
        #expect(failure.error.code == .networkFailure && failure.error.ranks == [2])
        let words = "loopback: retries exceeded: the peer is lost (status 12)"
        #expect(failure.error.cause == .other(words))
        #expect(rings.completed() <= 103)
        #expect(await proxy.detach(channel, within: Patience.healthy))
    }
}

/// A number that grows on any thread.
private final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    var count: Int { value.load(ordering: .relaxed) }

    func add() { value.add(1, ordering: .relaxed) }
}

/// An object whose end shows when the last who held it is gone.
private final class Tracked {
    final class Object: Sendable {}

    let rings = TestRings()
    private var strong: Object?
    private weak var weakly: Object?

    init() {
        let made = Object()
        strong = made
        weakly = made
    }

    var object: Object? { strong }
    var isAlive: Bool { weakly != nil }

    func drop() { strong = nil }
}

import Glibc
import MoriDevice
import MoriShmem
import MoriTestSupport
import Testing

/// The loopback fabric by itself: what is delivered when, and what fails on command.
@Suite struct LoopbackTests {
    private func payload(_ id: UInt64, bytes: Int, from source: Int, to destination: Int)
        -> WorkRequest
    {
        WorkRequest(
            kind: .payload, isSignaled: true, byteCount: UInt32(bytes), source: UInt64(source),
            destination: UInt64(destination), value: 0, id: id)
    }

    private func word(
        _ id: UInt64, _ value: UInt64, at offset: Int, isSignaled: Bool = true
    ) -> WorkRequest {
        WorkRequest(
            kind: .word, isSignaled: isSignaled, byteCount: 8, source: 0,
            destination: UInt64(offset), value: value, id: id)
    }

    private func post(_ requests: [WorkRequest], to queue: Int = 0, over link: any FabricLink)
        -> Int32
    {
        unsafe requests.withUnsafeBufferPointer { chain in
            guard let base = chain.baseAddress else { return EINVAL }
            return unsafe link.post(base, count: chain.count, to: queue)
        }
    }

    private func poll(_ link: any FabricLink, capacity: Int = 64) -> [WorkCompletion] {
        let none = WorkCompletion(id: 0, queue: 0, status: 0)
        var found = [WorkCompletion](repeating: none, count: capacity)
        let count = unsafe found.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe link.poll(base, capacity: capacity)
        }
        return Array(found.prefix(count))
    }

    /// Polls until so many completions came, at most a minute.
    private func poll(_ link: any FabricLink, until count: Int) -> [WorkCompletion] {
        let deadline = ContinuousClock.now + Patience.prompt
        var found: [WorkCompletion] = []
        while found.count < count, ContinuousClock.now < deadline { found += poll(link) }
        return found
    }

    @Test func anImmediateFabricDeliversWithThePost() async throws {
        let world = try await LoopbackWorld(ranks: 3, segmentByteCount: 256, queuesPerPeer: 2)
        world.segments[1][0..<4] = [1, 2, 3, 4]
        // Rank 1's queues: two to rank 0, two to rank 2.
        let link = world.links[1]
        #expect(post([payload(7, bytes: 4, from: 0, to: 100)], to: 3, over: link) == 0)
        #expect(world.segments[2][100..<105] == [1, 2, 3, 4, 0xA5])
        #expect(post([word(8, .max, at: 8), word(9, 5, at: 16)], to: 0, over: link) == 0)
        #expect(world.segments[0].load(8) == .max && world.segments[0].load(16) == 5)
        #expect(
            poll(link).map { [Int($0.id), Int($0.queue), Int($0.status)] } == [
                [7, 3, 0], [8, 0, 0], [9, 0, 0],
            ])
        #expect(poll(link).isEmpty)
        #expect(link.ordersWrites && link.wakesReaders)
    }

    @Test func onlySignaledRequestsCompleteAndFreeTheirQueue() async throws {
        var behavior = LoopbackBehavior.immediate
        behavior.queueDepth = 4
        let world = try await LoopbackWorld(ranks: 2, segmentByteCount: 64, behavior: behavior)
        let link = world.links[0]
        let silent = (0..<3).map { word(UInt64($0), 1, at: 8, isSignaled: false) }
        #expect(post(silent, over: link) == 0)
        #expect(poll(link).isEmpty)
        #expect(post([word(3, 1, at: 8), word(4, 1, at: 8)], over: link) == ENOMEM)
        #expect(post([word(3, 1, at: 8)], over: link) == 0)
        #expect(post([word(4, 1, at: 8)], over: link) == ENOMEM, "its completion was not taken")
        #expect(poll(link).map(\.id) == [3])
        #expect(post(silent + [word(9, 1, at: 8)], over: link) == 0)
        #expect(post(silent, to: 1, over: link) == EINVAL, "there is one queue")
    }

    /// A source that is stored to before its completion is what peers then see.
    @Test func aDelayedFabricReadsItsSourceAtTheLastMoment() async throws {
        let world = try await LoopbackWorld(
            ranks: 2, segmentByteCount: 64, behavior: .delayed(.milliseconds(30)))
        world.segments[0][0..<2] = [1, 1]
        let start = ContinuousClock.now
        let chain = [payload(0, bytes: 2, from: 0, to: 32), word(1, 77, at: 8)]
        #expect(post(chain, over: world.links[0]) == 0)
        #expect(poll(world.links[0]).isEmpty)
        #expect(world.segments[1][32..<34] == [0xA5, 0xA5])
        world.segments[0][0..<2] = [2, 3]
        #expect(poll(world.links[0], until: 2).map(\.id) == [0, 1])
        #expect(ContinuousClock.now - start >= .milliseconds(30))
        #expect(world.segments[1][32..<34] == [2, 3] && world.segments[1].load(8) == 77)
    }

    /// The order in which a shuffling fabric completes the same posts.
    private func order(seed: UInt64, delay: Duration?) async throws -> [[Int]] {
        let world = try await LoopbackWorld(
            ranks: 2, segmentByteCount: 64, queuesPerPeer: 4,
            behavior: .shuffled(seed: seed, delay: delay))
        for id in 0..<10 {
            for queue in 0..<4 {
                #expect(post([word(UInt64(id), 0, at: 8)], to: queue, over: world.links[0]) == 0)
            }
        }
        return poll(world.links[0], until: 40).map { [Int($0.queue), Int($0.id)] }
    }

    @Test(arguments: [nil, Duration.milliseconds(2)])
    func aShufflingFabricKeepsTheOrderOfEachQueueOnly(delay: Duration?) async throws {
        let asPosted = (0..<10).flatMap { id in (0..<4).map { [$0, id] } }
        for seed in UInt64(1)...5 {
            let found = try await order(seed: seed, delay: delay)
            #expect(found.count == 40 && found != asPosted, "seed \(seed)")
            for queue in 0..<4 {
                let ids = found.filter { $0[0] == queue }.map { $0[1] }
                #expect(ids == Array(0..<10), "seed \(seed), queue \(queue)")
            }
            if delay == nil {
                #expect(try await order(seed: seed, delay: nil) == found, "seed \(seed) repeats")
            }
        }
        #expect(try await order(seed: 1, delay: nil) != order(seed: 2, delay: nil))
    }

    @Test func aFailureOnCommandEndsItsQueueAndNoOther() async throws {
        let world = try await LoopbackWorld(
            ranks: 3, segmentByteCount: 64,
            behavior: .immediate.failing(.completionError(rank: 0, peer: 1, request: 2)))
        let link = world.links[0]
        let chain = (0..<4).map { word(UInt64($0), UInt64($0), at: 8, isSignaled: $0 == 3) }
        #expect(post(chain, over: link) == 0)
        let found = poll(link)
        // The one that fails tells so though no completion was wanted; the next is given up.
        #expect(found.map(\.id) == [2, 3] && found.allSatisfy { $0.status != 0 })
        #expect(found[0].status != found[1].status)
        #expect(link.words(for: found[0]) == "loopback: remote access error")
        #expect(link.words(for: found[1]).contains("after an error on the same queue"))
        #expect(world.segments[1].load(8) == 1, "nothing from the failure on is delivered")
        #expect(post(chain, to: 1, over: link) == 0 && poll(link).map(\.status) == [0])
        #expect(post(chain, over: world.links[1]) == 0, "other ranks are not concerned")
        #expect(poll(world.links[1]).map(\.status) == [0])
    }

    @Test func everythingToALostPeerFails() async throws {
        let world = try await LoopbackWorld(
            ranks: 3, segmentByteCount: 64, queuesPerPeer: 2,
            behavior: .immediate.failing(.lostPeer(rank: 2, request: 1)))
        // Ranks 0 and 1 have their queues to rank 2 last.
        for rank in 0..<2 {
            let link = world.links[rank]
            #expect(post([word(0, 5, at: 8)], to: 2, over: link) == 0)
            #expect(poll(link).map(\.status) == [0])
            for queue in 2..<4 {
                #expect(post([word(1, 6, at: 8)], to: queue, over: link) == 0)
                let failed = try #require(poll(link).first)
                #expect(link.words(for: failed).contains("peer is lost"))
            }
            #expect(post([word(0, 5, at: 16)], to: 0, over: link) == 0)
            #expect(poll(link).map(\.status) == [0])
        }
        #expect(world.segments[2].load(8) == 5)
    }

    @Test func aQueueIsFullAsOftenAsCommanded() async throws {
        let world = try await LoopbackWorld(
            ranks: 2, segmentByteCount: 64,
            behavior: .immediate.failing(.fullQueue(rank: 0, peer: 1, posts: 2)))
        let codes = (0..<4).map { _ in post([word(0, 1, at: 8)], over: world.links[0]) }
        #expect(codes == [ENOMEM, ENOMEM, 0, 0])
        #expect(post([word(0, 1, at: 8)], over: world.links[1]) == 0)
    }

    @Test func ranksThatAreNotMappedAreRefusedOnEveryRank() async throws {
        let device = try Device(.host)
        let memory = TestMemory(byteCount: 64)
        let fabric = LoopbackFabric()
        let errors = await withTaskGroup(of: MoriError?.self) { group in
            for member in LocalBootstrap.world(size: 3) {
                var mapped = [memory.address, memory.address, memory.address]
                if member.rank == 1 { mapped[2] = 0 }
                let request = FabricRequest(
                    device: device, address: memory.address, byteCount: 64,
                    mappedAddresses: mapped, peers: (0..<3).filter { $0 != member.rank },
                    queuesPerPeer: 1, purpose: "operator 4")
                group.addTask {
                    do throws(MoriError) {
                        _ = try await fabric.connect(
                            request, over: member, timeout: Patience.healthy)
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(errors.count == 3)
        for error in errors {
            #expect(error?.code == .unsupported && error?.ranks == [1])
            let text = error?.message ?? ""
            #expect(text.contains("operator 4") && text.contains("rank 1 does not map"), "\(text)")
            #expect(text.contains("[2]"), "\(text)")
        }
    }
}

import Glibc
import MoriDevice
import MoriShmem
import Testing

/// How many requests the proxy has under way, and in how many posts and completions.
@Suite struct ProxyCreditTests {
    private func word(_ value: Int, peer: Int = 1, queue: Int = 0) -> Transfer {
        Transfer(peer: peer, queue: queue, word: (offset: 8, value: UInt64(value)))
    }

    /// A payload that continues no other, and a word: two requests.
    private func pair(_ place: Int, peer: Int, queue: Int) -> Transfer {
        Transfer(
            peer: peer, queue: queue, bytes: 8, source: 16 * place, destination: 16 * place,
            word: (offset: 0, value: UInt64(place)))
    }

    @Test(arguments: [(1, 1), (3, 1), (1, 4), (3, 2), (15, 3)])
    func aFilledRingIsOnePostForEachQueue(peers: Int, queuesPerPeer: Int) throws {
        let rings = TestRings(rings: 2, entries: 512)
        let recorded = try RecordedChannel(
            RecordingLink(queueDepth: 256), rings: rings, peers: peers,
            queuesPerPeer: queuesPerPeer)
        let queues = peers * queuesPerPeer
        let pairsPerQueue = 600 / queues / 10
        for place in 0..<pairsPerQueue {
            for queue in 0..<queues {
                rings.push(
                    pair(
                        place, peer: 1 + queue / queuesPerPeer, queue: queue % queuesPerPeer),
                    ring: queue % 2)
            }
        }
        let requests = 2 * pairsPerQueue * queues
        #expect(recorded.channel.turn().progressed)
        #expect(recorded.link.posts.count == queues)
        #expect(recorded.link.posts.reduce(0) { $0 + $1.requests.count } == requests)
        recorded.finish()
        #expect(recorded.link.posts.count == queues)
        #expect(recorded.link.completionCount <= requests / 16 + queues)
        let counts = recorded.channel.statistics().dispatch
        #expect(counts.posts == queues && counts.workRequests == requests)
        #expect(counts.completions == recorded.link.completionCount)
    }

    @Test(arguments: [1, 2, 15, 16, 17, 33, 64])
    func theLastAndEverySixteenthRequestOfAPostAreSignaled(count: Int) throws {
        let recorded = try RecordedChannel(RecordingLink(queueDepth: 64))
        for value in 0..<count { recorded.rings.push(word(value)) }
        _ = recorded.channel.turn()
        let post = try #require(recorded.link.posts.first)
        #expect(recorded.link.posts.count == 1 && post.requests.count == count)
        let signaled = post.requests.indices.filter { post.requests[$0].isSignaled }
        let expected = Set((0..<count / 16).map { 16 * $0 + 15 } + [count - 1])
        #expect(Set(signaled) == expected)
    }

    @Test(arguments: [1, 3, 16, 50])
    func noMoreRequestsAreUnderWayThanTheQueueHoldsAndNoneIsLost(depth: Int) throws {
        let rings = TestRings(entries: 256)
        let recorded = try RecordedChannel(RecordingLink(queueDepth: depth), rings: rings)
        for value in 0..<256 { rings.push(word(value)) }
        for _ in 0..<3 { _ = recorded.channel.turn() }
        #expect(recorded.link.underWayCount(0) == depth, "nothing completes, so nothing more goes")
        #expect(rings.completed() == 0)
        #expect(!recorded.channel.isDrained && recorded.channel.turn().isUnderWay)
        recorded.finish()
        #expect(recorded.link.mostUnderWay == depth)
        #expect(recorded.link.requests(of: 0).map(\.value) == (0..<256).map { UInt64($0) })
        #expect(rings.completed() == 256 && recorded.channel.isDrained)
        #expect(!recorded.channel.turn().isUnderWay)
    }

    @Test func theByteLimitHoldsBackWhatIsBeyondItButNeverARequestAlone() throws {
        var settings = ProxySettings()
        settings.queueByteLimit = 100
        let recorded = try RecordedChannel(settings: settings)
        let sizes = [40, 40, 40, 500, 20]
        for (place, bytes) in sizes.enumerated() {
            recorded.rings.push(
                Transfer(peer: 1, bytes: bytes, source: 1000 * place, destination: 1000 * place))
        }
        recorded.finish()
        let posts = recorded.link.posts.map { $0.requests.map { Int($0.byteCount) } }
        #expect(posts == [[40, 40], [40], [500], [20]])
    }

    @Test func aPeerThatDoesNotAnswerBlocksOnlyItsOwnRing() throws {
        let rings = TestRings(rings: 2, entries: 64)
        let recorded = try RecordedChannel(
            RecordingLink(queueDepth: 16), rings: rings, peers: 2)
        var toSilent = 0
        for round in 0..<1000 {
            if toSilent - rings.consumed(0) < 64 {
                rings.push(word(round, peer: 1), ring: 0)
                toSilent += 1
            }
            rings.push(word(round, peer: 2), ring: 1)
            _ = recorded.channel.turn()
            recorded.link.complete(1)
        }
        #expect(rings.consumed(1) == 1000, "the peer that answers got everything")
        // 16 under way, 16 waiting, the ring full behind them.
        #expect(rings.consumed(0) == 32 && toSilent == 32 + 64)
        recorded.finish()
        #expect(recorded.link.requests(of: 0).count == toSilent)
        #expect(rings.completed() == 1000 + toSilent)
    }

    @Test func aFullQueueIsTriedAgainAndItsOrderHolds() throws {
        let recorded = try RecordedChannel()
        for code in [ENOMEM, EAGAIN] {
            recorded.link.postStatus = code
            recorded.rings.push(word(1))
            recorded.rings.push(word(2))
            for _ in 0..<5 {
                let turn = recorded.channel.turn()
                #expect(turn.isUnderWay, "so that the proxy sleeps briefly")
            }
            recorded.rings.push(word(3))
            _ = recorded.channel.turn()
            recorded.link.postStatus = 0
            recorded.finish()
        }
        #expect(recorded.link.requests(of: 0).map(\.value) == [1, 2, 3, 1, 2, 3])
        #expect(recorded.rings.completed() == 6 && recorded.failures.all.isEmpty)
        #expect(recorded.channel.statistics().dispatch.posts == 2, "refusals are no posts")
    }

    @Test func statisticsTellVerbsAndPeersApart() throws {
        let recorded = try RecordedChannel(peers: 3)
        let empty = recorded.channel.statistics()
        #expect(empty.dispatch.byPeer.keys.sorted() == [1, 2, 3])
        #expect(empty.dispatch.workRequests == 0 && empty.combine.phases == 0)
        var combine = pair(1, peer: 1, queue: 0)
        combine.isCombine = true
        combine.phase = 3
        var dispatch = pair(9, peer: 1, queue: 0)
        dispatch.phase = 1
        recorded.rings.push(combine)
        recorded.rings.push(dispatch)
        recorded.rings.push(Transfer(peer: 3, phase: 2, bytes: 100))
        recorded.finish()
        let after = recorded.channel.statistics()
        let expected = NetworkStatistics.Counts.self
        var counts = expected.init()
        (counts.workRequests, counts.payloadByteCount, counts.signalByteCount) = (2, 8, 8)
        // Its chain carried both verbs: the post and its completion are its first request's.
        (counts.posts, counts.completions, counts.phases) = (1, 1, 3)
        #expect(after.combine.byPeer[1] == counts)
        (counts.posts, counts.completions, counts.phases) = (0, 0, 1)
        #expect(after.dispatch.byPeer[1] == counts)
        #expect(after.dispatch.byPeer[3]?.payloadByteCount == 100)
        #expect(after.dispatch.phases == 2 && after.combine.phases == 3)
        #expect(
            after.dispatch.payloadByteCount == 108 && after.combine.byPeer[2] == expected.init())

        recorded.channel.resetPhases()
        recorded.rings.push(dispatch)
        recorded.finish()
        let difference = recorded.channel.statistics() - after
        #expect(difference.dispatch.byPeer[1]?.workRequests == 2)
        #expect(difference.dispatch.byPeer[3]?.workRequests == 0)
        #expect(difference.combine.workRequests == 0)
        #expect(difference.dispatch.phases == 1 && difference.combine.phases == 0)
        #expect((difference + after).dispatch.payloadByteCount == 116)
    }
}

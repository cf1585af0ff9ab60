import MoriShmem
import Testing

/// Which requests the proxy makes of descriptors: coalescing, splitting, order.
@Suite struct ProxyRequestTests {
    /// A payload of 16 bytes at a place, the same in source and destination.
    private func payload(_ place: Int, bytes: Int = 16) -> Transfer {
        Transfer(peer: 1, bytes: bytes, source: 16 * place, destination: 4096 + 16 * place)
    }

    private func describe(_ request: WorkRequest) -> String {
        request.kind == .word
            ? "word \(request.value) at \(request.destination)"
            : "\(request.byteCount) bytes from \(request.source) to \(request.destination)"
    }

    /// The requests that a few descriptors become when all are pushed before one turn.
    private func requests(
        of transfers: [Transfer], peers: Int = 1, queuesPerPeer: Int = 1, queue: Int = 0,
        maxRequestByteCount: Int = 1 << 20
    ) throws -> [String] {
        let recorded = try RecordedChannel(
            RecordingLink(maxRequestByteCount: maxRequestByteCount), rings: TestRings(slots: 2),
            peers: peers, queuesPerPeer: queuesPerPeer)
        for transfer in transfers { recorded.rings.push(transfer) }
        recorded.finish()
        #expect(recorded.failures.all.isEmpty)
        #expect(
            recorded.rings.completed(0) + recorded.rings.completed(1) == transfers.count,
            "each descriptor completes once, however many requests it became")
        return recorded.link.requests(of: queue).map(describe)
    }

    @Test func aPayloadThatContinuesTheLastOneBecomesOneRequestWithIt() throws {
        #expect(
            try requests(of: [payload(0), payload(1), payload(2)])
                == ["48 bytes from 0 to 4096"])
    }

    @Test func aWordParts() throws {
        var second = payload(1)
        second.word = (offset: 64, value: 7)
        #expect(
            try requests(of: [payload(0), second, payload(2), payload(3)]) == [
                "16 bytes from 0 to 4096", "16 bytes from 16 to 4112", "word 7 at 64",
                "32 bytes from 32 to 4128",
            ])
    }

    /// A word has no source, but if it had one this payload would continue it.
    @Test func aWordIsNoPayload() throws {
        let word = Transfer(peer: 1, word: (offset: 64, value: 7))
        let next = Transfer(peer: 1, bytes: 16, source: 8, destination: 72)
        #expect(try requests(of: [word, next]) == ["word 7 at 64", "16 bytes from 8 to 72"])
    }

    @Test func payloadsWithAGapStayApart() throws {
        var elsewhere = payload(1)
        elsewhere.destination += 16
        #expect(
            try requests(of: [payload(0), elsewhere, payload(4), payload(3)]) == [
                "16 bytes from 0 to 4096", "16 bytes from 16 to 4128", "16 bytes from 64 to 4160",
                "16 bytes from 48 to 4144",
            ])
    }

    @Test func payloadsOfOtherSlotsAndVerbsStayApart() throws {
        var otherSlot = payload(1)
        otherSlot.slot = 1
        var otherVerb = payload(2)
        otherVerb.slot = 1
        otherVerb.isCombine = true
        #expect(
            try requests(of: [payload(0), otherSlot, otherVerb]) == [
                "16 bytes from 0 to 4096", "16 bytes from 16 to 4112", "16 bytes from 32 to 4128",
            ])
    }

    @Test func whatGoesToOtherQueuesInBetweenDoesNotPart() throws {
        var otherQueue = payload(7)
        otherQueue.queue = 1
        var otherPeer = payload(9)
        otherPeer.peer = 2
        let transfers = [payload(0), otherQueue, payload(1), otherPeer, payload(2)]
        #expect(
            try requests(of: transfers, peers: 2, queuesPerPeer: 2)
                == ["48 bytes from 0 to 4096"])
        #expect(
            try requests(of: transfers, peers: 2, queuesPerPeer: 2, queue: 1)
                == ["16 bytes from 112 to 4208"])
        #expect(
            try requests(of: transfers, peers: 2, queuesPerPeer: 2, queue: 2)
                == ["16 bytes from 144 to 4240"])
    }

    @Test func noRequestGrowsBeyondTheFabricsLimit() throws {
        #expect(
            try requests(
                of: [payload(0), payload(1), payload(2)], maxRequestByteCount: 40)
                == ["32 bytes from 0 to 4096", "16 bytes from 32 to 4128"])
    }

    @Test func aPayloadBeyondTheFabricsLimitIsSplitAndItsWordComesLast() throws {
        var large = payload(0, bytes: 100)
        large.word = (offset: 8, value: 3)
        #expect(
            try requests(of: [large], maxRequestByteCount: 40) == [
                "40 bytes from 0 to 4096", "40 bytes from 40 to 4136", "20 bytes from 80 to 4176",
                "word 3 at 8",
            ])
    }

    @Test func aDescriptorOfNothingCompletesWithoutARequest() throws {
        #expect(try requests(of: [Transfer(peer: 1), Transfer(peer: 0, queue: 63)]).isEmpty)
    }

    @Test func aWordAloneIsOneRequest() throws {
        let all = [UInt64.min, 1, 1 << 62, 1 << 63, .max]
        #expect(
            try requests(of: all.map { Transfer(peer: 1, word: (offset: 16, value: $0)) })
                == all.map { "word \($0) at 16" })
    }

    /// What a queue is asked to do, whichever way it is cut into requests: maximal runs of bytes
    /// between words.
    private struct Normal: Hashable {
        private(set) var parts: [[Int]] = []

        mutating func add(bytes: Int, source: Int, destination: Int) {
            if let last = parts.last, last.count == 3, last[1] + last[0] == source,
                last[2] + last[0] == destination
            {
                parts[parts.count - 1][0] += bytes
            } else if bytes > 0 {
                parts.append([bytes, source, destination])
            }
        }

        mutating func add(word: UInt64, offset: Int) {
            parts.append([Int(truncatingIfNeeded: word), offset])
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: 0..<20)
    func randomDescriptorsAskEachQueueForTheSameInTheSameOrder(seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed))
        let depth = Int.random(in: 1...40, using: &generator)
        let largest = Int.random(in: 16...100, using: &generator)
        var settings = ProxySettings()
        if Bool.random(using: &generator) {
            settings.queueByteLimit = Int.random(in: 1...400, using: &generator)
        }
        let entries = 1 << Int.random(in: 0...8, using: &generator)
        let recorded = try RecordedChannel(
            RecordingLink(queueDepth: depth, maxRequestByteCount: largest),
            rings: TestRings(entries: entries), peers: 3, queuesPerPeer: 2, settings: settings)
        var expected = [Normal](repeating: Normal(), count: 6)
        var cursor = 0
        let count = 2000
        var pushed = 0
        while pushed < count {
            let burst = Int.random(in: 1...entries, using: &generator)
            for _ in 0..<min(burst, count - pushed) {
                if pushed - recorded.rings.consumed() >= entries { break }
                var transfer = Transfer(
                    peer: Int.random(in: 1...3, using: &generator),
                    queue: Int.random(in: 0...1, using: &generator),
                    bytes: Int.random(in: 0...150, using: &generator), source: cursor,
                    destination: cursor)
                if Int.random(in: 0..<3, using: &generator) == 0 {
                    transfer.word = (
                        offset: 8 * Int.random(in: 0..<1000, using: &generator),
                        value: UInt64(pushed)
                    )
                }
                // Mostly adjacent to the one before it.
                let gap = Int.random(in: 0..<4, using: &generator) == 0 ? 32 : 0
                cursor = (cursor + transfer.bytes + gap) % 900_000
                recorded.rings.push(transfer)
                pushed += 1
                let queue = 2 * (transfer.peer - 1) + transfer.queue
                expected[queue].add(
                    bytes: transfer.bytes, source: transfer.source,
                    destination: transfer.destination)
                if let word = transfer.word {
                    expected[queue].add(word: word.value, offset: word.offset)
                }
            }
            _ = recorded.channel.turn()
            let queue = Int.random(in: 0..<6, using: &generator)
            recorded.link.complete(
                queue, first: Int.random(in: 0...depth, using: &generator))
        }
        recorded.finish()
        #expect(recorded.failures.all.isEmpty, "seed \(seed)")
        #expect(recorded.rings.completed() == count && recorded.channel.isDrained, "seed \(seed)")
        for queue in 0..<6 {
            var found = Normal()
            for request in recorded.link.requests(of: queue) {
                if request.kind == .word {
                    found.add(word: request.value, offset: Int(request.destination))
                } else {
                    #expect(request.byteCount > 0 && request.byteCount <= largest)
                    found.add(
                        bytes: Int(request.byteCount), source: Int(request.source),
                        destination: Int(request.destination))
                }
            }
            #expect(found == expected[queue], "seed \(seed), queue \(queue)")
        }
        #expect(recorded.link.mostUnderWay <= depth, "seed \(seed)")
        #expect(
            recorded.link.mostBytesUnderWay <= max(settings.queueByteLimit, largest),
            "seed \(seed)")
        let requests = recorded.link.posts.reduce(0) { $0 + $1.requests.count }
        #expect(
            recorded.link.completionCount <= requests / 16 + recorded.link.posts.count,
            "seed \(seed)")
    }
}

/// Numbers that repeat with their seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x2545_F491_4F6C_DD1D &+ 0x9E37_79B9_7F4A_7C15 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}

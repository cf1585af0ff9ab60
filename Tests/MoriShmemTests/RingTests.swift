import MoriDevice
import MoriShmem
import Testing

/// Descriptors and the rings that carry them.
@Suite struct RingTests {
    @Test(arguments: 0..<200)
    func everyFieldOfADescriptorIsReadFromItsBits(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        // All ones now and then, so that no field can lean on its neighbour's zeros.
        func bits(_ count: Int) -> Int {
            let most = 1 << count - 1
            return switch Int.random(in: 0..<3, using: &generator) {
            case 0: 0
            case 1: most
            default: Int.random(in: 0...most, using: &generator)
            }
        }
        let transfer = Transfer(
            peer: bits(12), queue: bits(6), slot: bits(4), phase: bits(3), isCombine: bits(1) == 1,
            bytes: bits(31), source: bits(48), destination: bits(48),
            word: bits(1) == 1
                ? (offset: 8 * bits(32), value: UInt64.random(in: 0 ... .max, using: &generator))
                : nil)
        for ticket in 0..<3 {
            let words = transfer.words(ticket: ticket, entryCount: 1)
            let found = Descriptor((words[0], words[1], words[2], words[3]))
            #expect(found.peer == transfer.peer && found.queue == transfer.queue)
            #expect(found.slot == transfer.slot && found.phase == transfer.phase)
            #expect(found.isCombine == transfer.isCombine)
            #expect(found.payloadByteCount == UInt32(transfer.bytes))
            #expect(found.source == UInt64(transfer.source))
            #expect(found.destination == UInt64(transfer.destination))
            #expect(found.hasWord == (transfer.word != nil))
            if let word = transfer.word {
                #expect(found.value == word.value && found.wordOffset == UInt64(word.offset))
            }
            let again = found.words(lap: UInt64(ticket))
            #expect([again.0, again.1, again.2, again.3] == words, "seed \(seed)")
        }
    }

    /// Every subset of the four words may have arrived when the proxy looks.
    @Test(arguments: [0, 1, 2, 5])
    func aPlaceCountsOnlyWhenAllFourWordsAreThere(lap: Int) throws {
        for missing in 1..<16 {
            let rings = TestRings(entries: 4)
            let recorded = try RecordedChannel(rings: rings)
            for _ in 0..<4 * lap { push(recorded, value: 1) }
            let words = Transfer(peer: 1, word: (offset: 8, value: 9))
                .words(ticket: 4 * lap, entryCount: 4)
            // What lies there from the lap before has the other lap bit.
            let before =
                lap == 0
                ? [0, 0, 0, 0]
                : Transfer(peer: 1, word: (offset: 0, value: 1))
                    .words(ticket: 4 * (lap - 1), entryCount: 4)
            let torn = (0..<4).map { missing >> $0 & 1 == 1 ? before[$0] : words[$0] }
            rings.store(torn, 0, 4 * lap)
            recorded.finish()
            #expect(rings.consumed() == 4 * lap, "words \(missing) missing")
            rings.store(words, 0, 4 * lap)
            recorded.finish()
            #expect(rings.consumed() == 4 * lap + 1)
            #expect(recorded.link.requests(of: 0).last?.value == 9)
        }
    }

    private func push(_ recorded: RecordedChannel, value: UInt64) {
        recorded.rings.push(Transfer(peer: 1, word: (offset: 0, value: value)))
        recorded.finish()
    }

    @Test(.timeLimit(.minutes(1)), arguments: [1, 2, 8])
    func aTinyRingGoesAroundManyTimes(entries: Int) throws {
        let recorded = try RecordedChannel(rings: TestRings(entries: entries))
        for value in 0..<UInt64(1000) { push(recorded, value: value) }
        #expect(recorded.link.requests(of: 0).map(\.value) == Array(0..<1000))
        #expect(recorded.rings.consumed() == 1000 && recorded.rings.completed() == 1000)
    }

    @Test func ringsTakeTurns() throws {
        let rings = TestRings(rings: 3, entries: 256)
        let recorded = try RecordedChannel(RecordingLink(queueDepth: 48), rings: rings)
        for ring in 0..<3 {
            for _ in 0..<200 {
                rings.push(Transfer(peer: 1, word: (offset: 0, value: UInt64(ring))), ring: ring)
            }
        }
        // All want the same queue, which has room for 48 at a time.
        var taken: [Int] = []
        for _ in 0..<3 {
            recorded.link.completeAll()
            _ = recorded.channel.turn()
            taken = (0..<3).map(rings.consumed)
        }
        #expect(taken.allSatisfy { $0 > 0 }, "after three turns: \(taken)")
        recorded.finish()
        #expect((0..<3).map(rings.consumed) == [200, 200, 200])
    }

    @Test(arguments: [
        (0, 64, 1), (1, 0, 1), (1, 3, 1), (1, 48, 1), (1, 64, 0), (1, 64, 17), (1, -2, 1),
    ])
    func ringsOfImpossibleSizesAreRefused(rings: Int, entries: Int, slots: Int) throws {
        var memory = TestRings().memory
        memory.ringCount = rings
        memory.entryCount = entries
        memory.slotCount = slots
        let error = #expect(throws: MoriError.self) {
            _ = try ProxyChannel(
                link: RecordingLink(), rank: 0, worldSize: 2, peers: [1], queuesPerPeer: 1,
                memory: memory, segmentByteCount: 64, onFailure: { _, _ in })
        }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("legal is") == true, "\(String(describing: error))")
    }
}

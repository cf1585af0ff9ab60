import Glibc
import MoriDevice
import MoriShmem
import Testing

/// What a channel does when a kernel asks for nonsense or the fabric reports an error.
@Suite struct ProxyFailureTests {
    private func word(_ value: UInt64, peer: Int = 1, queue: Int = 0) -> Transfer {
        Transfer(peer: peer, queue: queue, word: (offset: 8, value: value))
    }

    /// The one failure of a channel, and that it sends nothing any more but goes on taking
    /// descriptors and completes none of them.
    private func onlyFailure(of recorded: RecordedChannel) throws -> (MoriError, Int?) {
        let posts = recorded.link.posts.count
        let completed = recorded.rings.completed()
        let consumed = recorded.rings.consumed()
        let entries = recorded.rings.memory.entryCount
        for value in 0..<UInt64(3 * entries) {
            recorded.rings.push(word(value))
            _ = recorded.channel.turn()
        }
        #expect(recorded.rings.consumed() == consumed + 3 * entries)
        #expect(recorded.rings.completed() == completed)
        #expect(recorded.link.posts.count == posts)
        #expect(!recorded.channel.isDrained)
        #expect(!recorded.channel.turn().isUnderWay, "there is nothing left to wait for")
        let failures = recorded.failures.all
        #expect(failures.count == 1, "\(failures)")
        let failure = try #require(failures.first)
        return (failure.error, failure.culprit)
    }

    @Test(arguments: [
        (Transfer(peer: 3, bytes: 8), "names rank 3; legal are", true),
        (Transfer(peer: 0, bytes: 8), "names rank 0; legal are", true),
        (Transfer(peer: 4095, bytes: 8), "names rank 4095", true),
        (Transfer(peer: 1, queue: 2, bytes: 8), "names queue 2; legal are 0 to 1", true),
        (Transfer(peer: 1, slot: 2, bytes: 8), "names slot 2; legal are 0 to 1", true),
        (Transfer(peer: 1, slot: 9), "names slot 9; legal are 0 to 1", true),
        (
            Transfer(peer: 1, bytes: 9, source: 4088),
            "reads 9 bytes at offset 4088; legal is what lies within 4096", true
        ),
        (
            Transfer(peer: 1, bytes: 1, destination: 1 << 47),
            "writes 1 bytes at offset 140737488355328", true
        ),
        (Transfer(peer: 1, bytes: 1 << 31 - 1), "reads 2147483647 bytes", true),
        (Transfer(peer: 1, word: (offset: 4096, value: 1)), "stores a word at offset 4096", true),
        (Transfer(peer: 1, bytes: 8, source: 4088, destination: 4088), "", false),
        (Transfer(peer: 2, word: (offset: 4088, value: 1)), "", false),
    ])
    func anIllegalDescriptorIsATypedError(
        transfer: Transfer, words: String, isIllegal: Bool
    ) throws {
        let recorded = try RecordedChannel(
            rings: TestRings(slots: 2), peers: 2, queuesPerPeer: 2, segmentByteCount: 4096)
        recorded.rings.push(word(1))
        recorded.finish()
        recorded.rings.push(transfer)
        recorded.finish()
        guard isIllegal else {
            #expect(recorded.failures.all.isEmpty && recorded.rings.completed() == 2)
            return
        }
        let (error, culprit) = try onlyFailure(of: recorded)
        #expect(error.code == .deviceFailure && culprit == 0 && error.ranks == [0])
        #expect(error.message.contains("rank 0: descriptor 1 of ring 0 \(words)"), "\(error)")
        #expect(recorded.rings.completed() == 1)
    }

    @Test func bitsThatMustBeZeroAreChecked() throws {
        for bit in [60, 61] {
            let recorded = try RecordedChannel()
            var words = word(1).words(ticket: 0, entryCount: 64)
            words[2] |= 1 << UInt64(bit)
            recorded.rings.store(words, 0, 0)
            recorded.finish()
            let error = try #require(recorded.failures.all.first?.error)
            #expect(error.message.contains("reserved bits"), "\(error)")
            #expect(recorded.link.posts.isEmpty)
        }
    }

    @Test func anErrorOfACompletionNamesThePeerAndWhatWasUnderWay() throws {
        let recorded = try RecordedChannel(
            RecordingLink(queueDepth: 8), peers: 3, queuesPerPeer: 2)
        // Six under way to rank 2, and to rank 3 some that complete well.
        for value in 0..<6 { recorded.rings.push(word(UInt64(value), peer: 2, queue: 1)) }
        for value in 0..<4 { recorded.rings.push(word(UInt64(value), peer: 3)) }
        _ = recorded.channel.turn()
        recorded.link.report(WorkCompletion(id: 2, queue: 3, status: 12, vendorError: 0x81))
        _ = recorded.channel.turn()
        #expect(recorded.rings.completed() == 0, "an error completes nothing")
        recorded.link.complete(4)
        _ = recorded.channel.turn()
        #expect(recorded.rings.completed() == 4, "what did complete elsewhere counts")
        // Echoes of the failure.
        recorded.link.report(WorkCompletion(id: 5, queue: 3, status: 5))
        recorded.link.report(WorkCompletion(id: 5, queue: 3, status: 0))
        let (error, culprit) = try onlyFailure(of: recorded)
        #expect(error.code == .networkFailure && culprit == 2 && error.ranks == [2])
        #expect(error.message.contains("rank 0: a write to rank 2 failed on queue 1 of 2"))
        #expect(error.message.contains("6 requests under way"), "\(error)")
        #expect(
            error.cause == .other("status 12 of a test (status 12, vendor error 129)"), "\(error)")
        #expect(recorded.rings.completed() == 4)
    }

    @Test func whatWaitsForCreditIsNeverPostedAfterAFailure() throws {
        let recorded = try RecordedChannel(RecordingLink(queueDepth: 4), peers: 2)
        for value in 0..<8 { recorded.rings.push(word(UInt64(value), peer: 1)) }
        for value in 0..<8 { recorded.rings.push(word(UInt64(value), peer: 2)) }
        _ = recorded.channel.turn()
        recorded.link.report(WorkCompletion(id: 0, queue: 0, status: 1))
        recorded.link.complete(1)
        recorded.finish()
        #expect(recorded.link.posts.count == 2)
        #expect(recorded.rings.completed() == 4)
    }

    @Test func aRefusedPostIsATypedError() throws {
        let recorded = try RecordedChannel(peers: 2)
        recorded.link.postStatus = EINVAL
        recorded.rings.push(word(1, peer: 2))
        _ = recorded.channel.turn()
        recorded.link.postStatus = 0
        let (error, culprit) = try onlyFailure(of: recorded)
        #expect(error.code == .networkFailure && culprit == 2 && error.ranks == [2])
        #expect(error.cause == .errno(call: "post", code: EINVAL))
        #expect(recorded.rings.completed() == 0)
    }

    @Test func queuesThatCannotBePolledAreATypedError() throws {
        let recorded = try RecordedChannel(peers: 2)
        recorded.rings.push(word(1, peer: 2))
        _ = recorded.channel.turn()
        recorded.link.pollStatus = -Int(EIO)
        _ = recorded.channel.turn()
        let (error, culprit) = try onlyFailure(of: recorded)
        #expect(error.code == .networkFailure && culprit == nil)
        #expect(error.cause == .errno(call: "poll", code: EIO), "\(error)")
        #expect(error.message.contains("1 requests under way to ranks [1, 2]"), "\(error)")
    }

    @Test(arguments: [(0, 7), (0, 1 << 62), (-1, 0), (2, 0), (Int(Int32.max), 0)])
    func completionsOfWhatWasNeverPostedAreATypedError(queue: Int, id: Int) throws {
        let recorded = try RecordedChannel(peers: 2)
        recorded.rings.push(word(1))
        _ = recorded.channel.turn()
        recorded.link.report(WorkCompletion(id: UInt64(id), queue: Int32(queue), status: 0))
        _ = recorded.channel.turn()
        let (error, _) = try onlyFailure(of: recorded)
        #expect(error.code == .networkFailure)
        #expect(error.message.contains("request \(id) of queue \(queue), which is not under way"))
        #expect(recorded.rings.completed() == 0)
    }
}

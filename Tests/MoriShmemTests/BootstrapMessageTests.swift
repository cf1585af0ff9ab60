import MoriDevice
import NIOCore
import Testing

@testable import MoriShmem

struct BootstrapMessageTests {
    static let rankMessages: [RankMessage] = [
        .gather(GatherID(name: "ä name", call: 7), value: [1, 2, 3]),
        .gather(GatherID(name: "x", call: .max), value: []),
        .query(.join),
        .abort(culprit: nil, message: ""),
        .abort(culprit: 3, message: "why"),
        .goodbye,
        .waits(for: []),
        .waits(for: [0, 255]),
    ]

    static let storeMessages: [StoreMessage] = [
        .gathered(GatherID(name: "x", call: 0), values: [[], [1], [2, 3]]),
        .incomplete(.join, missing: [1, 5]),
        .departed(GatherID(name: "y", call: 2), ranks: [0]),
        .peerLost(rank: 9),
        .aborted(by: 1, culprit: nil, message: "m"),
        .aborted(by: 1, culprit: 2, message: "m"),
        .farewell,
        .waits(by: 4, for: []),
        .waits(by: 0, for: [1, 2]),
    ]

    @Test(arguments: rankMessages)
    func whatARankSaysSurvivesTheWire(_ message: RankMessage) {
        #expect(RankMessage(decoding: message.encoded()) == message)
        checkTruncations(of: message.encoded()) { RankMessage(decoding: $0) == nil }
    }

    @Test(arguments: storeMessages)
    func whatTheStoreSaysSurvivesTheWire(_ message: StoreMessage) {
        #expect(StoreMessage(decoding: message.encoded()) == message)
        checkTruncations(of: message.encoded()) { StoreMessage(decoding: $0) == nil }
    }

    @Test(arguments: [MoriError.Code.bootstrapFailed, .ranksDisagree, .timedOut, .aborted])
    func errorsSurviveTheWire(_ code: MoriError.Code) throws {
        let message = StoreMessage.failed(MoriError(code, "words", ranks: [1, 2]))
        guard case .failed(let error) = StoreMessage(decoding: message.encoded()) else {
            Issue.record("not a failure")
            return
        }
        #expect(error.code == code)
        #expect(error.message == "words")
        #expect(error.ranks == [1, 2])
    }

    @Test func noiseIsNeverAMessage() {
        // Lengths that promise more than there is must not be allocated for.
        for kind in UInt8(0)...9 {
            for fill in [0x7f, 0xff] as [UInt8] {
                let noise = ByteBuffer(bytes: [kind] + [UInt8](repeating: fill, count: 60))
                #expect(RankMessage(decoding: noise) == nil)
                #expect(StoreMessage(decoding: noise) == nil)
            }
        }
        for _ in 0..<1000 {
            let noise = ByteBuffer(bytes: randomBytes(200))
            _ = RankMessage(decoding: noise)
            _ = StoreMessage(decoding: noise)
            #expect(Greeting(decoding: noise) == nil)
        }
    }

    @Test func proofsHoldForOneTranscriptAndOneSecretOnly() {
        let key = WorldKey(secret: [1, 2, 3], tag: .init(repeating: 0, count: 16))
        let other = WorldKey(secret: [1, 2], tag: key.tag)
        let greeting = Greeting(.challenge, tag: key.tag)
        let credentials = Credentials(rank: 3, worldSize: 8, processID: 1)
        let hello = Hello(credentials, to: greeting, key: key)
        #expect(key.accepts(hello.proof, of: hello.transcript(greeting)))
        #expect(!other.accepts(hello.proof, of: hello.transcript(greeting)))
        var forged = hello
        forged.credentials.rank = 4
        #expect(!key.accepts(forged.proof, of: forged.transcript(greeting)))
        let again = Greeting(.challenge, tag: key.tag)
        #expect(!key.accepts(hello.proof, of: hello.transcript(again)), "replayed")
        #expect(Hello(decoding: hello.encoded()) == hello)

        let welcome = Verdict.welcome.encoded(to: hello, after: greeting, key: key)
        #expect(Verdict(decoding: welcome, to: hello, after: greeting, key: key) == .welcome)
        let faked = Verdict.welcome.encoded(to: hello, after: greeting, key: other)
        #expect(Verdict(decoding: faked, to: hello, after: greeting, key: key) == nil)
        // A rank's own proof sent back proves nothing.
        var reflected = welcome
        reflected.moveWriterIndex(to: reflected.writerIndex - WorldKey.proofSize)
        reflected.writeBytes(hello.proof)
        #expect(Verdict(decoding: reflected, to: hello, after: greeting, key: key) == nil)
        // A store that does not accept the secret cannot prove anything.
        let refusal = Verdict.wrongSecret.encoded(to: hello, after: greeting, key: other)
        #expect(Verdict(decoding: refusal, to: hello, after: greeting, key: key) == .wrongSecret)
    }

    @Test func worldsHaveDifferentTags() {
        let tags = Set(
            [
                WorldKey(secret: [], port: 1, job: ""), WorldKey(secret: [], port: 2, job: ""),
                WorldKey(secret: [], port: 1, job: "a"), WorldKey(secret: [1], port: 1, job: ""),
            ].map(\.tag))
        #expect(tags.count == 4)
    }

    private func checkTruncations(of message: ByteBuffer, _ isRefused: (ByteBuffer) -> Bool) {
        for count in 0..<message.readableBytes {
            #expect(isRefused(message.getSlice(at: 0, length: count) ?? ByteBuffer()))
        }
        var longer = message
        longer.writeInteger(UInt8(0))
        #expect(isRefused(longer))
    }
}

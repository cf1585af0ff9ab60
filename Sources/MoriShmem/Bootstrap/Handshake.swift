import MoriDevice
import NIOCore

// The handshake: both sides prove that they hold the world's secret; it never travels.
//
//   store -> rank   Greeting: magic, version, world tag, the store's nonce
//   rank  -> store  Hello: the rank's nonce, who it is, HMAC over both nonces and all of this
//   store -> rank   Verdict: welcome or refusal, HMAC over the same with the other label
//
// What follows is neither encrypted nor signed: the handshake keeps strangers out, it does not
// protect against someone who can change packets on the way.

/// Bytes that only the handshake's two sides can compute, and the world's public name.
struct WorldKey: Sendable {
    /// What a store shows to strangers, so that a rank finds its own world among several.
    let tag: [UInt8]
    /// Whether the secret is empty, so that the proof proves nothing and addresses have to.
    let isOpen: Bool

    private let key: MessageAuthenticationKey

    /// The bytes of a tag.
    static let tagSize = 16
    /// The bytes of a nonce.
    static let nonceSize = 32
    /// The bytes of a proof.
    static let proofSize = MessageAuthenticationKey.codeSize

    /// Makes the key of a world.
    ///
    /// - Parameters:
    ///   - secret: What the ranks share; may be empty.
    ///   - tag: The world's public name, of `tagSize` bytes.
    init(secret: [UInt8], tag: [UInt8]) {
        self.tag = tag
        isOpen = secret.isEmpty
        key = Self.key(secret)
    }

    /// Makes the key of a world that is found by a port rather than by an id.
    ///
    /// - Parameters:
    ///   - secret: What the ranks share; may be empty.
    ///   - port: The launcher's port, which no two worlds of one host share.
    ///   - job: The launcher's name for the job, where it gives one to all ranks.
    init(secret: [UInt8], port: Int, job: String) {
        let name = Array("MoriEP world \(port) \(job)".utf8)
        let code = Self.key(secret).code(for: name)
        self.init(secret: secret, tag: Array(code.prefix(Self.tagSize)))
    }

    /// The key of the world that follows this one: the same secret, found by another name.
    func successor(generation: Int) -> WorldKey {
        let name = Array("MoriEP generation \(generation) ".utf8) + tag
        return WorldKey(key, isOpen: isOpen, tag: Array(key.code(for: name).prefix(Self.tagSize)))
    }

    private init(_ key: MessageAuthenticationKey, isOpen: Bool, tag: [UInt8]) {
        self.key = key
        self.isOpen = isOpen
        self.tag = tag
    }

    private static func key(_ secret: [UInt8]) -> MessageAuthenticationKey {
        MessageAuthenticationKey(hashing: Array("MoriEP bootstrap 1 ".utf8) + secret)
    }

    /// The proof that whoever computed it holds the secret and saw this transcript.
    func proof(_ transcript: ByteBuffer) -> [UInt8] {
        key.code(for: Array(transcript.readableBytesView))
    }

    /// Whether a proof is right; takes the same time for all wrong ones.
    func accepts(_ proof: [UInt8], of transcript: ByteBuffer) -> Bool {
        key.isValid(proof, for: Array(transcript.readableBytesView))
    }
}

/// Random bytes from the system's generator.
func randomBytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
}

/// The first frame of a store.
struct Greeting: Hashable, Sendable {
    /// What the store says first.
    enum Kind: UInt8 {
        /// Prove yourself.
        case challenge = 1
        /// An address that is none of the world's; nothing follows.
        case stranger = 2
    }

    private static let magic = Array("MORI-EP\n".utf8)
    /// The version of the protocol; sides of different versions refuse each other.
    static let version: UInt16 = 3

    /// The kind of the greeting.
    var kind: Kind
    /// The store's version.
    var version = Self.version
    /// The world's public name.
    var tag: [UInt8]
    /// The store's nonce, fresh for each connection.
    var nonce: [UInt8]

    /// The bytes of the greeting.
    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer(bytes: Self.magic)
        buffer.writeInteger(kind.rawValue)
        buffer.writeInteger(version)
        buffer.writeBytes(tag)
        buffer.writeBytes(nonce)
        return buffer
    }

    /// Creates a greeting.
    init(_ kind: Kind, tag: [UInt8]) {
        self.kind = kind
        self.tag = tag
        nonce = randomBytes(WorldKey.nonceSize)
    }

    /// Reads a greeting; nil when it is none of ours.
    init?(decoding payload: ByteBuffer) {
        var buffer = payload
        guard buffer.readBytes(length: Self.magic.count) == Self.magic,
            let kind = buffer.readInteger(as: UInt8.self).flatMap(Kind.init(rawValue:)),
            let version = buffer.readInteger(as: UInt16.self),
            let tag = buffer.readBytes(length: WorldKey.tagSize),
            let nonce = buffer.readBytes(length: WorldKey.nonceSize)
        else { return nil }
        self.kind = kind
        self.version = version
        self.tag = tag
        self.nonce = nonce
    }
}

/// What a rank says of itself.
struct Credentials: Hashable, Sendable {
    /// The rank that it claims.
    var rank: Int
    /// The number of ranks that it was started with.
    var worldSize: Int
    /// The process, for messages.
    var processID: Int32
    /// Random bytes that stay the same when one process tries again.
    var instance: [UInt8]
    /// `Membership.digest` of the ranks that it wants to meet.
    var membership: UInt64

    /// The bytes of an instance.
    static let instanceSize = 16

    /// Creates the credentials of this process.
    init(
        rank: Int, worldSize: Int, processID: Int32,
        membership: UInt64 = Membership.everyone.digest
    ) {
        self.membership = membership
        self.rank = rank
        self.worldSize = worldSize
        self.processID = processID
        instance = randomBytes(Self.instanceSize)
    }
}

/// A rank's answer to the greeting.
struct Hello: Hashable, Sendable {
    /// Who the rank says it is.
    var credentials: Credentials
    /// The rank's nonce, fresh for each connection.
    var nonce: [UInt8]
    /// The proof over `transcript`.
    var proof: [UInt8]

    /// Answers a greeting.
    init(_ credentials: Credentials, to greeting: Greeting, key: WorldKey) {
        self.credentials = credentials
        nonce = randomBytes(WorldKey.nonceSize)
        proof = []
        proof = key.proof(transcript(greeting))
    }

    /// What the rank's proof covers.
    func transcript(_ greeting: Greeting) -> ByteBuffer {
        var buffer = ByteBuffer(string: "rank")
        buffer.writeImmutableBuffer(greeting.encoded())
        buffer.writeImmutableBuffer(body)
        return buffer
    }

    /// The bytes of the answer.
    func encoded() -> ByteBuffer {
        var buffer = body
        buffer.writeBytes(proof)
        return buffer
    }

    private var body: ByteBuffer {
        var buffer = ByteBuffer(bytes: nonce)
        buffer.writeInteger(UInt32(truncatingIfNeeded: credentials.rank))
        buffer.writeInteger(UInt32(truncatingIfNeeded: credentials.worldSize))
        buffer.writeInteger(credentials.processID)
        buffer.writeInteger(credentials.membership)
        buffer.writeBytes(credentials.instance)
        return buffer
    }

    /// Reads an answer; nil when it is malformed.
    init?(decoding payload: ByteBuffer) {
        var buffer = payload
        guard let nonce = buffer.readBytes(length: WorldKey.nonceSize),
            let rank = buffer.readInteger(as: UInt32.self),
            let worldSize = buffer.readInteger(as: UInt32.self),
            let processID = buffer.readInteger(as: Int32.self),
            let membership = buffer.readInteger(as: UInt64.self),
            let instance = buffer.readBytes(length: Credentials.instanceSize),
            let proof = buffer.readBytes(length: WorldKey.proofSize), buffer.readableBytes == 0
        else { return nil }
        self.nonce = nonce
        self.proof = proof
        credentials = Credentials(
            rank: Int(rank), worldSize: Int(worldSize), processID: processID,
            membership: membership)
        credentials.instance = instance
    }
}

/// The store's answer to a hello.
enum Verdict: Hashable, Sendable {
    /// The rank is a member now.
    case welcome
    /// The rank's proof is wrong. The store cannot prove anything to such a rank either.
    case wrongSecret
    /// The secret is right, but the world does not want this rank.
    case refused(MoriError)

    /// The bytes of the verdict, with the store's proof.
    func encoded(to hello: Hello, after greeting: Greeting, key: WorldKey) -> ByteBuffer {
        var buffer = body
        buffer.writeBytes(
            self == .wrongSecret
                ? [UInt8](repeating: 0, count: WorldKey.proofSize)
                : key.proof(Self.transcript(body, hello, greeting)))
        return buffer
    }

    /// Reads a verdict; nil when it is malformed or the store's proof is wrong.
    init?(decoding payload: ByteBuffer, to hello: Hello, after greeting: Greeting, key: WorldKey) {
        var buffer = payload
        guard let bodySize = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self),
            Int(bodySize) + WorldKey.proofSize == buffer.readableBytes - 4,
            let body = buffer.readSlice(length: 4 + Int(bodySize)),
            let proof = buffer.readBytes(length: WorldKey.proofSize)
        else { return nil }
        var words = body
        words.moveReaderIndex(forwardBy: 4)
        switch words.readInteger(as: UInt8.self) {
        case 1: self = .welcome
        case 2: self = .wrongSecret
        case 3:
            guard let error = words.readError() else { return nil }
            self = .refused(error)
        default: return nil
        }
        if self == .wrongSecret { return }
        guard key.accepts(proof, of: Self.transcript(body, hello, greeting)) else { return nil }
    }

    private static func transcript(
        _ body: ByteBuffer, _ hello: Hello, _ greeting: Greeting
    ) -> ByteBuffer {
        var buffer = ByteBuffer(string: "store")
        buffer.writeImmutableBuffer(greeting.encoded())
        buffer.writeImmutableBuffer(hello.encoded())
        buffer.writeImmutableBuffer(body)
        return buffer
    }

    private var body: ByteBuffer {
        var words = ByteBuffer()
        switch self {
        case .welcome: words.writeInteger(UInt8(1))
        case .wrongSecret: words.writeInteger(UInt8(2))
        case .refused(let error):
            words.writeInteger(UInt8(3))
            words.writeError(error)
        }
        var buffer = ByteBuffer(integer: UInt32(truncatingIfNeeded: words.readableBytes))
        buffer.writeImmutableBuffer(words)
        return buffer
    }
}

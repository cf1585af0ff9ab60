import FoundationEssentials
public import MoriDevice
import NIOCore

/// What the ranks of a world need to find each other: rank 0's address and a secret.
///
/// Rank 0's process makes it, broadcasts its 128 bytes by any private means, and all ranks join
/// with it. Whoever has the bytes can join, so treat them as a password. The port stays bound by
/// the process that made the id until its rank 0 joins, or the process ends.
///
/// Python: `mori.shmem.shmem_get_unique_id()`.
public struct UniqueID: Hashable, Sendable {
    /// The length of an id, in bytes.
    public static let byteCount = 128

    private static let version: UInt32 = 1
    private static let secretSize = 32

    /// The address that rank 0 listens on.
    let address: IPAddress
    /// The port that rank 0 listens on, in `1..<65536`.
    let port: Int
    /// Random bytes that prove that a rank belongs to the world.
    let secret: [UInt8]
    /// The world's public name, random too.
    let tag: [UInt8]

    /// The key of the world.
    var key: WorldKey { WorldKey(secret: secret, tag: tag) }

    /// Makes the id of a new world that this process hosts.
    ///
    /// The address is that of the interface named by MORI_SOCKET_IFNAME, else by GLOO_SOCKET_IFNAME,
    /// else of the first interface that is up and is not loopback, else loopback.
    ///
    /// - Throws: `.invalidConfiguration` for an interface that does not exist, `.networkFailure`
    ///   when no port can be bound.
    public init() throws(MoriError) {
        let wanted = try MoriEnvironment().socketInterface
        let address = try NetworkInterface.address(of: wanted, among: NetworkInterface.all())
        try self.init(address: address)
    }

    /// Makes the id of a new world at one of this host's addresses.
    ///
    /// - Throws: `.networkFailure` when no port can be bound there.
    init(address: IPAddress) throws(MoriError) {
        let socket = try BoundSocket(address: address, port: 0)
        self.address = address
        port = socket.port
        secret = randomBytes(Self.secretSize)
        tag = randomBytes(WorldKey.tagSize)
        let key = self
        BoundSocket.kept.withLock { $0[key] = socket }
    }

    /// Reads an id.
    ///
    /// - Parameter bytes: What `bytes` gave on rank 0.
    /// - Throws: `.invalidArgument` when these are not the bytes of an id.
    public init(bytes: [UInt8]) throws(MoriError) {
        guard bytes.count == Self.byteCount else {
            throw MoriError(
                .invalidArgument,
                "a unique id has \(Self.byteCount) bytes, this one has \(bytes.count)")
        }
        var buffer = ByteBuffer(bytes: bytes)
        guard buffer.readInteger(endianness: .little, as: UInt32.self) == Self.version else {
            throw MoriError(
                .invalidArgument,
                "no unique id of version \(Self.version): it begins with "
                    + "\(bytes[..<4].map(String.init).joined(separator: ", "))")
        }
        guard let family = buffer.readInteger(as: UInt16.self),
            let port = buffer.readInteger(as: UInt16.self), port > 0,
            let raw = buffer.readBytes(length: 16), family == 4 || family == 6,
            let address = IPAddress(bytes: family == 4 ? Array(raw[..<4]) : raw),
            let secret = buffer.readBytes(length: Self.secretSize),
            let tag = buffer.readBytes(length: WorldKey.tagSize),
            buffer.readableBytesView.allSatisfy({ $0 == 0 })
        else {
            throw MoriError(
                .invalidArgument, "a unique id whose address, port or padding is no legal one")
        }
        self.address = address
        self.port = Int(port)
        self.secret = secret
        self.tag = tag
    }

    /// The id as 128 bytes: version, address family (4 or 6), port, address, secret, world, zeros.
    public var bytes: [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.version, endianness: .little)
        buffer.writeInteger(UInt16(address.bytes.count == 4 ? 4 : 6))
        buffer.writeInteger(UInt16(truncatingIfNeeded: port))
        buffer.writeBytes(address.bytes)
        buffer.writeRepeatingByte(0, count: 16 - address.bytes.count)
        buffer.writeBytes(secret)
        buffer.writeBytes(tag)
        buffer.writeRepeatingByte(0, count: Self.byteCount - buffer.readableBytes)
        return Array(buffer.readableBytesView)
    }
}

extension UniqueID: Codable {
    /// Reads the id from a string in base64.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let data = Data(base64Encoded: text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a unique id is a string in base64")
        }
        do {
            try self.init(bytes: Array(data))
        } catch {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: error.message)
        }
    }

    /// Writes the id as a string in base64.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(Data(bytes).base64EncodedString())
    }
}

extension UniqueID: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Where rank 0 listens; never the secret, which must not come into logs.
    public var description: String { "UniqueID(\(address), port \(port))" }

    /// The same as `description`.
    public var debugDescription: String { description }

    /// Shows the address and the port only.
    public var customMirror: Mirror {
        Mirror(self, children: ["address": address.description, "port": port])
    }
}

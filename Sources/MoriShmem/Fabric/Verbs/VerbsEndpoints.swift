import NIOCore

/// What a rank tells its peers once its queue pairs exist: all they need to connect theirs.
struct VerbsEndpoints: Hashable, Sendable {
    /// A port that queues go through.
    struct Port: Hashable, Sendable {
        /// The GID, 16 bytes.
        var gid: [UInt8] = []
        /// InfiniBand's local identifier; 0 for RoCE.
        var localIdentifier: UInt16 = 0
        /// Bytes of a packet's payload, at most.
        var mtu: UInt32 = 0
        /// What peers name to write into this rank's memory.
        var remoteKey: UInt32 = 0
        /// The IP address where librdmacm listens for this port; empty: it does not.
        var address: [UInt8] = []
        /// And the port number of that service.
        var service: UInt16 = 0
    }

    /// One end of a connection.
    struct Queue: Hashable, Sendable {
        /// The queue pair's number.
        var number: UInt32
        /// The number of its first packet, 24 bits.
        var firstPacket: UInt32
    }

    /// What went wrong on this rank.
    var problem: VerbsProblem?
    /// Where its memory begins, as peers name it.
    var address: UInt64 = 0
    /// What a rank shows that connects through librdmacm, so that strangers cannot.
    var secret: UInt64 = 0
    /// The ranks that this one exchanges writes with.
    var peers: [Int] = []
    /// The ports; queue k to any peer goes through port k modulo their number.
    var ports: [Port] = []
    /// Queue k to the i-th peer, at i * queuesPerPeer + k.
    var queues: [Queue] = []

    init() {}

    /// The endpoints as the bootstrap carries them.
    var bytes: [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeProblem(problem)
        buffer.writeInteger(address)
        buffer.writeInteger(secret)
        buffer.writeRanks(peers)
        buffer.writeInteger(UInt32(truncatingIfNeeded: ports.count))
        for port in ports {
            buffer.writeBlob(port.gid)
            buffer.writeInteger(port.localIdentifier)
            buffer.writeInteger(port.mtu)
            buffer.writeInteger(port.remoteKey)
            buffer.writeBlob(port.address)
            buffer.writeInteger(port.service)
        }
        for queue in queues {
            buffer.writeInteger(queue.number)
            buffer.writeInteger(queue.firstPacket)
        }
        return Array(buffer: buffer)
    }

    /// Reads what another rank sent; nil when it is malformed.
    init?(_ bytes: [UInt8]) {
        var buffer = ByteBuffer(bytes: bytes)
        guard let problem = buffer.readProblem(), let address = buffer.readInteger(as: UInt64.self),
            let secret = buffer.readInteger(as: UInt64.self), let peers = buffer.readRanks(),
            let count = buffer.readInteger(as: UInt32.self)
        else { return nil }
        self.problem = problem
        self.address = address
        self.secret = secret
        self.peers = peers
        for _ in 0..<count {
            guard let gid = buffer.readBlob(), gid.count == 16,
                let identifier = buffer.readInteger(as: UInt16.self),
                let mtu = buffer.readInteger(as: UInt32.self),
                let key = buffer.readInteger(as: UInt32.self), let address = buffer.readBlob(),
                let service = buffer.readInteger(as: UInt16.self)
            else { return nil }
            ports.append(
                Port(
                    gid: gid, localIdentifier: identifier, mtu: mtu, remoteKey: key,
                    address: address, service: service))
        }
        guard buffer.readableBytes.isMultiple(of: 8) else { return nil }
        while let number = buffer.readInteger(as: UInt32.self),
            let packet = buffer.readInteger(as: UInt32.self)
        {
            queues.append(Queue(number: number, firstPacket: packet))
        }
    }
}

/// How connecting went on one rank.
struct VerbsOutcome: Hashable, Sendable {
    /// What went wrong; nil when nothing did.
    var problem: VerbsProblem?

    init(_ problem: VerbsProblem?) { self.problem = problem }

    /// The outcome as the bootstrap carries it.
    var bytes: [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeProblem(problem)
        return Array(buffer: buffer)
    }

    /// Reads what another rank sent; nil when it is malformed.
    init?(_ bytes: [UInt8]) {
        var buffer = ByteBuffer(bytes: bytes)
        guard let problem = buffer.readProblem() else { return nil }
        self.problem = problem
    }
}

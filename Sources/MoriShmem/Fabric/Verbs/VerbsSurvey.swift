package import MoriDevice
import NIOCore

/// What one rank tells the others before anything is made: what it asks for and which NICs it has.
package struct VerbsSurvey: Hashable, Sendable {
    /// Settings that must be the same on every rank, with what they are called.
    package var settings: [Setting] = []
    /// The host: ranks with the same bytes share its NICs.
    package var host: [UInt8] = []
    /// The host's name, for people.
    package var hostName = ""
    /// The ranks that this one exchanges writes with.
    package var peers: [Int] = []
    /// Queues to each of them.
    package var queuesPerPeer = 1
    /// Whether MORI_RDMA_DEVICES names several NICs to use.
    package var namesSeveral = false
    /// The ports that may be used, nearest first.
    package var ports: [Port] = []
    /// Why the others are rejected.
    package var rejected: [String] = []
    /// What went wrong on this rank.
    package var problem: VerbsProblem?

    /// A setting's name and value.
    package struct Setting: Hashable, Sendable {
        /// "MORI_RDMA_SL".
        package var name: String
        /// "3".
        package var value: String
    }

    /// A port that may be used.
    package struct Port: Hashable, Sendable {
        /// "mlx5_0:1".
        package var name: String
        /// 0 for the nearest ports, 1 for the next nearest, and so on.
        package var group: Int
        /// How peers can be reached through it.
        package var transports: [RDMATransport]
    }

    /// The survey as the bootstrap carries it.
    package var bytes: [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeProblem(problem)
        buffer.writeBlob(host)
        buffer.writeText(hostName)
        buffer.writeRanks(peers)
        buffer.writeInteger(UInt32(truncatingIfNeeded: queuesPerPeer))
        buffer.writeInteger(UInt8(namesSeveral ? 1 : 0))
        buffer.writeTexts(settings.flatMap { [$0.name, $0.value] })
        buffer.writeTexts(rejected)
        buffer.writeInteger(UInt32(truncatingIfNeeded: ports.count))
        for port in ports {
            buffer.writeText(port.name)
            buffer.writeInteger(UInt32(truncatingIfNeeded: port.group))
            buffer.writeBlob(port.transports.map(\.rawValue))
        }
        return Array(buffer: buffer)
    }

    /// Creates an empty survey.
    package init() {}

    /// Reads what another rank sent; nil when it is malformed.
    package init?(_ bytes: [UInt8]) {
        var buffer = ByteBuffer(bytes: bytes)
        guard let problem = buffer.readProblem(), let host = buffer.readBlob(),
            let hostName = buffer.readText(), let peers = buffer.readRanks(),
            let queues = buffer.readInteger(as: UInt32.self),
            let several = buffer.readInteger(as: UInt8.self), let settings = buffer.readTexts(),
            settings.count.isMultiple(of: 2), let rejected = buffer.readTexts(),
            let count = buffer.readInteger(as: UInt32.self)
        else { return nil }
        self.problem = problem
        self.host = host
        self.hostName = hostName
        self.peers = peers
        queuesPerPeer = Int(queues)
        namesSeveral = several != 0
        self.rejected = rejected
        self.settings = stride(from: 0, to: settings.count, by: 2).map {
            Setting(name: settings[$0], value: settings[$0 + 1])
        }
        for _ in 0..<count {
            guard let name = buffer.readText(), let group = buffer.readInteger(as: UInt32.self),
                let numbers = buffer.readBlob()
            else { return nil }
            let transports = numbers.compactMap { RDMATransport(rawValue: $0) }
            guard transports.count == numbers.count else { return nil }
            ports.append(Port(name: name, group: Int(group), transports: transports))
        }
    }
}

/// An error that travels to the other ranks, so that all throw the same.
package struct VerbsProblem: Hashable, Sendable {
    /// The kind, as it is spelt in Swift.
    var code: String
    /// What was found, what is legal, what to do, with its cause.
    var message: String

    /// Takes an error.
    package init(_ error: MoriError) {
        code = error.code.description
        // The cause is said in words, because only words travel.
        message = String(error.description.dropFirst(code.count + 2))
    }

    fileprivate init(code: String, message: String) {
        self.code = code
        self.message = message
    }

    /// The error of the rank that had it, as every rank throws it.
    package func error(of rank: Int, _ purpose: String) -> MoriError {
        let codes: [MoriError.Code] = [
            .invalidConfiguration, .invalidArgument, .unsupported, .outOfMemory, .timedOut,
            .ranksDisagree, .deviceFailure,
        ]
        return MoriError(
            codes.first { $0.description == code } ?? .networkFailure,
            "\(purpose): rank \(rank): \(message)", ranks: [rank])
    }
}

extension ByteBuffer {
    /// Writes a problem, or that there is none.
    mutating func writeProblem(_ problem: VerbsProblem?) {
        writeTexts(problem.map { [$0.code, $0.message] } ?? [])
    }

    /// Reads what `writeProblem` wrote; the outer nil says that it is malformed.
    mutating func readProblem() -> VerbsProblem?? {
        guard let texts = readTexts() else { return nil }
        if texts.isEmpty { return .some(nil) }
        guard texts.count == 2 else { return nil }
        return VerbsProblem(code: texts[0], message: texts[1])
    }

    /// Writes a count and as many texts.
    mutating func writeTexts(_ texts: [String]) {
        writeInteger(UInt32(truncatingIfNeeded: texts.count))
        for text in texts { writeText(text) }
    }

    /// Reads what `writeTexts` wrote.
    mutating func readTexts() -> [String]? {
        readBlobs()?.map { String(decoding: $0, as: UTF8.self) }
    }
}

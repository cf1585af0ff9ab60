import MoriDevice
import NIOCore

/// The identity of one all-gather: its name and the number of its call.
struct GatherID: Hashable, Sendable {
    /// The name that all ranks gave.
    var name: String
    /// How many calls of this name came before.
    var call: UInt32

    /// The gathering of the world itself, which the store contributes to when it admits a rank.
    static let join = GatherID(name: "", call: 0)
}

/// What a rank says to the store.
enum RankMessage: Hashable, Sendable {
    /// This rank's contribution to an all-gather.
    case gather(GatherID, value: [UInt8])
    /// Which ranks are missing from an all-gather? Asked at the deadline.
    case query(GatherID)
    /// This rank ends the world's rounds.
    case abort(culprit: Int?, message: String)
    /// This rank leaves; its silence from now on is no loss.
    case goodbye
    /// A round failed while this rank waited for these.
    case waits(for: [Int])
}

/// What the store says to a rank.
enum StoreMessage: Hashable, Sendable {
    /// The result of an all-gather, by rank.
    case gathered(GatherID, values: [[UInt8]])
    /// The answer to a query: the ranks that have not come.
    case incomplete(GatherID, missing: [Int])
    /// An all-gather that can never be complete, because these ranks left.
    case departed(GatherID, ranks: [Int])
    /// A rank was lost without goodbye.
    case peerLost(rank: Int)
    /// A rank ended the world's rounds.
    case aborted(by: Int, culprit: Int?, message: String)
    /// The world could not be formed.
    case failed(MoriError)
    /// The answer to a goodbye; unasked, the store itself closes.
    case farewell
    /// A round failed while a rank waited for others; told to that rank too, as a sign of life.
    case waits(by: Int, for: [Int])
}

extension RankMessage {
    /// The bytes of the message, without the frame's length.
    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        switch self {
        case .gather(let id, let value):
            buffer.writeInteger(UInt8(1))
            buffer.writeGatherID(id)
            buffer.writeBlob(value)
        case .query(let id):
            buffer.writeInteger(UInt8(2))
            buffer.writeGatherID(id)
        case .abort(let culprit, let message):
            buffer.writeInteger(UInt8(3))
            buffer.writeOptionalRank(culprit)
            buffer.writeText(message)
        case .goodbye:
            buffer.writeInteger(UInt8(4))
        case .waits(let ranks):
            buffer.writeInteger(UInt8(5))
            buffer.writeRanks(ranks)
        }
        return buffer
    }

    /// Reads a message; nil when it is malformed in any way.
    init?(decoding payload: ByteBuffer) {
        var buffer = payload
        guard let kind = buffer.readInteger(as: UInt8.self) else { return nil }
        switch kind {
        case 1:
            guard let id = buffer.readGatherID(), let value = buffer.readBlob() else { return nil }
            self = .gather(id, value: value)
        case 2:
            guard let id = buffer.readGatherID() else { return nil }
            self = .query(id)
        case 3:
            guard let culprit = buffer.readOptionalRank(), let message = buffer.readText() else {
                return nil
            }
            self = .abort(culprit: culprit, message: message)
        case 4: self = .goodbye
        case 5:
            guard let ranks = buffer.readRanks() else { return nil }
            self = .waits(for: ranks)
        default: return nil
        }
        guard buffer.readableBytes == 0 else { return nil }
    }
}

extension StoreMessage {
    /// The bytes of the message, without the frame's length.
    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        switch self {
        case .gathered(let id, let values):
            buffer.writeInteger(UInt8(1))
            buffer.writeGatherID(id)
            buffer.writeInteger(UInt32(truncatingIfNeeded: values.count))
            for value in values { buffer.writeBlob(value) }
        case .incomplete(let id, let missing):
            buffer.writeInteger(UInt8(2))
            buffer.writeGatherID(id)
            buffer.writeRanks(missing)
        case .departed(let id, let ranks):
            buffer.writeInteger(UInt8(3))
            buffer.writeGatherID(id)
            buffer.writeRanks(ranks)
        case .peerLost(let rank):
            buffer.writeInteger(UInt8(4))
            buffer.writeRanks([rank])
        case .aborted(let rank, let culprit, let message):
            buffer.writeInteger(UInt8(5))
            buffer.writeRanks([rank])
            buffer.writeOptionalRank(culprit)
            buffer.writeText(message)
        case .failed(let error):
            buffer.writeInteger(UInt8(6))
            buffer.writeError(error)
        case .farewell:
            buffer.writeInteger(UInt8(7))
        case .waits(let rank, let others):
            buffer.writeInteger(UInt8(8))
            buffer.writeRanks([rank])
            buffer.writeRanks(others)
        }
        return buffer
    }

    /// Reads a message; nil when it is malformed in any way.
    init?(decoding payload: ByteBuffer) {
        var buffer = payload
        guard let kind = buffer.readInteger(as: UInt8.self),
            let message = StoreMessage(kind: kind, from: &buffer), buffer.readableBytes == 0
        else { return nil }
        self = message
    }

    private init?(kind: UInt8, from buffer: inout ByteBuffer) {
        switch kind {
        case 1:
            guard let id = buffer.readGatherID(), let values = buffer.readBlobs() else {
                return nil
            }
            self = .gathered(id, values: values)
        case 2:
            guard let id = buffer.readGatherID(), let ranks = buffer.readRanks() else { return nil }
            self = .incomplete(id, missing: ranks)
        case 3:
            guard let id = buffer.readGatherID(), let ranks = buffer.readRanks() else { return nil }
            self = .departed(id, ranks: ranks)
        case 4:
            guard let rank = buffer.readRanks()?.first else { return nil }
            self = .peerLost(rank: rank)
        case 5:
            guard let rank = buffer.readRanks()?.first, let culprit = buffer.readOptionalRank(),
                let message = buffer.readText()
            else { return nil }
            self = .aborted(by: rank, culprit: culprit, message: message)
        case 6:
            guard let error = buffer.readError() else { return nil }
            self = .failed(error)
        case 7: self = .farewell
        case 8:
            guard let rank = buffer.readRanks()?.first, let others = buffer.readRanks() else {
                return nil
            }
            self = .waits(by: rank, for: others)
        default: return nil
        }
    }
}

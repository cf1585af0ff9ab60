import MoriDevice
import NIOCore

// Integers are big endian. Lengths and counts are 32 bits and are checked against what is there
// before anything is allocated for them.
extension ByteBuffer {
    /// Writes a length and the bytes.
    mutating func writeBlob(_ bytes: [UInt8]) {
        writeInteger(UInt32(truncatingIfNeeded: bytes.count))
        writeBytes(bytes)
    }

    /// Reads what `writeBlob` wrote; nil when it is not all there.
    mutating func readBlob() -> [UInt8]? {
        guard let count = readInteger(as: UInt32.self) else { return nil }
        return readBytes(length: Int(count))
    }

    /// Reads a count and as many blobs; nil when they are not all there.
    mutating func readBlobs() -> [[UInt8]]? {
        guard let count = readInteger(as: UInt32.self), Int(count) <= readableBytes / 4 else {
            return nil
        }
        var blobs: [[UInt8]] = []
        blobs.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let blob = readBlob() else { return nil }
            blobs.append(blob)
        }
        return blobs
    }

    /// Writes a length and the text's UTF-8.
    mutating func writeText(_ text: String) { writeBlob(Array(text.utf8)) }

    /// Reads what `writeText` wrote, with invalid UTF-8 repaired.
    mutating func readText() -> String? {
        readBlob().map { String(decoding: $0, as: UTF8.self) }
    }

    /// Writes a count and the ranks.
    mutating func writeRanks(_ ranks: [Int]) {
        writeInteger(UInt32(truncatingIfNeeded: ranks.count))
        for rank in ranks { writeInteger(UInt32(truncatingIfNeeded: rank)) }
    }

    /// Reads what `writeRanks` wrote; nil when it is not all there.
    mutating func readRanks() -> [Int]? {
        guard let count = readInteger(as: UInt32.self), Int(count) <= readableBytes / 4 else {
            return nil
        }
        return (0..<count).compactMap { _ in readInteger(as: UInt32.self).map(Int.init) }
    }

    /// Writes a rank, or that there is none.
    mutating func writeOptionalRank(_ rank: Int?) { writeRanks(rank.map { [$0] } ?? []) }

    /// Reads what `writeOptionalRank` wrote; the outer nil says that it is malformed.
    mutating func readOptionalRank() -> Int?? {
        guard let ranks = readRanks(), ranks.count <= 1 else { return nil }
        return .some(ranks.first)
    }

    /// Writes the name and the number of an all-gather.
    mutating func writeGatherID(_ id: GatherID) {
        writeText(id.name)
        writeInteger(id.call)
    }

    /// Reads what `writeGatherID` wrote.
    mutating func readGatherID() -> GatherID? {
        guard let name = readText(), name.utf8.count <= BootstrapLimit.name,
            let call = readInteger(as: UInt32.self)
        else { return nil }
        return GatherID(name: name, call: call)
    }

    /// Writes an error's kind, message and ranks.
    mutating func writeError(_ error: MoriError) {
        let kind = codesByNumber.firstIndex(of: error.code) ?? 0
        writeInteger(UInt8(truncatingIfNeeded: kind))
        writeText(error.message)
        writeRanks(error.ranks)
    }

    /// Reads what `writeError` wrote; an unknown kind becomes `.bootstrapFailed`.
    mutating func readError() -> MoriError? {
        guard let kind = readInteger(as: UInt8.self), let message = readText(),
            let ranks = readRanks()
        else { return nil }
        let known = codesByNumber.indices.contains(Int(kind))
        return MoriError(
            known ? codesByNumber[Int(kind)] : .bootstrapFailed, message, ranks: ranks)
    }
}

/// The kinds of errors that travel; the index is what is sent.
private let codesByNumber: [MoriError.Code] = [
    .bootstrapFailed, .ranksDisagree, .timedOut, .peerLost, .aborted, .closed, .invalidArgument,
    .invalidConfiguration,
]

/// Cuts the stream into frames: a 32-bit length, then as many bytes, at least one.
///
/// A class, because the handler behind it raises `limit` once the peer has proved itself.
final class FrameDecoder: ByteToMessageDecoder {
    typealias InboundOut = ByteBuffer

    /// The longest frame that is accepted, in bytes.
    var limit: Int

    /// Creates a decoder that accepts what a stranger may send.
    init(limit: Int = BootstrapLimit.strangersFrame) { self.limit = limit }

    /// The stream holds what is no frame of ours.
    struct Malformed: Error {}

    /// Passes on one frame, if it is complete.
    func decode(
        context: ChannelHandlerContext, buffer: inout ByteBuffer
    ) throws -> DecodingState {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else {
            return .needMoreData
        }
        guard length > 0, length <= limit else { throw Malformed() }
        guard buffer.readableBytes >= 4 + Int(length) else { return .needMoreData }
        buffer.moveReaderIndex(forwardBy: 4)
        guard let frame = buffer.readSlice(length: Int(length)) else { return .needMoreData }
        context.fireChannelRead(Self.wrapInboundOut(frame))
        return .continue
    }

    /// Drops an incomplete frame: its sender is gone.
    func decodeLast(
        context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool
    ) throws -> DecodingState {
        while try decode(context: context, buffer: &buffer) == .continue {}
        return .needMoreData
    }
}

/// The payload with its length in front, ready to be written.
func framed(_ payload: ByteBuffer) -> ByteBuffer {
    var frame = ByteBufferAllocator().buffer(capacity: 4 + payload.readableBytes)
    frame.writeInteger(UInt32(truncatingIfNeeded: payload.readableBytes))
    frame.writeImmutableBuffer(payload)
    return frame
}

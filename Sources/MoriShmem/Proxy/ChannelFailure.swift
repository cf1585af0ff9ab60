import MoriDevice

/// Why a channel sends nothing any more, as numbers: the hot path makes no text.
enum ChannelFailure {
    /// What is wrong with a descriptor.
    enum Illegality {
        case peer, queue, slot, source, destination, word, reservedBits
    }

    /// A descriptor asks for what no kernel may ask for.
    case illegal(Illegality, Descriptor, ring: Int, position: UInt64)
    /// A completion reports an error.
    case completion(WorkCompletion, underWay: Int)
    /// The fabric completed what was never posted.
    case unknownCompletion(WorkCompletion)
    /// The fabric refused a chain for good.
    case post(queue: Int, code: Int32, underWay: Int)
    /// The fabric's queues cannot be polled any more.
    case poll(code: Int32, underWay: Int)
}

/// What the text of a failure needs to know of its channel.
struct ChannelDescription {
    var rank: Int
    var worldSize: Int
    var peers: [Int]
    var queuesPerPeer: Int
    var slotCount: Int
    var segmentByteCount: Int

    /// The error for the caller, and the rank that caused it, as far as one can tell.
    func error(for failure: ChannelFailure, link: any FabricLink) -> (MoriError, culprit: Int?) {
        switch failure {
        case .illegal(let illegality, let descriptor, let ring, let position):
            let found = words(for: illegality, in: descriptor)
            return (
                MoriError(
                    .deviceFailure,
                    "rank \(rank): descriptor \(position) of ring \(ring) \(found); the memory of"
                        + " the ring was written over, or the kernels and this library are of"
                        + " different versions: nothing more is sent", ranks: [rank]), rank
            )
        case .completion(let completion, let underWay):
            let queue = Int(completion.queue)
            let peer = peers[queue / queuesPerPeer]
            let vendor =
                completion.vendorError == 0 ? "" : ", vendor error \(completion.vendorError)"
            return (
                MoriError(
                    .networkFailure,
                    "rank \(rank): a write to rank \(peer) failed on queue"
                        + " \(queue % queuesPerPeer) of \(queuesPerPeer), with \(underWay) requests"
                        + " under way there; nothing more is sent: look whether rank \(peer) still"
                        + " runs, and at the link between the two",
                    cause: .other(
                        "\(link.words(for: completion)) (status \(completion.status)\(vendor))"),
                    ranks: [peer]), peer
            )
        case .unknownCompletion(let completion):
            return (
                MoriError(
                    .networkFailure,
                    "rank \(rank): the fabric completed request \(completion.id) of queue"
                        + " \(completion.queue), which is not under way; nothing more is sent",
                    ranks: [rank]), nil
            )
        case .post(let queue, let code, let underWay):
            let peer = peers[queue / queuesPerPeer]
            return (
                MoriError(
                    .networkFailure,
                    "rank \(rank): queue \(queue % queuesPerPeer) of \(queuesPerPeer) to rank"
                        + " \(peer) takes no requests any more, with \(underWay) under way there;"
                        + " nothing more is sent", cause: .errno(call: "post", code: code),
                    ranks: [peer]), peer
            )
        case .poll(let code, let underWay):
            return (
                MoriError(
                    .networkFailure,
                    "rank \(rank): the fabric gives no completions any more, with \(underWay)"
                        + " requests under way to ranks \(peers); nothing more is sent",
                    cause: .errno(call: "poll", code: code), ranks: [rank]), nil
            )
        }
    }

    private func words(
        for illegality: ChannelFailure.Illegality, in descriptor: Descriptor
    ) -> String {
        let bytes = descriptor.payloadByteCount
        return switch illegality {
        case .peer:
            "names rank \(descriptor.peer); legal are the ranks that this one writes to, \(peers)"
        case .queue:
            "names queue \(descriptor.queue); legal are 0 to \(queuesPerPeer - 1)"
        case .slot:
            "names slot \(descriptor.slot); legal are 0 to \(slotCount - 1)"
        case .source:
            "reads \(bytes) bytes at offset \(descriptor.source); legal is what lies within"
                + " \(segmentByteCount) bytes"
        case .destination:
            "writes \(bytes) bytes at offset \(descriptor.destination); legal is what lies within"
                + " \(segmentByteCount) bytes"
        case .word:
            "stores a word at offset \(descriptor.wordOffset); legal is what lies within"
                + " \(segmentByteCount) bytes"
        case .reservedBits:
            "has reserved bits that are not 0"
        }
    }
}

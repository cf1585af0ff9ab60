#if RDMA
import CIBVerbs
import CRDMACM
import Glibc
import MoriDevice

/// One rank's queue pairs to its peers.
///
/// Everything that `post` and `poll` touch is in plain arrays that live as long as the link, so that
/// neither allocates, locks or looks anything up.
@safe
final class VerbsLink: FabricLink, @unchecked Sendable {
    let queueDepth: Int
    let maxRequestByteCount: Int
    /// Reliable connections deliver in order, and the registration has no relaxed ordering.
    let ordersWrites = true
    /// A NIC stores into memory behind the kernel's back.
    let wakesReaders = false

    /// What a queue needs to post.
    @safe
    private struct Queue {
        var pair: UnsafeMutablePointer<ibv_qp>
        /// Where the peer's memory begins, and its key.
        var destination: UInt64
        var remoteKey: UInt32
        /// The keys of this rank's memory and of `words`.
        var localKey: UInt32
        var wordsKey: UInt32
        var wordFlags: UInt32
        /// The next of the queue's slots.
        var slot: Int
    }

    private let source: UInt64
    private let queueCount: Int
    private let queues: UnsafeMutablePointer<Queue>
    private let requests: UnsafeMutablePointer<ibv_send_wr>
    private let entries: UnsafeMutablePointer<ibv_sge>
    /// By queue and slot: the caller's number of the request, and the word that it carries.
    ///
    /// A slot is used again when `queueDepth` later requests were posted, so once its own is done.
    private let ids: UnsafeMutablePointer<UInt64>
    private let words: UnsafeMutablePointer<UInt64>
    private let completionQueueCount: Int
    private let completionQueues: UnsafeMutablePointer<UnsafeMutablePointer<ibv_cq>>
    private let found: UnsafeMutablePointer<ibv_wc>
    private var nextCompletionQueue = 0
    private static let batch = 64

    /// Whom each queue leads to, through which port, for the errors.
    private let descriptions: [String]
    private let owned: Locked<Owned?>

    /// What the link keeps alive until it is closed.
    struct Owned: Sendable {
        var connections: VerbsConnectionManager?
        var pairs: [VerbsQueuePair] = []
        var memory: [MemoryRegion] = []
        var completions: [CompletionQueue] = []
    }

    /// A queue, as the fabric has made it.
    struct Connection {
        var pair: VerbsQueuePair
        var peer: Int
        var memory: MemoryRegion
        var destination: UInt64
        var remoteKey: UInt32
        var remoteNumber: UInt32
    }

    /// Takes what the fabric has made.
    ///
    /// - Throws: As `VerbsNIC.register`, where a NIC takes no inline data and so needs the words
    ///   registered.
    init(
        _ connections: [Connection], source: UInt, device: Device, owned: Owned
    ) throws(MoriError) {
        var owned = owned
        let depth = connections.map(\.pair.depth).min() ?? VerbsLimits.wantedDepth
        let slots = max(connections.count * depth, 1)
        queueDepth = depth
        maxRequestByteCount =
            connections.map(\.pair.nic.port.maxMessageByteCount).min() ?? Int(UInt32.max >> 1)
        self.source = UInt64(source)
        queueCount = connections.count
        completionQueueCount = owned.completions.count
        unsafe queues = .allocate(capacity: max(connections.count, 1))
        unsafe requests = .allocate(capacity: depth)
        unsafe entries = .allocate(capacity: depth)
        unsafe ids = .allocate(capacity: slots)
        unsafe words = .allocate(capacity: slots)
        unsafe completionQueues = .allocate(capacity: max(owned.completions.count, 1))
        unsafe found = .allocate(capacity: Self.batch)
        unsafe ids.initialize(repeating: 0, count: slots)
        unsafe words.initialize(repeating: 0, count: slots)
        unsafe found.initialize(repeating: ibv_wc(), count: Self.batch)
        for (index, queue) in owned.completions.enumerated() {
            unsafe (completionQueues + index).initialize(to: queue.pointer)
        }
        // What never changes is filled in once: a chain is the first elements, linked in order.
        for index in 0..<depth {
            unsafe (entries + index).initialize(to: ibv_sge())
            var request = unsafe ibv_send_wr()
            unsafe request.sg_list = entries + index
            unsafe request.num_sge = 1
            unsafe request.opcode = IBV_WR_RDMA_WRITE
            unsafe request.next = index + 1 < depth ? requests + index + 1 : nil
            unsafe (requests + index).initialize(to: request)
        }
        descriptions = connections.map {
            "rank \($0.peer) through \($0.pair.nic.name), queue pair \($0.pair.number) to"
                + " \($0.remoteNumber)"
        }

        var wordKeys: [String: UInt32] = [:]
        var problem: MoriError?
        for connection in connections where !connection.pair.takesInlineWords {
            let nic = connection.pair.nic
            guard wordKeys[nic.name] == nil, problem == nil else { continue }
            do throws(MoriError) {
                let region = try nic.register(
                    address: UInt(bitPattern: unsafe words), byteCount: 8 * slots,
                    of: Device(.host))
                wordKeys[nic.name] = unsafe region.pointer.pointee.lkey
                owned.memory.append(region)
            } catch {
                problem = error
            }
        }
        for (index, connection) in connections.enumerated() {
            let pair = connection.pair
            unsafe (queues + index).initialize(
                to: Queue(
                    pair: pair.handle.pointer, destination: connection.destination,
                    remoteKey: connection.remoteKey,
                    localKey: connection.memory.pointer.pointee.lkey,
                    wordsKey: wordKeys[pair.nic.name] ?? 0,
                    wordFlags: pair.takesInlineWords ? IBV_SEND_INLINE.rawValue : 0, slot: 0))
        }
        self.owned = Locked(owned)
        if let problem { throw problem }
    }

    deinit {
        close()
        unsafe queues.deallocate()
        unsafe requests.deallocate()
        unsafe entries.deallocate()
        unsafe ids.deallocate()
        unsafe words.deallocate()
        unsafe completionQueues.deallocate()
        unsafe found.deallocate()
    }

    func post(_ chain: UnsafePointer<WorkRequest>, count: Int, to queue: Int) -> Int32 {
        guard queue >= 0, queue < queueCount, count >= 0, count <= queueDepth else { return EINVAL }
        guard count > 0 else { return 0 }
        let state = unsafe queues + queue
        let depth = queueDepth
        let base = queue * depth
        let to = unsafe state.pointee
        var slot = to.slot
        for index in 0..<count {
            let asked = unsafe chain + index
            let request = unsafe requests + index
            let entry = unsafe entries + index
            let place = base + slot
            unsafe ids[place] = asked.pointee.id
            // Queue and slot, so that a completion finds both without looking anything up.
            unsafe request.pointee.wr_id = UInt64(truncatingIfNeeded: queue) << 32 | UInt64(slot)
            var flags = unsafe asked.pointee.isSignaled ? IBV_SEND_SIGNALED.rawValue : 0
            if unsafe asked.pointee.kind == .word {
                unsafe words[place] = asked.pointee.value
                unsafe entry.pointee.addr = UInt64(UInt(bitPattern: words + place))
                unsafe entry.pointee.length = 8
                unsafe entry.pointee.lkey = to.wordsKey
                flags |= to.wordFlags
            } else {
                unsafe entry.pointee.addr = source + asked.pointee.source
                unsafe entry.pointee.length = asked.pointee.byteCount
                unsafe entry.pointee.lkey = to.localKey
            }
            unsafe request.pointee.send_flags = flags
            unsafe request.pointee.wr.rdma.remote_addr = to.destination + asked.pointee.destination
            unsafe request.pointee.wr.rdma.rkey = to.remoteKey
            slot = slot + 1 == depth ? 0 : slot + 1
        }
        let last = unsafe requests + (count - 1)
        let next = unsafe last.pointee.next
        unsafe last.pointee.next = nil
        var refused: UnsafeMutablePointer<ibv_send_wr>?
        let status = unsafe ibv_post_send(to.pair, requests, &refused)
        unsafe last.pointee.next = next
        guard status != 0 else {
            unsafe state.pointee.slot = slot
            return 0
        }
        // All or none: where some went out, the queue ends, and its peer sees no half of a chain
        // as a whole.
        if unsafe refused != requests { unsafe stop(to.pair) }
        return abs(status)
    }

    private func stop(_ pair: UnsafeMutablePointer<ibv_qp>) {
        var attributes = ibv_qp_attr()
        attributes.qp_state = IBV_QPS_ERR
        _ = unsafe ibv_modify_qp(pair, &attributes, Int32(IBV_QP_STATE.rawValue))
    }

    func poll(_ completions: UnsafeMutablePointer<WorkCompletion>, capacity: Int) -> Int {
        var taken = 0
        for _ in 0..<completionQueueCount {
            let queue = unsafe completionQueues[nextCompletionQueue]
            // The next call begins with the next one, so that none starves.
            nextCompletionQueue += 1
            if nextCompletionQueue == completionQueueCount { nextCompletionQueue = 0 }
            let room = min(capacity - taken, Self.batch)
            guard room > 0 else { break }
            let count = unsafe ibv_poll_cq(queue, Int32(room), found)
            guard count >= 0 else { return taken > 0 ? taken : Int(count) }
            for index in 0..<Int(count) {
                let entry = unsafe found + index
                let number = unsafe entry.pointee.wr_id
                let queue = Int(truncatingIfNeeded: number >> 32)
                let slot = Int(truncatingIfNeeded: number & 0xffff_ffff)
                unsafe (completions + taken).initialize(
                    to: WorkCompletion(
                        id: ids[queue * queueDepth + slot], queue: Int32(truncatingIfNeeded: queue),
                        status: Int32(bitPattern: entry.pointee.status.rawValue),
                        vendorError: entry.pointee.vendor_err))
                taken += 1
            }
        }
        return taken
    }

    func words(for completion: WorkCompletion) -> String {
        let status = ibv_wc_status(rawValue: UInt32(bitPattern: completion.status))
        let meaning =
            unsafe ibv_wc_status_str(status).map { unsafe String(cString: $0) } ?? "unknown"
        let index = Int(completion.queue)
        let place = descriptions.indices.contains(index) ? descriptions[index] : "no queue"
        var text = "\(meaning) (ibv_wc_status \(completion.status)"
        if completion.vendorError != 0 { text += ", vendor error \(completion.vendorError)" }
        text += ") of a write to \(place)"
        if status == IBV_WC_RETRY_EXC_ERR {
            text +=
                "; the peer answered none of \(Int(VerbsRetry.count) + 1) tries: its host is"
                + " down, its process has ended, or the network between is"
        } else if status == IBV_WC_WR_FLUSH_ERR {
            text += "; the queue had ended with an earlier error"
        } else if status == IBV_WC_REM_ACCESS_ERR || status == IBV_WC_REM_OP_ERR {
            text += "; the peer's memory is gone: its process has ended or closed the operator"
        }
        return text
    }

    func close() {
        // Given back when the last reference goes: connections, queue pairs, then what they use.
        _ = owned.withLock { owned -> Owned? in
            defer { owned = nil }
            return owned
        }
    }
}
#endif

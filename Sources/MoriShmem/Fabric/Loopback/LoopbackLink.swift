import CMoriSystem
import Glibc

/// One rank's queues of a loopback fabric.
///
/// Used by the proxy's thread alone.
@safe
final class LoopbackLink: FabricLink, @unchecked Sendable {
    let queueDepth: Int
    let maxRequestByteCount: Int
    let ordersWrites = true
    let wakesReaders = true

    /// A request on its way.
    private struct Message {
        var request: WorkRequest
        /// Nanoseconds of the monotonic clock.
        var due: Int64
        /// What its completion will report, 0 being success.
        var status: Int32
    }

    /// One queue.
    ///
    /// The places of `posted`, `delivered` and `reaped` in `messages` are modulo its depth, a power
    /// of two.
    @safe private struct Queue {
        let peer: Int
        let memory: UnsafeMutableRawPointer
        let messages: UnsafeMutablePointer<Message>
        /// Requests so far; those that reached the peer; those whose place is free again.
        var posted: UInt64 = 0
        var delivered: UInt64 = 0
        var reaped: UInt64 = 0
        var lastDue: Int64 = 0
        /// A request failed: so does everything after it, as on an RC queue pair in error.
        var hasFailed = false
    }

    /// A completion that waits to be polled, and how far it frees its queue.
    private struct Outcome {
        var completion: WorkCompletion
        var reaped: UInt64
    }

    private let source: UnsafeMutableRawPointer
    private let queues: UnsafeMutablePointer<Queue>
    private let queueCount: Int
    private let mask: UInt64
    /// Around a ring.
    ///
    /// Never more than there is room for: an outcome stands for a request whose place is not free.
    private let outcomes: UnsafeMutablePointer<Outcome>
    private let outcomeMask: Int
    private var outcomeHead = 0
    private var outcomeTail = 0
    /// Messages on their way, on all queues.
    private var messageCount = 0

    private let delayNanoseconds: Int64
    private let isImmediate: Bool
    private var generator: SplitMix?
    private var faults: LoopbackFaults

    init(_ request: FabricRequest, rank: Int, behavior: LoopbackBehavior) {
        queueDepth = behavior.queueDepth
        maxRequestByteCount = behavior.maxRequestByteCount
        unsafe source = memory(at: request.address)
        queueCount = request.peers.count * request.queuesPerPeer
        let capacity = queueDepth.roundedUpToPowerOfTwo
        mask = UInt64(capacity - 1)
        unsafe queues = .allocate(capacity: max(queueCount, 1))
        for index in 0..<queueCount {
            let peer = request.peers[index / request.queuesPerPeer]
            unsafe (queues + index).initialize(
                to: Queue(
                    peer: peer, memory: memory(at: request.mappedAddresses[peer]),
                    messages: .allocate(capacity: capacity)))
        }
        let outcomeCapacity = (queueCount * capacity).roundedUpToPowerOfTwo
        outcomeMask = outcomeCapacity - 1
        unsafe outcomes = .allocate(capacity: outcomeCapacity)
        delayNanoseconds = behavior.delay?.nanoseconds ?? 0
        isImmediate = behavior.delay == nil && behavior.seed == nil
        // Ranks differ, and each repeats.
        generator = behavior.seed.map { SplitMix(state: $0 &+ UInt64(rank) << 32) }
        faults = LoopbackFaults(
            behavior.faults, rank: rank, worldSize: request.mappedAddresses.count)
    }

    deinit {
        for index in 0..<queueCount { unsafe queues[index].messages.deallocate() }
        unsafe queues.deallocate()
        unsafe outcomes.deallocate()
    }

    func close() {}

    func words(for completion: WorkCompletion) -> String {
        "loopback: " + LoopbackFaults.words(for: completion.status)
    }

    func post(_ chain: UnsafePointer<WorkRequest>, count: Int, to index: Int) -> Int32 {
        guard index >= 0, index < queueCount, count >= 0 else { return EINVAL }
        let queue = unsafe queues + index
        let underWay = unsafe Int(queue.pointee.posted &- queue.pointee.reaped)
        guard count <= queueDepth - underWay else { return ENOMEM }
        let peer = unsafe queue.pointee.peer
        if faults.refusesPost(to: peer) { return ENOMEM }
        let now = delayNanoseconds > 0 ? monotonicNanoseconds() : 0
        for place in 0..<count {
            var due: Int64 = 0
            if delayNanoseconds > 0 {
                let delay = generator?.next(below: 2 * delayNanoseconds) ?? delayNanoseconds
                // Not before the one before it: a queue keeps its order.
                due = unsafe max(now + delay, queue.pointee.lastDue)
                unsafe queue.pointee.lastDue = due
            }
            let status = faults.statusOfNextRequest(to: peer)
            unsafe (queue.pointee.messages + Int(queue.pointee.posted & mask)).initialize(
                to: Message(request: chain[place], due: due, status: status))
            unsafe queue.pointee.posted &+= 1
        }
        messageCount += count
        if isImmediate { while unsafe deliverNext(of: queue, index: index, at: 0) {} }
        return 0
    }

    func poll(_ completions: UnsafeMutablePointer<WorkCompletion>, capacity: Int) -> Int {
        if messageCount > 0 { deliverDue() }
        var count = 0
        while count < capacity, outcomeHead != outcomeTail {
            let outcome = unsafe outcomes[outcomeHead & outcomeMask]
            unsafe queues[Int(outcome.completion.queue)].reaped = outcome.reaped
            unsafe completions[count] = outcome.completion
            outcomeHead += 1
            count += 1
        }
        if outcomeHead == outcomeTail { (outcomeHead, outcomeTail) = (0, 0) }
        return count
    }

    /// Delivers what is due: all of it, or some of it in a random order.
    private func deliverDue() {
        let now = delayNanoseconds > 0 ? monotonicNanoseconds() : 0
        guard generator != nil else {
            for index in 0..<queueCount {
                while unsafe deliverNext(of: queues + index, index: index, at: now) {}
            }
            return
        }
        var deliveries = 1 + random(below: messageCount)
        while deliveries > 0, deliverAny(from: random(below: queueCount), at: now) {
            deliveries -= 1
        }
    }

    private func random(below bound: Int) -> Int {
        Int(generator?.next(below: Int64(bound)) ?? 0)
    }

    /// Delivers one message of the first queue, from this one on, that has one due.
    private func deliverAny(from first: Int, at now: Int64) -> Bool {
        for step in 0..<queueCount {
            let index = (first + step) % queueCount
            if unsafe deliverNext(of: queues + index, index: index, at: now) { return true }
        }
        return false
    }

    /// Delivers the oldest message of a queue if it is due.
    private func deliverNext(
        of queue: UnsafeMutablePointer<Queue>, index: Int, at now: Int64
    ) -> Bool {
        guard unsafe queue.pointee.delivered != queue.pointee.posted else { return false }
        let message = unsafe queue.pointee.messages + Int(queue.pointee.delivered & mask)
        guard unsafe message.pointee.due <= now else { return false }
        var status = unsafe message.pointee.status
        if unsafe queue.pointee.hasFailed { status = LoopbackFaults.Status.flushed }
        if status == 0 {
            unsafe write(message.pointee.request, to: queue.pointee.memory)
        } else {
            unsafe queue.pointee.hasFailed = true
        }
        unsafe queue.pointee.delivered &+= 1
        messageCount -= 1
        // An error is reported whether a completion was wanted or not.
        if unsafe status != 0 || message.pointee.request.isSignaled {
            unsafe (outcomes + (outcomeTail & outcomeMask)).initialize(
                to: Outcome(
                    completion: WorkCompletion(
                        id: message.pointee.request.id, queue: Int32(index), status: status,
                        vendorError: 0), reaped: queue.pointee.delivered))
            outcomeTail += 1
        }
        return true
    }

    /// Writes into the peer's memory.
    private func write(_ request: WorkRequest, to memory: UnsafeMutableRawPointer) {
        let destination = unsafe memory + Int(request.destination)
        switch request.kind {
        case .payload:
            unsafe destination.copyMemory(
                from: source + Int(request.source), byteCount: Int(request.byteCount))
        case .word:
            // Pairs with the acquire in the kernels' `pollSystem`: the payloads before it are seen.
            let word = unsafe destination.assumingMemoryBound(to: UInt64.self)
            unsafe mori_store_release_u64(word, request.value)
            unsafe mori_wake_word(word)
        }
    }
}

/// Memory at an address that the fabric's request gave.
private func memory(at address: UInt) -> UnsafeMutableRawPointer {
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
        preconditionFailure("memory at address 0, which connect refuses")
    }
    return unsafe pointer
}

extension Duration {
    /// Whole nanoseconds.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}

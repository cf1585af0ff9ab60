import MoriDevice
import CMoriSystem
import Glibc

#if Checked
import MoriHostKernels
#endif

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
        /// Whether that never comes.
        var isLost: Bool
        /// When it does; once delivered.
        var completionDue: Int64 = 0
        /// A sum over what was delivered.
        var checksum: UInt64 = 0
        /// When it was delivered, by the race checker's clock.
        var moment: UInt32 = 0
    }

    /// One queue.
    ///
    /// The places of `posted`, `delivered`, `completed` and `reaped` in `messages` are modulo its depth, a power
    /// of two.
    @safe private struct Queue {
        let peer: Int
        let memory: UnsafeMutableRawPointer
        let messages: UnsafeMutablePointer<Message>
        /// Requests so far; those that reached the peer; those that are complete; those whose place
        /// is free again.
        var posted: UInt64 = 0
        var delivered: UInt64 = 0
        var completed: UInt64 = 0
        var reaped: UInt64 = 0
        var lastDue: Int64 = 0
        var lastCompletionDue: Int64 = 0
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
    private let completionNanoseconds: Int64
    private let watchesSource: Bool
    /// Whether anything takes time.
    private let usesClock: Bool
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
        completionNanoseconds = behavior.completionDelay?.nanoseconds ?? 0
        watchesSource = behavior.watchesSource
        let isLate = behavior.faults.contains { if case .lateRequest = $0 { true } else { false } }
        usesClock = delayNanoseconds > 0 || completionNanoseconds > 0 || isLate
        isImmediate = !usesClock && behavior.seed == nil
        // Ranks differ, and each repeats.
        generator = behavior.seed.map { SplitMix(seed: $0 &+ UInt64(rank) << 32) }
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
        #if Checked
        unsafe moriep_race_post(queue)
        #endif
        let now = usesClock ? monotonicNanoseconds() : 0
        for place in 0..<count {
            let fate = faults.fateOfNextRequest(to: peer)
            // Not before the one before it: a queue keeps its order.
            let due = unsafe max(
                now + delay(around: delayNanoseconds) + fate.delay, queue.pointee.lastDue)
            unsafe queue.pointee.lastDue = due
            unsafe (queue.pointee.messages + Int(queue.pointee.posted & mask)).initialize(
                to: Message(
                    request: chain[place], due: due, status: fate.status, isLost: fate.isLost))
            unsafe queue.pointee.posted &+= 1
        }
        messageCount += count
        if isImmediate {
            while unsafe deliverNext(of: queue, at: 0) {}
            unsafe complete(queue, index: index, at: 0)
        }
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

    /// A delay, of this length on average.
    private func delay(around nanoseconds: Int64) -> Int64 {
        guard nanoseconds > 0 else { return 0 }
        return generator?.next(below: 2 * nanoseconds) ?? nanoseconds
    }

    /// Delivers what is due, all of it or some of it in a random order, and completes what is.
    private func deliverDue() {
        let now = usesClock ? monotonicNanoseconds() : 0
        if generator != nil {
            var deliveries = 1 + random(below: messageCount)
            while deliveries > 0, deliverAny(from: random(below: queueCount), at: now) {
                deliveries -= 1
            }
        } else {
            for index in 0..<queueCount { while unsafe deliverNext(of: queues + index, at: now) {} }
        }
        for index in 0..<queueCount { unsafe complete(queues + index, index: index, at: now) }
    }

    private func random(below bound: Int) -> Int {
        Int(generator?.next(below: Int64(bound)) ?? 0)
    }

    /// Delivers one message of the first queue, from this one on, that has one due.
    private func deliverAny(from first: Int, at now: Int64) -> Bool {
        for step in 0..<queueCount
        where unsafe deliverNext(of: queues + (first + step) % queueCount, at: now) {
            return true
        }
        return false
    }

    /// Delivers the oldest message of a queue if it is due.
    private func deliverNext(of queue: UnsafeMutablePointer<Queue>, at now: Int64) -> Bool {
        guard unsafe queue.pointee.delivered != queue.pointee.posted else { return false }
        let message = unsafe queue.pointee.messages + Int(queue.pointee.delivered & mask)
        guard unsafe message.pointee.due <= now else { return false }
        if unsafe queue.pointee.hasFailed {
            unsafe message.pointee.status = LoopbackFaults.Status.flushed
        }
        if unsafe message.pointee.status == 0 {
            unsafe message.pointee.moment = write(message.pointee.request, of: queue)
            if watchesSource {
                unsafe message.pointee.checksum = checksum(of: message.pointee.request)
            }
        } else {
            unsafe queue.pointee.hasFailed = true
        }
        let due = unsafe max(
            now + delay(around: completionNanoseconds), queue.pointee.lastCompletionDue)
        unsafe message.pointee.completionDue = due
        unsafe queue.pointee.lastCompletionDue = due
        unsafe queue.pointee.delivered &+= 1
        return true
    }

    /// Completes what was delivered and whose completion is due.
    private func complete(_ queue: UnsafeMutablePointer<Queue>, index: Int, at now: Int64) {
        while unsafe queue.pointee.completed != queue.pointee.delivered {
            let message = unsafe queue.pointee.messages + Int(queue.pointee.completed & mask)
            guard unsafe message.pointee.completionDue <= now else { return }
            var status = unsafe message.pointee.status
            if watchesSource, status == 0,
                unsafe checksum(of: message.pointee.request) != message.pointee.checksum
            {
                status = LoopbackFaults.Status.sourceChanged
                unsafe queue.pointee.hasFailed = true
            }
            unsafe queue.pointee.completed &+= 1
            messageCount -= 1
            #if Checked
            if unsafe !message.pointee.isLost {
                unsafe moriep_race_complete(queue, message.pointee.moment)
            }
            #endif
            if unsafe message.pointee.isLost { continue }
            // An error is reported whether a completion was wanted or not.
            guard unsafe status != 0 || message.pointee.request.isSignaled else { continue }
            unsafe (outcomes + (outcomeTail & outcomeMask)).initialize(
                to: Outcome(
                    completion: WorkCompletion(
                        id: message.pointee.request.id, queue: Int32(index), status: status,
                        vendorError: 0), reaped: queue.pointee.completed))
            outcomeTail += 1
        }
    }

    /// A sum over a payload as it lies in this rank's memory now (FNV-1a).
    private func checksum(of request: WorkRequest) -> UInt64 {
        guard request.kind == .payload else { return 0 }
        var sum: UInt64 = 0xCBF2_9CE4_8422_2325
        let bytes = unsafe UnsafeRawBufferPointer(
            start: source + Int(request.source), count: Int(request.byteCount))
        var index = 0
        while index < bytes.count {
            unsafe sum = (sum ^ UInt64(bytes[index])) &* 0x100_0000_01B3
            index += 1
        }
        return sum
    }

    /// Writes into the peer's memory.
    ///
    /// - Returns: When, by the race checker's clock; 0 without it.
    private func write(_ request: WorkRequest, of queue: UnsafeMutablePointer<Queue>) -> UInt32 {
        #if Checked
        var moment: UInt32 = 0
        #else
        let moment: UInt32 = 0
        #endif
        let destination = unsafe queue.pointee.memory + Int(request.destination)
        switch request.kind {
        case .payload:
            let from = unsafe source + Int(request.source)
            #if Checked
            unsafe moment = moriep_race_payload(
                queue, destination, from, UInt64(request.byteCount))
            #endif
            unsafe destination.copyMemory(from: from, byteCount: Int(request.byteCount))
        case .word:
            #if Checked
            unsafe moriep_race_word(queue, destination, request.value)
            #endif
            // Pairs with the acquire in the kernels' `pollSystem`: the payloads before it are seen.
            let word = unsafe destination.assumingMemoryBound(to: UInt64.self)
            unsafe mori_store_release_u64(word, request.value)
            unsafe mori_wake_word(word)
        }
        return moment
    }
}

/// Memory at an address that the fabric's request gave.
private func memory(at address: UInt) -> UnsafeMutableRawPointer {
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
        preconditionFailure("memory at address 0, which connect refuses")
    }
    return unsafe pointer
}

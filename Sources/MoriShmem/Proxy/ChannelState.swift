import CMoriSystem

#if Checked
import MoriHostKernels
#endif

/// What the proxy's thread works with for one channel: raw pointers, prepared once.
///
/// Measured: such a struct passed inout pops some 150 million descriptors a second; classes, arrays
/// and existentials in the loop cost five times that and allocate.
@safe
struct ChannelState: ~Copyable {
    /// Where one ring is read.
    @safe struct Ring {
        let entries: UnsafePointer<UInt64>
        let consumedWord: UnsafeMutablePointer<UInt64>
        /// Descriptors taken.
        var position: UInt64 = 0
        /// The same, as producers know it.
        var publishedPosition: UInt64 = 0
    }

    /// How many descriptors of a slot are complete.
    @safe struct Slot {
        let completedWord: UnsafeMutablePointer<UInt64>
        var completed: UInt64 = 0
        var publishedCompleted: UInt64 = 0
    }

    let link: any FabricLink
    let counters: ChannelCounters
    let trace: NetworkTrace
    /// The ranks behind the queues.
    let peers: [Int]

    let rings: UnsafeMutablePointer<Ring>
    let ringCount: Int
    let entryCount: UInt64
    /// Where the next turn begins, so that no ring is always first.
    var firstRing = 0

    let slots: UnsafeMutablePointer<Slot>
    let slotCount: Int

    let queues: UnsafeMutablePointer<SendQueue>
    let queueCount: Int
    let queuesPerPeer: Int
    /// By rank: the place among the peers, or -1.
    let peerPlaces: UnsafeMutablePointer<Int32>
    let worldSize: Int
    /// The queues that have waiting requests.
    let listedQueues: UnsafeMutablePointer<Int32>
    var listedCount = 0

    let completions: UnsafeMutablePointer<WorkCompletion>
    static var completionCapacity: Int { 64 }

    let segmentByteCount: UInt64
    let queueDepth: Int
    let maxRequestByteCount: Int
    /// Requests that may wait on a queue before its rings wait too.
    let waitingLimit: Int
    let queueByteLimit: UInt64
    let ringBatch: Int
    let signalInterval: Int
    let wakesProducers: Bool

    /// Requests under way on queues that have not failed.
    var underWayCount = 0
    var consumed: UInt64 = 0
    var completed: UInt64 = 0
    /// The first failure: nothing is posted any more.
    var failure: ChannelFailure?
    var canPoll = true

    init(
        link: any FabricLink, description: ChannelDescription, memory: RingMemory,
        settings: ProxySettings, counters: ChannelCounters, trace: NetworkTrace
    ) {
        self.link = link
        self.counters = counters
        self.trace = trace
        peers = description.peers
        entryCount = UInt64(memory.entryCount)
        ringCount = memory.ringCount
        slotCount = memory.slotCount
        queuesPerPeer = description.queuesPerPeer
        queueCount = description.peers.count * description.queuesPerPeer
        worldSize = description.worldSize
        segmentByteCount = UInt64(description.segmentByteCount)
        queueDepth = link.queueDepth
        maxRequestByteCount = min(link.maxRequestByteCount, Int(Int32.max))
        waitingLimit = link.queueDepth
        queueByteLimit = UInt64(settings.queueByteLimit)
        ringBatch = settings.ringBatch
        signalInterval = settings.signalInterval
        wakesProducers = settings.wakesProducers

        unsafe rings = .allocate(capacity: ringCount)
        for index in 0..<ringCount {
            let bytesPerRing = memory.entryCount * Descriptor.wordCount * 8
            unsafe (rings + index).initialize(
                to: Ring(
                    entries: pointer(at: memory.descriptors, index * bytesPerRing),
                    consumedWord: pointer(
                        at: memory.ringConsumed, index * RingMemory.countStride)))
        }
        unsafe slots = .allocate(capacity: slotCount)
        for index in 0..<slotCount {
            unsafe (slots + index).initialize(
                to: Slot(
                    completedWord: pointer(
                        at: memory.slotCompleted, index * RingMemory.countStride)))
        }
        // One descriptor becomes so many requests at most, which find room on the queue's limit.
        let largest = min(description.segmentByteCount, Int(Int32.max))
        let pieces = (largest + maxRequestByteCount - 1) / maxRequestByteCount + 1
        unsafe queues = .allocate(capacity: max(queueCount, 1))
        for index in 0..<queueCount {
            unsafe (queues + index).initialize(
                to: SendQueue(
                    peer: index / description.queuesPerPeer, waiting: waitingLimit + pieces,
                    underWay: queueDepth))
        }
        unsafe listedQueues = .allocate(capacity: max(queueCount, 1))
        unsafe peerPlaces = .allocate(capacity: worldSize)
        unsafe peerPlaces.initialize(repeating: -1, count: worldSize)
        for (place, peer) in description.peers.enumerated() {
            unsafe peerPlaces[peer] = Int32(place)
        }
        unsafe completions = .allocate(capacity: Self.completionCapacity)
    }

    deinit {
        for index in 0..<queueCount { unsafe queues[index].deallocate() }
        unsafe queues.deallocate()
        unsafe rings.deallocate()
        unsafe slots.deallocate()
        unsafe listedQueues.deallocate()
        unsafe peerPlaces.deallocate()
        unsafe completions.deallocate()
    }

    /// Takes what producers pushed, posts it, takes completions and tells the producers.
    ///
    /// - Returns: Whether anything moved.
    mutating func turn() -> Bool {
        let tookDescriptors = drainRings()
        let posted = failure == nil && postWaiting()
        if tookDescriptors { publishConsumed() }
        let tookCompletions = underWayCount > 0 && canPoll && pollCompletions()
        if tookDescriptors || tookCompletions { publishCompleted() }
        return tookDescriptors || posted || tookCompletions
    }

    /// Whether the fabric still has something to do, of which no doorbell will tell.
    var isUnderWay: Bool { failure == nil && (underWayCount > 0 || listedCount > 0) }

    /// Keeps the first failure and forgets what waits: nothing is posted on another queue (P8).
    mutating func fail(_ failure: ChannelFailure) {
        guard self.failure == nil else { return }
        self.failure = failure
        for place in 0..<listedCount {
            unsafe queues[Int(listedQueues[place])].discardWaiting()
        }
        listedCount = 0
    }

    private func publishConsumed() {
        // Before the rings' own counts: see `ProxyChannel.isDrained`.
        counters.publish(.consumed, consumed)
        for index in 0..<ringCount {
            let ring = unsafe rings + index
            let position = unsafe ring.pointee.position
            guard unsafe position != ring.pointee.publishedPosition else { continue }
            unsafe ring.pointee.publishedPosition = position
            unsafe publish(position, at: ring.pointee.consumedWord)
        }
    }

    private func publishCompleted() {
        for index in 0..<slotCount {
            let slot = unsafe slots + index
            let completed = unsafe slot.pointee.completed
            guard unsafe completed != slot.pointee.publishedCompleted else { continue }
            unsafe slot.pointee.publishedCompleted = completed
            unsafe publish(completed, at: slot.pointee.completedWord)
        }
        counters.publish(.completed, completed)
    }

    /// Stores a count word, which kernels await, and wakes them.
    private func publish(_ count: UInt64, at word: UnsafeMutablePointer<UInt64>) {
        #if Checked
        unsafe moriep_race_tell(word, count << 32)
        #endif
        unsafe mori_store_release_u64(word, count << 32)
        if wakesProducers { unsafe mori_wake_word(word) }
    }
}

/// A word at an address that the operator gave.
private func pointer(at address: UInt, _ offset: Int) -> UnsafeMutablePointer<UInt64> {
    guard let pointer = unsafe UnsafeMutablePointer<UInt64>(bitPattern: address + UInt(offset))
    else { preconditionFailure("ring memory at address 0") }
    return unsafe pointer
}

private func pointer(at address: UInt, _ offset: Int) -> UnsafePointer<UInt64> {
    let pointer: UnsafeMutablePointer<UInt64> = unsafe pointer(at: address, offset)
    return unsafe UnsafePointer(pointer)
}

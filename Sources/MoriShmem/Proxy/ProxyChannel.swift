import CMoriSystem
package import MoriDevice

#if Checked
import MoriHostKernels
#endif

/// What a proxy serves: the rings, queues and counts of one rank's operator.
///
/// After its first failure a channel posts nothing more, on no queue. It still takes descriptors,
/// so that no kernel waits for room in a ring, and completes only what did complete.
@safe
package final class ProxyChannel: @unchecked Sendable {
    /// Called once, on the proxy's thread, with the first failure and the rank that caused it, as
    /// far as one can tell.
    ///
    /// Must not block.
    package typealias FailureHandler = @Sendable (_ error: MoriError, _ culprit: Int?) -> Void

    private let description: ChannelDescription
    private let memory: RingMemory
    private let counters: ChannelCounters
    /// What it does, for whoever takes a trace.
    package let trace = NetworkTrace()
    private let onFailure: FailureHandler
    private let onTick: (@Sendable () -> Void)?

    // Only the proxy's thread touches these while the channel is attached.
    private let link: any FabricLink
    private var state: ChannelState
    private var hasReported = false

    /// Prepares a channel; nothing is sent before a proxy serves it.
    ///
    /// - Parameters:
    ///   - link: This rank's queues.
    ///   - rank: This rank.
    ///   - worldSize: Ranks of the world.
    ///   - peers: Whom the queues lead to, as in the request to the fabric.
    ///   - queuesPerPeer: Queues to each of them.
    ///   - memory: The rings and counts, zeroed; they must outlive the channel's service.
    ///   - segmentByteCount: Bytes of every rank's registered memory; no write may leave it.
    ///   - settings: How it is served.
    ///   - onTick: Called on the proxy's thread about once a millisecond. Must not block.
    ///   - onFailure: See `FailureHandler`.
    /// - Throws: `invalidArgument` for numbers that contradict each other.
    package init(
        link: any FabricLink, rank: Int, worldSize: Int, peers: [Int], queuesPerPeer: Int,
        memory: RingMemory, segmentByteCount: Int, settings: ProxySettings = ProxySettings(),
        onTick: (@Sendable () -> Void)? = nil, onFailure: @escaping FailureHandler
    ) throws(MoriError) {
        try Self.check(
            worldSize: worldSize, peers: peers, queuesPerPeer: queuesPerPeer, memory: memory,
            segmentByteCount: segmentByteCount)
        description = ChannelDescription(
            rank: rank, worldSize: worldSize, peers: peers, queuesPerPeer: queuesPerPeer,
            slotCount: memory.slotCount, segmentByteCount: segmentByteCount)
        self.memory = memory
        self.link = link
        self.onTick = onTick
        self.onFailure = onFailure
        counters = ChannelCounters(peers: peers)
        state = ChannelState(
            link: link, description: description, memory: memory, settings: settings,
            counters: counters, trace: trace)
    }

    private static func check(
        worldSize: Int, peers: [Int], queuesPerPeer: Int, memory: RingMemory, segmentByteCount: Int
    ) throws(MoriError) {
        func refuse(_ found: String, _ legal: String) -> MoriError {
            MoriError(.invalidArgument, "a proxy channel with \(found); legal is \(legal)")
        }
        guard worldSize >= 1, worldSize <= 1 << 12 else {
            throw refuse("\(worldSize) ranks", "1 to 4096")
        }
        guard peers.allSatisfy({ (0..<worldSize).contains($0) }),
            zip(peers, peers.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw refuse("peers \(peers)", "ranks below \(worldSize), ascending") }
        guard (1...64).contains(queuesPerPeer) else {
            throw refuse("\(queuesPerPeer) queues to each peer", "1 to 64")
        }
        guard memory.ringCount >= 1 else { throw refuse("\(memory.ringCount) rings", "1 or more") }
        guard memory.entryCount >= 1, memory.entryCount & (memory.entryCount - 1) == 0 else {
            throw refuse("\(memory.entryCount) descriptors to a ring", "a power of two")
        }
        guard (1...16).contains(memory.slotCount) else {
            throw refuse("\(memory.slotCount) slots", "1 to 16")
        }
        guard memory.descriptors != 0, memory.ringConsumed != 0, memory.slotCompleted != 0 else {
            throw refuse("ring memory at address 0", "the operator's pinned memory")
        }
        guard segmentByteCount >= 0 else {
            throw refuse("a segment of \(segmentByteCount) bytes", "0 or more")
        }
    }

    // MARK: Any thread

    /// What this rank asked of the network so far; exact while `isDrained`.
    package func statistics() -> NetworkStatistics { counters.statistics() }

    /// Begins to look for the largest phase anew.
    package func resetPhases() { counters.resetPhases() }

    /// Whether the rings are empty and everything taken from them is complete: then the statistics
    /// are exact.
    ///
    /// Never again after a failure that lost something.
    package var isDrained: Bool {
        // In this order. A ring's count is published after the total of descriptors taken, so the
        // total below holds what the rings no longer show. And as both totals grow, completed ones
        // read first and taken ones read last are equal only if they were so in between.
        for ring in 0..<memory.ringCount where !isEmpty(ring: ring) { return false }
        let completed = counters.load(.completed)
        return completed == counters.load(.consumed)
    }

    private func isEmpty(ring: Int) -> Bool {
        let entryCount = UInt64(memory.entryCount)
        let position =
            unsafe mori_load_acquire_u64(
                word(memory.ringConsumed, ring * RingMemory.countStride)) >> 32
        let place = UInt64(ring) * entryCount + position & (entryCount - 1)
        let lap = position & entryCount == 0 ? Descriptor.lapBit : 0
        let bytes = Int(place) * Descriptor.wordCount * 8
        let first = unsafe mori_load_acquire_u64(word(memory.descriptors, bytes))
        return (first ^ lap) & Descriptor.lapBit != 0
    }

    private func word(_ address: UInt, _ offset: Int) -> UnsafePointer<UInt64>? {
        unsafe UnsafePointer(bitPattern: address + UInt(offset))
    }

    // MARK: The proxy's thread

    /// How a turn went.
    package struct Turn: Hashable, Sendable {
        /// Whether anything moved.
        package var progressed: Bool
        /// Whether something is under way, of whose end no doorbell will tell.
        package var isUnderWay: Bool
    }

    /// Takes descriptors, posts requests, takes completions.
    package func turn() -> Turn {
        #if Checked
        unsafe moriep_race_become(
            UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()),
            Int32(description.rank))
        defer { moriep_race_become(nil, 0) }
        #endif
        let progressed = state.turn()
        if let failure = state.failure, !hasReported {
            hasReported = true
            let (error, culprit) = description.error(for: failure, link: link)
            onFailure(error, culprit)
        }
        return Turn(progressed: progressed, isUnderWay: state.isUnderWay)
    }

    /// Lets the operator look after what nobody tells it.
    func tick() { onTick?() }
}

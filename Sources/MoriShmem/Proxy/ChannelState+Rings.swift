import CMoriSystem

#if Checked
import MoriHostKernels
#endif

extension ChannelState {
    /// Descriptors that one ring gives before the next one's turn.
    private static var quantum: Int { 32 }

    /// Turns descriptors into requests that wait on their queues.
    ///
    /// - Returns: Whether there were any.
    mutating func drainRings() -> Bool {
        let before = consumed
        var passes = max(ringBatch / Self.quantum, 1)
        while passes > 0 {
            let passBegin = consumed
            for step in 0..<ringCount {
                let index = firstRing &+ step
                drain(ring: index < ringCount ? index : index &- ringCount)
            }
            if consumed == passBegin { break }
            passes &-= 1
        }
        if consumed == before { return false }
        firstRing = firstRing &+ 1 < ringCount ? firstRing &+ 1 : 0
        return true
    }

    /// Takes the next descriptors of one ring, up to the quantum, until one is not there yet or
    /// finds its queue full.
    @inline(__always)
    private mutating func drain(ring index: Int) {
        let ring = unsafe rings + index
        var position = unsafe ring.pointee.position
        let begin = position
        let end = begin &+ UInt64(Self.quantum)
        while position != end {
            let entry =
                unsafe ring.pointee.entries
                + Int(position & (entryCount &- 1)) &* Descriptor.wordCount
            // The first lap's bit is 1, the second's 0, and so on.
            let lap = position & entryCount == 0 ? Descriptor.lapBit : 0
            // Each word is stored on its own, in any order: the slot counts when all four are of
            // this lap. Acquires what the producer had stored before.
            let word0 = unsafe mori_load_acquire_u64(entry)
            guard (word0 ^ lap) & Descriptor.lapBit == 0 else { break }
            let words = unsafe (
                word0, mori_load_acquire_u64(entry + 1), mori_load_acquire_u64(entry + 2),
                mori_load_acquire_u64(entry + 3)
            )
            guard ((words.1 ^ lap) | (words.2 ^ lap) | (words.3 ^ lap)) & Descriptor.lapBit == 0
            else { break }
            #if Checked
            unsafe moriep_race_take(entry, word0)
            #endif
            // After a failure descriptors are still taken, so that no producer waits for room.
            if failure == nil {
                guard accept(words, ring: index, position: position) else { break }
            }
            position &+= 1
        }
        unsafe ring.pointee.position = position
        consumed &+= position &- begin
    }

    /// Makes requests of a descriptor.
    ///
    /// - Returns: False when its queue has no room.
    @inline(__always)
    private mutating func accept(_ words: Descriptor.Words, ring: Int, position: UInt64) -> Bool {
        let descriptor = Descriptor(words)
        guard descriptor.payloadByteCount != 0 || descriptor.hasWord else {
            // Nothing to do: a producer that gave up filled its place in the ring.
            guard descriptor.slot < slotCount else {
                fail(.illegal(.slot, descriptor, ring: ring, position: position))
                return true
            }
            unsafe slots[descriptor.slot].completed &+= 1
            completed &+= 1
            return true
        }
        if let illegality = illegality(of: descriptor, words) {
            fail(.illegal(illegality, descriptor, ring: ring, position: position))
            return true
        }
        let peer = unsafe Int(peerPlaces[descriptor.peer])
        let queueIndex = peer &* queuesPerPeer &+ descriptor.queue
        let queue = unsafe queues + queueIndex
        guard unsafe queue.pointee.waitingCount < waitingLimit else { return false }
        let verb = descriptor.isCombine ? 1 : 0
        unsafe counters.line(verb: verb, peer: peer).raise(
            .phases, to: UInt64(descriptor.phase))
        unsafe append(descriptor, to: queue, verb: verb)
        if unsafe !queue.pointee.isListed {
            unsafe queue.pointee.isListed = true
            unsafe listedQueues[listedCount] = Int32(truncatingIfNeeded: queueIndex)
            listedCount &+= 1
        }
        return true
    }

    @inline(__always)
    private func append(
        _ descriptor: Descriptor, to queue: UnsafeMutablePointer<SendQueue>, verb: Int
    ) {
        var remaining = Int(descriptor.payloadByteCount)
        if remaining > 0, !descriptor.hasWord,
            unsafe queue.pointee.extend(by: descriptor, verb: verb, atMost: maxRequestByteCount)
        {
            return
        }
        var offset: UInt64 = 0
        while remaining > 0 {
            let piece = min(remaining, maxRequestByteCount)
            unsafe queue.pointee.append(
                .payload, byteCount: UInt32(truncatingIfNeeded: piece),
                source: descriptor.source &+ offset, destination: descriptor.destination &+ offset,
                value: 0, slot: descriptor.slot, verb: verb)
            offset &+= UInt64(piece)
            remaining &-= piece
        }
        if descriptor.hasWord {
            unsafe queue.pointee.append(
                .word, byteCount: 8, source: 0, destination: descriptor.wordOffset,
                value: descriptor.value, slot: descriptor.slot, verb: verb)
        }
        unsafe queue.pointee.note(queue.pointee.next &- 1).pointee.descriptorCount = 1
    }

    /// Everything that a descriptor says is checked before it is used: the ring lies in memory that
    /// kernels write.
    @inline(__always)
    private func illegality(
        of descriptor: Descriptor, _ words: Descriptor.Words
    ) -> ChannelFailure.Illegality? {
        guard descriptor.peer < worldSize, unsafe peerPlaces[descriptor.peer] >= 0 else {
            return .peer
        }
        guard descriptor.queue < queuesPerPeer else { return .queue }
        guard descriptor.slot < slotCount else { return .slot }
        guard words.2 & Descriptor.reservedBits == 0 else { return .reservedBits }
        // Offsets have 48 bits and lengths 31: the sums do not overflow.
        let byteCount = UInt64(descriptor.payloadByteCount)
        if byteCount > 0 {
            guard descriptor.source &+ byteCount <= segmentByteCount else { return .source }
            guard descriptor.destination &+ byteCount <= segmentByteCount else {
                return .destination
            }
        }
        if descriptor.hasWord {
            guard descriptor.wordOffset &+ 8 <= segmentByteCount else { return .word }
        }
        return nil
    }
}

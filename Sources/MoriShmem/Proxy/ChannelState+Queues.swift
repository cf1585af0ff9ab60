import Glibc

extension ChannelState {
    /// Hands waiting requests to the fabric, in one post for each queue.
    ///
    /// - Returns: Whether any went.
    mutating func postWaiting() -> Bool {
        var kept = 0
        var posted = false
        var place = 0
        while place < listedCount {
            let index = unsafe listedQueues[place]
            let queue = unsafe queues + Int(index)
            if unsafe post(queue, index: Int(index)) { posted = true }
            if failure != nil { return posted }
            if unsafe queue.pointee.waitingCount > 0 {
                unsafe listedQueues[kept] = index
                kept &+= 1
            } else {
                unsafe queue.pointee.isListed = false
            }
            place &+= 1
        }
        listedCount = kept
        return posted
    }

    /// What a chain holds of one verb.
    private struct Share {
        var requests: UInt64 = 0
        var payloadBytes: UInt64 = 0
        var signalBytes: UInt64 = 0

        @inline(__always)
        mutating func add(_ bytes: UInt64, isWord: Bool) {
            requests &+= 1
            if isWord { signalBytes &+= bytes } else { payloadBytes &+= bytes }
        }
    }

    /// Posts as much of a queue's waiting requests as there is credit for.
    private mutating func post(_ queue: UnsafeMutablePointer<SendQueue>, index: Int) -> Bool {
        let credit = unsafe queueDepth &- queue.pointee.underWayCount
        let limit = unsafe min(queue.pointee.waitingCount, credit)
        guard limit > 0 else { return false }
        let chain = unsafe queue.pointee.requests + queue.pointee.head
        let firstVerb = unsafe queue.pointee.note(chain.pointee.id).pointee.verb
        let bytesBefore = unsafe queue.pointee.bytesUnderWay
        var dispatch = Share()
        var combine = Share()
        var count = 0
        var byteCount: UInt64 = 0
        var sinceSignal = 0
        while count < limit {
            let request = unsafe chain + count
            let bytes = unsafe UInt64(request.pointee.byteCount)
            // A request that is larger than the limit goes when nothing else is under way.
            if bytesBefore &+ byteCount &+ bytes > queueByteLimit, bytesBefore &+ byteCount > 0 {
                break
            }
            byteCount &+= bytes
            let isWord = unsafe request.pointee.kind == .word
            let note = unsafe queue.pointee.note(request.pointee.id)
            unsafe note.pointee.postVerb = firstVerb
            if unsafe note.pointee.verb == 0 {
                dispatch.add(bytes, isWord: isWord)
            } else {
                combine.add(bytes, isWord: isWord)
            }
            sinceSignal &+= 1
            let isSignaled = sinceSignal == signalInterval
            unsafe request.pointee.isSignaled = isSignaled
            if isSignaled { sinceSignal = 0 }
            count &+= 1
        }
        guard count > 0 else { return false }
        // The last one always: every request's completion is covered by some signaled one's.
        unsafe chain[count &- 1].isSignaled = true
        let begin = trace.time
        let status = unsafe link.post(chain, count: count, to: index)
        guard status == 0 else {
            // A full queue is tried again; its requests keep their place.
            if status != ENOMEM && status != EAGAIN {
                fail(
                    unsafe .post(
                        queue: index, code: status, underWay: queue.pointee.underWayCount))
            }
            return false
        }
        let peer = unsafe queue.pointee.peer
        if begin != 0 {
            let last = unsafe chain[count &- 1]
            trace.note(
                NetworkTrace.Post(
                    queue: index, peer: peers[peer], isCombine: firstVerb != 0,
                    epoch: last.kind == .word ? Int(last.value >> 32) : 0, requests: count,
                    byteCount: Int(byteCount), lastID: last.id, begin: begin,
                    end: max(begin, trace.time)))
        }
        unsafe counters.line(verb: Int(firstVerb), peer: peer).add(1, to: .posts)
        if dispatch.requests > 0 { record(dispatch, verb: 0, peer: peer) }
        if combine.requests > 0 { record(combine, verb: 1, peer: peer) }
        unsafe queue.pointee.markPosted(count, byteCount: byteCount)
        underWayCount &+= count
        return true
    }

    private func record(_ share: Share, verb: Int, peer: Int) {
        let line = unsafe counters.line(verb: verb, peer: peer)
        unsafe line.add(share.requests, to: .workRequests)
        unsafe line.add(share.payloadBytes, to: .payloadByteCount)
        unsafe line.add(share.signalBytes, to: .signalByteCount)
    }

    /// Takes completions.
    ///
    /// - Returns: Whether there were any.
    mutating func pollCompletions() -> Bool {
        var took = false
        while true {
            let count = unsafe link.poll(completions, capacity: Self.completionCapacity)
            guard count >= 0 else {
                canPoll = false
                fail(
                    .poll(
                        code: Int32(truncatingIfNeeded: -count), underWay: underWayCount))
                return took
            }
            for index in 0..<count { unsafe take(completions[index]) }
            if count > 0 { took = true }
            if count < Self.completionCapacity { return took }
        }
    }

    /// Retires everything that a completion covers.
    private mutating func take(_ completion: WorkCompletion) {
        let index = Int(completion.queue)
        guard index >= 0, index < queueCount else {
            fail(.unknownCompletion(completion))
            return
        }
        let queue = unsafe queues + index
        // A queue that failed completes nothing any more: what follows are its echoes.
        guard unsafe !queue.pointee.hasFailed else { return }
        let id = completion.id
        guard unsafe id >= queue.pointee.retired, unsafe id < queue.pointee.posted else {
            fail(.unknownCompletion(completion))
            return
        }
        let peer = unsafe queue.pointee.peer
        let verb = unsafe Int(queue.pointee.note(id).pointee.postVerb)
        unsafe counters.line(verb: verb, peer: peer).add(1, to: .completions)
        guard completion.status == 0 else {
            let underWay = unsafe queue.pointee.underWayCount
            unsafe queue.pointee.hasFailed = true
            underWayCount &-= underWay
            fail(.completion(completion, underWay: underWay))
            return
        }
        let time = trace.time
        if time != 0 { trace.complete(id, queue: index, at: time) }
        let count = unsafe Int(id &- queue.pointee.retired) &+ 1
        for _ in 0..<count {
            let note = unsafe queue.pointee.retireOldest()
            let descriptors = UInt64(note.descriptorCount)
            unsafe slots[Int(note.slot)].completed &+= descriptors
            completed &+= descriptors
        }
        underWayCount &-= count
    }
}

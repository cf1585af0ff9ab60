/// One queue to a peer, as the proxy sees it: requests that wait for credit, and notes of those and
/// of the ones under way.
///
/// Ids are sequence numbers of the queue. Those below `retired` are complete, those below `posted`
/// are under way, those below `next` wait.
@safe
struct SendQueue {
    /// What is remembered of a request until it is complete.
    struct Note {
        var byteCount: UInt32
        /// Descriptors whose last request this is.
        var descriptorCount: UInt32
        var slot: UInt8
        var verb: UInt8
        /// For which verb its post counts, and with it the completion that it asks for.
        var postVerb: UInt8 = 0
    }

    /// Waiting requests lie in `head..<tail`, side by side, so that a post takes them as they are.
    private(set) var requests: UnsafeMutablePointer<WorkRequest>
    private var capacity: Int
    private(set) var head = 0
    private(set) var tail = 0

    /// By id, around a ring.
    private var notes: UnsafeMutablePointer<Note>
    private var noteMask: UInt64

    private(set) var retired: UInt64 = 0
    private(set) var posted: UInt64 = 0
    private(set) var next: UInt64 = 0
    var bytesUnderWay: UInt64 = 0

    /// The peer's place among the channel's peers.
    let peer: Int
    /// Whether it stands in the list of queues with waiting requests.
    var isListed = false
    /// Whether a completion reported an error: nothing of it completes any more.
    var hasFailed = false

    /// Makes room for `waiting` requests that wait and `underWay` that are under way.
    init(peer: Int, waiting: Int, underWay: Int) {
        self.peer = peer
        // When the end is reached, what waits moves to the begin: at most half of the room, after
        // at least as many requests came.
        capacity = 2 * waiting
        unsafe requests = .allocate(capacity: capacity)
        let noteCount = (waiting + underWay).roundedUpToPowerOfTwo
        noteMask = UInt64(noteCount - 1)
        unsafe notes = .allocate(capacity: noteCount)
    }

    func deallocate() {
        unsafe requests.deallocate()
        unsafe notes.deallocate()
    }

    var waitingCount: Int { @inline(__always) get { tail &- head } }
    var underWayCount: Int { @inline(__always) get { Int(posted &- retired) } }

    /// The note of a request that waits or is under way.
    @inline(__always)
    func note(_ id: UInt64) -> UnsafeMutablePointer<Note> {
        unsafe notes + Int(id & noteMask)
    }

    /// Adds a request; the caller has made sure that there is room.
    @inline(__always)
    mutating func append(
        _ kind: WorkRequest.Kind, byteCount: UInt32, source: UInt64, destination: UInt64,
        value: UInt64, slot: Int, verb: Int
    ) {
        if tail == capacity { compact() }
        unsafe (requests + tail).initialize(
            to: WorkRequest(
                kind: kind, isSignaled: false, byteCount: byteCount, source: source,
                destination: destination, value: value, id: next))
        unsafe note(next).initialize(
            to: Note(
                byteCount: byteCount, descriptorCount: 0, slot: UInt8(truncatingIfNeeded: slot),
                verb: UInt8(truncatingIfNeeded: verb)))
        tail &+= 1
        next &+= 1
    }

    /// Makes a payload the end of the last waiting request, if it continues it.
    @inline(__always)
    func extend(by descriptor: Descriptor, verb: Int, atMost limit: Int) -> Bool {
        guard tail > head else { return false }
        let last = unsafe requests + (tail &- 1)
        let note = unsafe note(next &- 1)
        let bytes = unsafe UInt64(last.pointee.byteCount)
        guard unsafe last.pointee.kind == .payload,
            unsafe last.pointee.source &+ bytes == descriptor.source,
            unsafe last.pointee.destination &+ bytes == descriptor.destination,
            bytes &+ UInt64(descriptor.payloadByteCount) <= UInt64(limit),
            unsafe Int(note.pointee.slot) == descriptor.slot,
            unsafe Int(note.pointee.verb) == verb
        else { return false }
        unsafe last.pointee.byteCount &+= descriptor.payloadByteCount
        unsafe note.pointee.byteCount &+= descriptor.payloadByteCount
        unsafe note.pointee.descriptorCount &+= 1
        return true
    }

    /// Takes note that the first waiting requests are under way now.
    @inline(__always)
    mutating func markPosted(_ count: Int, byteCount: UInt64) {
        posted &+= UInt64(count)
        bytesUnderWay &+= byteCount
        head &+= count
        if head == tail { (head, tail) = (0, 0) }
    }

    /// Takes note that the oldest request under way is complete.
    @inline(__always)
    mutating func retireOldest() -> Note {
        let note = unsafe note(retired).pointee
        bytesUnderWay &-= UInt64(note.byteCount)
        retired &+= 1
        return note
    }

    /// Forgets what waits.
    mutating func discardWaiting() { (head, tail, next) = (0, 0, posted) }

    private mutating func compact() {
        let count = tail - head
        unsafe requests.update(from: requests + head, count: count)
        (head, tail) = (0, count)
    }
}

extension Int {
    /// The smallest power of two that is no smaller.
    var roundedUpToPowerOfTwo: Int {
        self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount)
    }
}

package import MoriDevice

/// What moves bytes into the memory of a rank that cannot be mapped.
///
/// A fabric knows writes and completions and nothing of tokens. Everything above it (rings,
/// coalescing, credits, counts) is the proxy's and the same for every fabric.
package protocol Fabric: AnyObject, Sendable {
    /// "verbs" or "loopback".
    var name: String { get }

    /// Registers this rank's memory and connects it with its peers'.
    ///
    /// Collective: every rank of the world, also those without peers.
    ///
    /// - Returns: This rank's queues: `request.queuesPerPeer` to each peer, in the order of
    ///   `request.peers`.
    /// - Throws: `unsupported` naming the ranks without a common fabric, what NICs they have and why
    ///   each was rejected; `outOfMemory` when memory cannot be registered; `networkFailure`;
    ///   `timedOut`, `peerLost`, `aborted` of the bootstrap. The same error on every rank.
    func connect(
        _ request: FabricRequest, over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) -> any FabricLink
}

/// What one rank asks of a fabric.
package struct FabricRequest: Sendable {
    /// Whose memory is registered.
    package var device: Device
    /// This rank's memory: what peers write into, and what it writes from.
    package var address: UInt
    /// Its bytes, the same on every rank.
    package var byteCount: Int
    /// Where each rank's memory lies for this one; 0 where it is not mapped.
    package var mappedAddresses: [UInt]
    /// The ranks that this one exchanges writes with, ascending.
    ///
    /// If a names b, b names a.
    package var peers: [Int]
    /// Queues to each peer, 1 or more.
    package var queuesPerPeer: Int
    /// What for, in words, for the errors.
    package var purpose: String

    /// Creates a request.
    package init(
        device: Device, address: UInt, byteCount: Int, mappedAddresses: [UInt], peers: [Int],
        queuesPerPeer: Int, purpose: String
    ) {
        self.device = device
        self.address = address
        self.byteCount = byteCount
        self.mappedAddresses = mappedAddresses
        self.peers = peers
        self.queuesPerPeer = queuesPerPeer
        self.purpose = purpose
    }
}

/// One write, as the proxy hands it to a queue.
package struct WorkRequest: Sendable {
    /// What is written.
    package enum Kind: UInt8, Sendable {
        /// Bytes from this rank's registered memory.
        case payload
        /// Eight bytes that the request itself carries, stored as one aligned word.
        case word
    }

    /// What is written.
    package var kind: Kind
    /// Whether a completion is wanted: it then covers all requests of the queue before it too.
    package var isSignaled: Bool
    /// Bytes; 8 for a word.
    package var byteCount: UInt32
    /// Where the payload lies in this rank's memory: byte offset from its begin.
    package var source: UInt64
    /// Where it goes in the peer's memory: byte offset from its begin.
    package var destination: UInt64
    /// The word.
    package var value: UInt64
    /// What the completion gives back.
    package var id: UInt64

    /// Creates a request.
    package init(
        kind: Kind, isSignaled: Bool, byteCount: UInt32, source: UInt64, destination: UInt64,
        value: UInt64, id: UInt64
    ) {
        self.kind = kind
        self.isSignaled = isSignaled
        self.byteCount = byteCount
        self.source = source
        self.destination = destination
        self.value = value
        self.id = id
    }
}

/// The end of a signaled request, and of all before it on its queue.
package struct WorkCompletion: Sendable {
    /// The request's id.
    package var id: UInt64
    /// The queue that it was posted to.
    package var queue: Int32
    /// 0: done; else the fabric's own number of the error (ibv_wc_status for verbs).
    package var status: Int32
    /// The vendor's number beside it; 0 where there is none.
    package var vendorError: UInt32

    /// Creates a completion.
    package init(id: UInt64, queue: Int32, status: Int32, vendorError: UInt32 = 0) {
        self.id = id
        self.queue = queue
        self.status = status
        self.vendorError = vendorError
    }
}

/// One rank's queues to its peers.
///
/// Used by one thread, the proxy's, which neither allocates nor locks: an implementation must not
/// either in `post` and `poll`.
package protocol FabricLink: AnyObject, Sendable {
    /// Requests of one queue that may be posted and not completed.
    var queueDepth: Int { get }
    /// Bytes of one request, at most.
    var maxRequestByteCount: Int { get }
    /// Whether writes of one queue become visible in their order (protocol rule P9).
    var ordersWrites: Bool { get }
    /// Whether a word that arrives wakes a host thread that sleeps on it.
    var wakesReaders: Bool { get }

    /// Hands a chain to a queue, all of it or none: at most `queueDepth` less what is under way.
    ///
    /// - Returns: 0, or the errno of the refusal.
    func post(_ chain: UnsafePointer<WorkRequest>, count: Int, to queue: Int) -> Int32

    /// Takes completions, at most `capacity`.
    ///
    /// - Returns: How many; negative: an errno, when the queues cannot be polled any more.
    func poll(_ completions: UnsafeMutablePointer<WorkCompletion>, capacity: Int) -> Int

    /// What an error of a completion means, in the fabric's own words.
    func words(for completion: WorkCompletion) -> String

    /// Ends the connections and gives the registration back. No call may follow.
    func close()
}

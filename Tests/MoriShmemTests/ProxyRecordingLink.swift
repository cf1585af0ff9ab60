import Glibc
import MoriShmem

/// A fabric's link that writes nothing: it keeps what is posted and completes when a test says so.
/// Tests drive the channel's turns themselves, on one thread.
final class RecordingLink: FabricLink, @unchecked Sendable {
    /// One call of `post` that was accepted.
    struct Post {
        var queue: Int
        var requests: [WorkRequest]
    }

    let queueDepth: Int
    let maxRequestByteCount: Int
    let ordersWrites = true
    let wakesReaders = true

    private(set) var posts: [Post] = []
    /// Completions that the proxy took.
    private(set) var completionCount = 0
    /// The most requests and bytes that were ever under way on one queue.
    private(set) var mostUnderWay = 0
    private(set) var mostBytesUnderWay = 0
    /// What `post` and `poll` answer in place of doing anything.
    var postStatus: Int32 = 0
    var pollStatus = 0

    private var underWay: [Int: [WorkRequest]] = [:]
    private var ready: [WorkCompletion] = []

    init(queueDepth: Int = 64, maxRequestByteCount: Int = 1 << 20) {
        self.queueDepth = queueDepth
        self.maxRequestByteCount = maxRequestByteCount
    }

    func post(_ chain: UnsafePointer<WorkRequest>, count: Int, to queue: Int) -> Int32 {
        guard postStatus == 0 else { return postStatus }
        let requests = unsafe Array(UnsafeBufferPointer(start: chain, count: count))
        posts.append(Post(queue: queue, requests: requests))
        let all = (underWay[queue] ?? []) + requests
        underWay[queue] = all
        mostUnderWay = max(mostUnderWay, all.count)
        mostBytesUnderWay = max(mostBytesUnderWay, all.reduce(0) { $0 + Int($1.byteCount) })
        return 0
    }

    func poll(_ completions: UnsafeMutablePointer<WorkCompletion>, capacity: Int) -> Int {
        guard pollStatus == 0 else { return pollStatus }
        let count = min(capacity, ready.count)
        for (place, completion) in ready.prefix(count).enumerated() {
            unsafe completions[place] = completion
        }
        ready.removeFirst(count)
        completionCount += count
        return count
    }

    func words(for completion: WorkCompletion) -> String { "status \(completion.status) of a test" }

    func close() {}

    /// The requests of a queue, in the order of their posts.
    func requests(of queue: Int) -> [WorkRequest] {
        posts.filter { $0.queue == queue }.flatMap(\.requests)
    }

    /// Requests under way on a queue.
    func underWayCount(_ queue: Int) -> Int { underWay[queue]?.count ?? 0 }

    /// Completes the oldest requests of a queue, the first `count` or all; tells the proxy of those
    /// that are signaled.
    func complete(_ queue: Int, first count: Int = .max) {
        let all = underWay[queue] ?? []
        for request in all.prefix(count) where request.isSignaled {
            ready.append(WorkCompletion(id: request.id, queue: Int32(queue), status: 0))
        }
        // What no completion tells of is under way for the proxy.
        let last = all.prefix(count).lastIndex(where: \.isSignaled) ?? -1
        underWay[queue] = Array(all.dropFirst(last + 1))
    }

    /// Completes everything that is under way.
    func completeAll() { for queue in underWay.keys.sorted() { complete(queue) } }

    /// Reports a completion that nothing led to, or an error.
    func report(_ completion: WorkCompletion) { ready.append(completion) }
}

/// A channel over a recording link.
struct RecordedChannel {
    let link: RecordingLink
    let rings: TestRings
    let failures = Failures()
    let channel: ProxyChannel

    /// Rank 0 of a world whose other ranks are all peers.
    init(
        _ link: RecordingLink = RecordingLink(), rings: TestRings = TestRings(), peers: Int = 1,
        queuesPerPeer: Int = 1, segmentByteCount: Int = 1 << 20,
        settings: ProxySettings = ProxySettings()
    ) throws {
        self.link = link
        self.rings = rings
        let failures = failures
        channel = try ProxyChannel(
            link: link, rank: 0, worldSize: peers + 1, peers: Array(1...peers),
            queuesPerPeer: queuesPerPeer, memory: rings.memory, segmentByteCount: segmentByteCount,
            settings: settings, onFailure: { failures.add($0, $1) })
    }

    /// Turns until nothing moves, completing everything in between.
    func finish() {
        repeat { link.completeAll() } while channel.turn().progressed
    }
}

import CMoriSystem
import Glibc
import MoriDevice
import MoriShmem

/// One rank's sending, receiving and checking, by one thread.
@safe
final class Exchange: @unchecked Sendable {
    /// Why an exchange ended early.
    enum Failure: Sendable {
        /// A write ended with an error, in the fabric's words.
        case completion(words: String, peer: Int)
        /// The queue took no further request.
        case refused(errno: Int32, peer: Int)
        /// 8 bytes of a message are not what was sent.
        case wrong(String)
        /// The deadline passed.
        case timedOut(String)
    }

    /// One queue to a peer, and the peer's queue to this rank.
    private struct Edge {
        var peer: Int
        var queue: Int
        var sent = 0
        var received = 0
        var underWay = 0
        var completed = 0
    }

    private let link: any FabricLink
    private let rank: Int
    private let layout: MessageLayout
    private let memory: DeviceBuffer
    private let messages: Int
    private let queuesPerPeer: Int
    private var edges: [Edge] = []
    private var posts = 0
    private var completions = 0

    init(
        _ link: any FabricLink, rank: Int, request: FabricRequest, layout: MessageLayout,
        memory: DeviceBuffer, messages: Int
    ) {
        self.link = link
        self.rank = rank
        self.layout = layout
        self.memory = memory
        self.messages = messages
        queuesPerPeer = request.queuesPerPeer
        for peer in request.peers {
            for queue in 0..<request.queuesPerPeer { edges.append(Edge(peer: peer, queue: queue)) }
        }
    }

    /// When the last message was sent, received or completed.
    private(set) var lastProgress = ContinuousClock.now

    /// What was done, for the log.
    var summary: String {
        let received = edges.reduce(0) { $0 + $1.received }
        return
            "\(received) messages of \(layout.byteCount) bytes received and right, \(posts) posts,"
            + " \(completions) completions, queue depth \(link.queueDepth)"
    }

    /// Sends and checks all messages.
    ///
    /// - Parameter deadline: How long it may take without any progress.
    /// - Returns: nil when all went well.
    func run(deadline: Duration) -> Failure? {
        var last = ContinuousClock.now
        var lastProbe = last
        while edges.contains(where: { !isDone($0) }) {
            var hasMoved = false
            for index in edges.indices {
                if let failure = send(index, &hasMoved) { return failure }
                if let failure = receive(index, &hasMoved) { return failure }
            }
            if let failure = poll(&hasMoved) { return failure }
            if hasMoved {
                last = .now
                lastProgress = last
            } else {
                sched_yield()
                let now = ContinuousClock.now
                guard now - last < deadline else {
                    return .timedOut("\(edges.filter { !isDone($0) })")
                }
                // A peer that has acknowledged everything and then died is only missed by a write.
                if now - max(last, lastProbe) > .milliseconds(500) {
                    lastProbe = now
                    for index in edges.indices where edges[index].underWay == 0 {
                        if let failure = giveBack(index) { return failure }
                    }
                }
            }
        }
        return nil
    }

    private func isDone(_ edge: Edge) -> Bool {
        edge.received == messages && edge.sent == messages && edge.underWay == 0
            && taken(edge) == messages
    }

    /// Messages of this edge that the peer has taken.
    private func taken(_ edge: Edge) -> Int {
        Int(load(layout.taken(edge.peer, edge.queue)))
    }

    // -------------------------------------------------------------------------------------------
    // Sending

    /// Sends the next message if the peer has room: three writes and the word, one chain.
    private func send(_ index: Int, _ hasMoved: inout Bool) -> Failure? {
        let edge = edges[index]
        guard edge.sent < messages, edge.sent - taken(edge) < MessageLayout.window,
            edge.underWay + 5 <= link.queueDepth
        else { return nil }
        let source = layout.outgoing(edge.peer, edge.queue, edge.sent)
        for place in 0..<layout.byteCount / 8 {
            store(
                source + 8 * place,
                MessageLayout.content(
                    from: rank, to: edge.peer, queue: edge.queue, number: edge.sent, index: place))
        }
        let destination = layout.incoming(rank, edge.queue, edge.sent)
        let part = layout.byteCount / 3
        var chain = (0..<3).map { number in
            WorkRequest(
                kind: .payload, isSignaled: false, byteCount: UInt32(part),
                source: UInt64(source + number * part),
                destination: UInt64(destination + number * part), value: 0, id: 0)
        }
        // Selective completions: every other message's, which covers the one before.
        let isSignaled = !edge.sent.isMultiple(of: 2) || edge.sent + 1 == messages
        chain.append(
            word(
                layout.word(rank, edge.queue, edge.sent), UInt64(edge.sent + 1),
                isSignaled: isSignaled, index))
        edges[index].sent += 1
        hasMoved = true
        return post(&chain, index)
    }

    private func word(
        _ destination: Int, _ value: UInt64, isSignaled: Bool, _ index: Int
    ) -> WorkRequest {
        WorkRequest(
            kind: .word, isSignaled: isSignaled, byteCount: 8, source: 0,
            destination: UInt64(destination), value: value, id: 0)
    }

    private func post(_ chain: inout [WorkRequest], _ index: Int) -> Failure? {
        edges[index].underWay += chain.count
        posts += 1
        // The completion says how many requests of the queue were posted up to it.
        let total = UInt64(edges[index].completed + edges[index].underWay)
        for place in chain.indices { chain[place].id = total }
        let status = unsafe link.post(chain, count: chain.count, to: index)
        return status == 0 ? nil : .refused(errno: status, peer: edges[index].peer)
    }

    // -------------------------------------------------------------------------------------------
    // Receiving

    /// Takes the next message if its word is there, checks it and gives its place back.
    private func receive(_ index: Int, _ hasMoved: inout Bool) -> Failure? {
        let edge = edges[index]
        let number = edge.received
        guard number < messages,
            load(layout.word(edge.peer, edge.queue, number)) == UInt64(number + 1),
            edge.underWay < link.queueDepth
        else { return nil }
        let begin = layout.incoming(edge.peer, edge.queue, number)
        for place in 0..<layout.byteCount / 8 {
            let expected = MessageLayout.content(
                from: edge.peer, to: rank, queue: edge.queue, number: number, index: place)
            let found = load(begin + 8 * place)
            guard found == expected else {
                return .wrong(
                    "message \(number) of rank \(edge.peer) on queue \(edge.queue): bytes from"
                        + " \(8 * place) are \(found), sent were \(expected)")
            }
            // So that a later message that does not come cannot pass for one.
            store(begin + 8 * place, .max)
        }
        edges[index].received += 1
        hasMoved = true
        return giveBack(index)
    }

    /// Tells the peer how many of its messages were taken.
    private func giveBack(_ index: Int) -> Failure? {
        let edge = edges[index]
        var chain = [
            word(layout.taken(rank, edge.queue), UInt64(edge.received), isSignaled: true, index)
        ]
        return post(&chain, index)
    }

    /// Takes completions; one covers all requests of its queue before it.
    private func poll(_ hasMoved: inout Bool) -> Failure? {
        let none = WorkCompletion(id: 0, queue: 0, status: 0, vendorError: 0)
        var found = [WorkCompletion](repeating: none, count: 32)
        let count = unsafe link.poll(&found, capacity: found.count)
        guard count >= 0 else { return .completion(words: "poll: \(count)", peer: -1) }
        for completion in found.prefix(count) {
            let index = Int(completion.queue)
            guard completion.status == 0 else {
                return .completion(words: link.words(for: completion), peer: edges[index].peer)
            }
            completions += 1
            let total = edges[index].completed + edges[index].underWay
            edges[index].completed = Int(completion.id)
            edges[index].underWay = total - Int(completion.id)
            hasMoved = true
        }
        return nil
    }

    // -------------------------------------------------------------------------------------------
    // Memory

    private func load(_ offset: Int) -> UInt64 {
        guard
            let pointer = unsafe UnsafePointer<UInt64>(
                bitPattern: memory.address + UInt(offset))
        else { return 0 }
        return unsafe mori_load_acquire_u64(pointer)
    }

    private func store(_ offset: Int, _ value: UInt64) {
        guard
            let pointer = unsafe UnsafeMutablePointer<UInt64>(
                bitPattern: memory.address + UInt(offset))
        else { return }
        unsafe pointer.pointee = value
    }
}

import CMoriSystem
import MoriDevice

/// What a channel's proxy did: its posts and the completions of the fabric.
///
/// The proxy's thread asks one word whether anybody wants to know.
@safe
package final class NetworkTrace: @unchecked Sendable {
    /// A chain that was handed to a queue.
    struct Post: Sendable {
        var queue: Int
        var peer: Int
        var isCombine: Bool
        var epoch: Int
        var requests: Int
        var byteCount: Int
        var lastID: UInt64
        var begin: UInt64
        var end: UInt64
        var completed: UInt64?
    }

    private struct State {
        var posts: [Post] = []
        /// By queue, the first post that is not complete.
        var open: [Int: [Int]] = [:]
        var capacity = 0
        var lost = 0
    }

    private let isOn: UnsafeMutablePointer<UInt64>
    private let state = Locked(State())

    init() {
        unsafe isOn = .allocate(capacity: 1)
        unsafe isOn.initialize(to: 0)
    }

    deinit { unsafe isOn.deallocate() }

    // MARK: Any thread

    /// Begins anew, with room for so many posts.
    package func start(capacity: Int) {
        state.withLock { $0 = State(capacity: capacity) }
        unsafe mori_store_release_u64(isOn, 1)
    }

    package func stop() { unsafe mori_store_release_u64(isOn, 0) }

    /// Posts that found no room.
    package var lost: Int { state.withLock { $0.lost } }

    /// What happened, as events of an operator whose first track is `first`.
    package func events(first: Int) -> [TraceEvent] {
        let posts = state.withLock { $0.posts }
        let last = posts.map { $0.completed ?? $0.end }.max() ?? 0
        var events: [TraceEvent] = []
        for (number, post) in posts.enumerated() {
            let verb = post.isCombine ? "combine" : "dispatch"
            let details = [
                (name: "peer", value: post.peer), (name: "epoch", value: post.epoch),
                (name: "bytes", value: post.byteCount), (name: "requests", value: post.requests),
            ]
            events.append(
                TraceEvent(
                    .slice(end: post.end), track: first + TraceEvent.proxyTrack,
                    name: "post \(verb) to rank \(post.peer)", category: .proxy, time: post.begin,
                    details: details))
            if let completed = post.completed {
                events.append(
                    TraceEvent(
                        .instant, track: first + TraceEvent.proxyTrack,
                        name: "completion of rank \(post.peer)", category: .proxy, time: completed,
                        details: details))
            }
            events.append(
                TraceEvent(
                    // Of what is not complete, as far as is known.
                    .underWay(end: max(post.completed ?? last, post.end), id: "\(first)/\(number)"),
                    track: first + TraceEvent.networkTrack,
                    name: "\(verb) to rank \(post.peer)"
                        + (post.completed == nil ? ", not complete" : ""),
                    category: .nic, time: post.end, details: details))
        }
        return events
    }

    // MARK: The proxy's thread

    /// The time, where somebody takes a trace; else 0.
    @inline(__always)
    var time: UInt64 {
        unsafe mori_load_relaxed_u64(isOn) == 0 ? 0 : TraceEvent.now()
    }

    func note(_ post: Post) {
        state.withLock { state in
            guard state.posts.count < state.capacity else {
                state.lost += 1
                return
            }
            state.open[post.queue, default: []].append(state.posts.count)
            state.posts.append(post)
        }
    }

    /// Everything on a queue up to a request is complete.
    func complete(_ id: UInt64, queue: Int, at time: UInt64) {
        state.withLock { state in
            guard var open = state.open[queue] else { return }
            var done = 0
            while done < open.count, state.posts[open[done]].lastID <= id {
                state.posts[open[done]].completed = time
                done += 1
            }
            open.removeFirst(done)
            state.open[queue] = open
        }
    }
}

import MoriDevice

/// One rank's side of a bootstrap: its waits and what has been heard.
///
/// `receive` is called by whatever carries the messages; it resumes waiting tasks and calls the
/// event handler on the caller's thread.
final class Inbox: Sendable {
    private enum Outcome {
        case gathered([[UInt8]])
        case failed(MoriError)
        /// The deadline passed without these ranks; nil when the store did not even say who.
        case missing([Int]?)
    }

    private enum Call {
        case begun
        case waiting(CheckedContinuation<Outcome, Never>)
        case resolved(Outcome)
    }

    private struct State {
        /// How many calls each name has had.
        var counts: [String: UInt32] = [:]
        /// The world itself is expected from the start: it may be complete before anyone waits.
        var calls: [GatherID: Call] = [.join: .begun]
        /// The first thing that ended the world's rounds for this rank; it stays.
        var failure: MoriError?
        var handler: (@Sendable (BootstrapEvent) -> Void)?
        var seen: Set<BootstrapEvent> = []
        var unheard: [BootstrapEvent] = []
        var isClosed = false
    }

    /// How long after the deadline the store may take to say who is missing.
    private static let graceOfQuery = Duration.milliseconds(500)

    private let rank: Int
    private let worldSize: Int
    /// The rank that serves the store.
    let leader: Int
    private let state = Locked(State())

    /// Creates the inbox of a rank.
    init(rank: Int, worldSize: Int, leader: Int = 0) {
        self.rank = rank
        self.worldSize = worldSize
        self.leader = leader
    }

    /// Contributes to an all-gather and waits for its result.
    ///
    /// - Parameters:
    ///   - name: What is gathered.
    ///   - value: This rank's bytes.
    ///   - timeout: How long to wait for the other ranks.
    ///   - send: Sends a message to the store, without waiting.
    /// - Returns: The bytes of all ranks, by rank.
    /// - Throws: As `Bootstrap.allGather(_:_:timeout:)`.
    func gather(
        _ name: String, _ value: [UInt8], timeout: Duration,
        send: @escaping @Sendable (RankMessage) -> Void
    ) async throws(MoriError) -> [[UInt8]] {
        guard !name.isEmpty, name.utf8.count <= BootstrapLimit.name else {
            throw MoriError(
                .invalidArgument,
                "the name of an all-gather has \(name.utf8.count) bytes; 1 to "
                    + "\(BootstrapLimit.name) are legal")
        }
        let most = BootstrapLimit.value(worldSize: worldSize)
        guard value.count <= most else {
            throw MoriError(
                .invalidArgument,
                "all-gather \"\(name)\": \(value.count) bytes of rank \(rank) are too many; at "
                    + "most \(most) are legal with \(worldSize) ranks")
        }
        let id = try begin(name)
        return try await wait(for: id, timeout: timeout, contribution: value, send: send)
    }

    /// Waits until all ranks are there.
    func awaitWorld(
        timeout: Duration, send: @escaping @Sendable (RankMessage) -> Void
    ) async throws(MoriError) {
        _ = try await wait(for: .join, timeout: timeout, contribution: nil, send: send)
    }

    /// Takes what the store says.
    func receive(_ message: StoreMessage) {
        switch message {
        case .gathered(let id, let values): resolve(id, .gathered(values))
        case .incomplete(let id, let missing): resolve(id, .missing(missing))
        case .departed(let id, let ranks):
            let error = MoriError(
                .peerLost, "\(label(id)) cannot be complete: \(rankList(ranks)) left the world",
                ranks: ranks)
            resolve(id, .failed(error))
        case .peerLost(let lost): peerLost(lost, why: "its connection ended without goodbye")
        case .aborted(let by, let culprit, let message):
            let blame = culprit.map { ", which holds rank \($0) responsible" } ?? ""
            let error = MoriError(
                .aborted, "rank \(by) aborted\(blame): \(message)", ranks: [culprit ?? by])
            fail(error, event: .aborted(by: by, culprit: culprit, message: message))
        case .failed(let error): fail(error)
        case .waits(let by, let ranks): announce(.waits(by: by, for: ranks))
        case .farewell:
            fail(
                MoriError(
                    .peerLost,
                    "rank \(leader) closed the world's store while rank \(rank) was still there",
                    ranks: [leader]))
        }
    }

    /// Takes note that a rank was lost.
    func peerLost(_ lost: Int, why: String) {
        fail(
            MoriError(.peerLost, "rank \(lost) was lost: \(why)", ranks: [lost]),
            event: .peerLost(rank: lost))
    }

    /// Ends all waits, now and from now on, and reports the event if it is new.
    func fail(_ error: MoriError, event: BootstrapEvent? = nil) {
        let (waiting, handler) = state.withLock { state in
            state.failure = state.failure ?? error
            let waiting = Self.resolveAll(&state, .failed(error))
            guard let event, !state.isClosed, state.seen.insert(event).inserted else {
                return (waiting, (@Sendable (BootstrapEvent) -> Void)?.none)
            }
            if state.handler == nil { state.unheard.append(event) }
            return (waiting, state.handler)
        }
        // Outside the lock: a handler may call back. Before the waits end: who is told of a failure
        // finds that the world knows of it.
        if let handler, let event { handler(event) }
        for continuation in waiting { continuation.resume(returning: .failed(error)) }
    }

    /// Tells the handler of something that ends nothing by itself.
    private func announce(_ event: BootstrapEvent) {
        let handler = state.withLock { state -> (@Sendable (BootstrapEvent) -> Void)? in
            guard !state.isClosed, state.seen.insert(event).inserted else { return nil }
            if state.handler == nil { state.unheard.append(event) }
            return state.handler
        }
        handler?(event)
    }

    /// Sets the handler and gives it what came before.
    func setHandler(_ handler: @escaping @Sendable (BootstrapEvent) -> Void) {
        let unheard = state.withLock { state in
            guard !state.isClosed else { return [BootstrapEvent]() }
            state.handler = handler
            defer { state.unheard = [] }
            return state.unheard
        }
        for event in unheard { handler(event) }
    }

    /// Ends all waits with `.closed` and forgets the handler.
    func close() {
        let error = MoriError(.closed, "rank \(rank) closed its world")
        let waiting = state.withLock { state in
            state.isClosed = true
            state.handler = nil
            state.unheard = []
            state.failure = error
            return Self.resolveAll(&state, .failed(error))
        }
        for continuation in waiting { continuation.resume(returning: .failed(error)) }
    }

    // MARK: Calls

    private func begin(_ name: String) throws(MoriError) -> GatherID {
        let begun: Result<GatherID, MoriError> = state.withLock { state in
            if let failure = state.failure { return .failure(failure) }
            let call = state.counts[name, default: 0]
            state.counts[name] = call &+ 1
            let id = GatherID(name: name, call: call)
            state.calls[id] = .begun
            return .success(id)
        }
        return try begun.get()
    }

    private func wait(
        for id: GatherID, timeout: Duration, contribution: [UInt8]?,
        send: @escaping @Sendable (RankMessage) -> Void
    ) async throws(MoriError) -> [[UInt8]] {
        if let contribution { send(.gather(id, value: contribution)) }
        let deadline = Task {
            try await Self.sleep(for: timeout)
            send(.query(id))
            try await Self.sleep(for: Self.graceOfQuery)
            self.resolve(id, .missing(nil))
        }
        defer { deadline.cancel() }
        let outcome = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let early = state.withLock { state -> Outcome? in
                    guard case .resolved(let result) = state.calls[id] else {
                        state.calls[id] = .waiting(continuation)
                        return nil
                    }
                    state.calls[id] = nil
                    return result
                }
                if let early { continuation.resume(returning: early) }
            }
        } onCancel: {
            resolve(id, .failed(MoriError(.aborted, "\(label(id)): the task was cancelled")))
        }
        switch outcome {
        case .gathered(let values): return values
        case .failed(let error): throw error
        case .missing(nil):
            throw MoriError(
                .timedOut,
                "\(label(id)): rank \(leader)'s store gave no answer within \(timeout.inSeconds)",
                ranks: [leader])
        case .missing(let ranks?):
            throw MoriError(
                .timedOut,
                "\(label(id)): \(rankList(ranks)) did not come within \(timeout.inSeconds)",
                ranks: ranks)
        }
    }

    /// In short pieces: a sleep that is cancelled keeps its task's memory until it would have ended,
    /// and most of these are cancelled long before.
    private static func sleep(for duration: Duration) async throws {
        let end = ContinuousClock.now + duration
        while true {
            let now = ContinuousClock.now
            guard now < end else { return }
            try await Task.sleep(until: min(end, now + .milliseconds(100)))
        }
    }

    private func resolve(_ id: GatherID, _ result: Outcome) {
        let continuation = state.withLock { Self.resolve(&$0, id, result) }
        continuation?.resume(returning: result)
    }

    /// Ends a call; the continuation is to be resumed outside the lock.
    private static func resolve(
        _ state: inout State, _ id: GatherID, _ result: Outcome
    ) -> CheckedContinuation<Outcome, Never>? {
        switch state.calls[id] {
        case .waiting(let continuation):
            state.calls[id] = nil
            return continuation
        case .begun:
            state.calls[id] = .resolved(result)
            return nil
        case .resolved, nil: return nil
        }
    }

    private static func resolveAll(
        _ state: inout State, _ result: Outcome
    ) -> [CheckedContinuation<Outcome, Never>] {
        Array(state.calls.keys).compactMap { resolve(&state, $0, result) }
    }

    private func label(_ id: GatherID) -> String {
        id == .join
            ? "rank \(rank) joining a world of \(worldSize)"
            : "\"\(id.name)\" (call \(id.call + 1)) on rank \(rank)"
    }
}

/// "rank 3", "ranks 3 and 5", "ranks 1, 2 and 9"; long lists are cut after sixteen.
func rankList(_ ranks: [Int]) -> String {
    guard ranks.count > 1, let last = ranks.last else {
        return "rank " + (ranks.first.map(String.init) ?? "?")
    }
    guard ranks.count <= 16 else {
        let first = ranks.prefix(16).map(String.init).joined(separator: ", ")
        return "ranks \(first) and \(ranks.count - 16) more"
    }
    return "ranks " + ranks.dropLast().map(String.init).joined(separator: ", ") + " and \(last)"
}

extension Duration {
    /// "2.5 s", to the millisecond.
    var inSeconds: String {
        let parts = components
        let milliseconds = parts.attoseconds / 1_000_000_000_000_000
        guard milliseconds != 0 else { return "\(parts.seconds) s" }
        var digits = String(1000 + milliseconds).dropFirst()
        while digits.last == "0" { digits.removeLast() }
        return "\(parts.seconds).\(digits) s"
    }
}

import Synchronization

/// Where requests meet the ranks: a bounded queue, and the sequences that run.
///
/// Requests join and leave the running batch between steps. Each rank has a fixed number of places;
/// a request takes one on the rank with the most free.
package final class RequestBoard: Sendable {
    /// Why a request was not taken.
    package enum Refusal: Error, Hashable, CustomStringConvertible {
        /// As many wait as may: this many.
        case full(queue: Int)
        /// A sequence has no room for it.
        case doesNotFit(promptBytes: Int, maxTokens: Int, context: Int)
        /// The ranks do no steps, for this reason.
        case unavailable(String)

        package var description: String {
            switch self {
            case .full(let queue):
                "\(queue) requests wait already, which is the most that may; try again"
            case .doesNotFit(let promptBytes, let maxTokens, let context):
                "a prompt of \(promptBytes) bytes and \(maxTokens) tokens; legal are prompts of up to"
                    + " \(context - 1) bytes, and 1 token or more up to \(context) with the prompt's"
                    + " bytes"
            case .unavailable(let reason): reason
            }
        }
    }

    /// What comes of a request.
    package enum Update: Hashable, Sendable {
        case token(TokenEvent)
        /// The ranks failed; nothing more follows.
        case failed(String)
    }

    /// How things are.
    package struct Status: Hashable, Sendable {
        package var waiting = 0
        package var running = 0
        package var places = 0
        package var activeRanks: [Int] = []
        /// Why no steps are done; nil while they are.
        package var failure: String?
        /// Ranks' failures so far.
        package var failures = 0
        package var steps = 0
        package var tokens = 0
    }

    /// Bounds of the board.
    struct Limits: Sendable {
        /// Sequences that run at the same time on each rank, by rank.
        var places: [Int]
        /// Requests that may wait.
        var queue: Int
        /// Positions of a sequence; a rank reads as many rows in one prefill.
        var context: Int

        /// Spreads the places over the ranks, one more on the first ones where it does not come out even.
        init(batch: Int, worldSize: Int, queue: Int, context: Int) {
            places = (0..<worldSize).map { rank in
                batch / worldSize + (rank < batch % worldSize ? 1 : 0)
            }
            self.queue = queue
            self.context = context
        }
    }

    private struct Request {
        let parameters: CompletionParameters
        let updates: AsyncStream<Update>.Continuation
        var rank: Int?
    }

    private struct State {
        var requests: [UInt64: Request] = [:]
        var waiting: [UInt64] = []
        var cancellations: [UInt64] = []
        var free: [Int: Int] = [:]
        var nextID: UInt64 = 1
        var isStopping = false
        var failure: String?
        var failures = 0
        var steps = 0
        var tokens = 0
        /// Rank 0, while there is nothing to do.
        var idle: CheckedContinuation<Void, Never>?
    }

    private let limits: Limits
    private let state: Mutex<State>

    init(_ limits: Limits, ranks: [Int]) {
        self.limits = limits
        var state = State()
        for rank in ranks { state.free[rank] = limits.places[rank] }
        self.state = Mutex(state)
    }

    /// How things are.
    package var status: Status {
        state.withLock { state in
            Status(
                waiting: state.waiting.count,
                running: state.requests.count - state.waiting.count,
                places: state.free.keys.reduce(0) { $0 + limits.places[$1] },
                activeRanks: state.free.keys.sorted(), failure: state.failure,
                failures: state.failures, steps: state.steps, tokens: state.tokens)
        }
    }

    // -------------------------------------------------------------------------------------------
    // Requests

    /// Takes a request.
    ///
    /// One that no sequence has room for is refused here, whoever asks: at the head of the queue it would
    /// wait for ever, and everybody behind it.
    ///
    /// - Returns: Its number, and what comes of it: the last update is a token that finishes, or a
    ///   failure. Whoever stops listening before ends the request.
    package func submit(
        _ parameters: CompletionParameters
    ) throws(Refusal) -> (id: UInt64, updates: AsyncStream<Update>) {
        let room = limits.context - parameters.prompt.count
        guard room >= 1, (1...room).contains(parameters.maxTokens) else {
            throw .doesNotFit(
                promptBytes: parameters.prompt.count, maxTokens: parameters.maxTokens,
                context: limits.context)
        }
        let (updates, continuation) = AsyncStream<Update>.makeStream()
        let id = try state.withLock { (state) throws(Refusal) in
            if state.isStopping { throw .unavailable("the server is stopping") }
            if let failure = state.failure { throw .unavailable(failure) }
            guard state.waiting.count < limits.queue else { throw .full(queue: limits.queue) }
            let id = state.nextID
            state.nextID += 1
            state.requests[id] = Request(parameters: parameters, updates: continuation)
            state.waiting.append(id)
            return id
        }
        continuation.onTermination = { [weak self] reason in
            if case .cancelled = reason { self?.cancel(id) }
        }
        wake()
        return (id, updates)
    }

    /// Ends a request whose client is gone, or has enough.
    package func cancel(_ id: UInt64) {
        let cancelled = state.withLock { state -> Request? in
            guard let request = state.requests.removeValue(forKey: id) else { return nil }
            if let rank = request.rank {
                state.cancellations.append(id)
                state.free[rank]? += 1
            } else {
                state.waiting.removeAll { $0 == id }
            }
            return request
        }
        // Of one that is over the ranks need not hear.
        guard let cancelled else { return }
        cancelled.updates.finish()
        wake()
    }

    /// Ends the steps: what runs is finished by `failAll`.
    func stop() {
        state.withLock { $0.isStopping = true }
        failAll("the server is stopping")
        wake()
    }

    // -------------------------------------------------------------------------------------------
    // Steps

    /// What to do next; suspends while there is nothing, until `wake` at the latest.
    func nextPlan() async -> StepPlan {
        await withCheckedContinuation { continuation in
            let goesOn = state.withLock { state in
                let isIdle =
                    state.requests.isEmpty && state.cancellations.isEmpty && !state.isStopping
                if isIdle { state.idle = continuation }
                return !isIdle
            }
            if goesOn { continuation.resume() }
        }
        return state.withLock { plan(&$0) }
    }

    /// Lets rank 0 do a step although there is nothing to do, so that the others need not wait long.
    func wake() {
        let idle = state.withLock { state in
            defer { state.idle = nil }
            return state.idle
        }
        idle?.resume()
    }

    private func plan(_ state: inout State) -> StepPlan {
        var plan = StepPlan(cancellations: state.cancellations, stops: state.isStopping)
        state.cancellations = []
        var room: [Int: Int] = [:]
        while let id = state.waiting.first, let parameters = state.requests[id]?.parameters {
            let rows = parameters.prompt.count + 1
            // The emptiest rank, the lowest of equals.
            let ranks = state.free.filter { rank, free in
                free > 0 && room[rank, default: limits.context] >= rows
            }
            guard let rank = ranks.max(by: { ($0.value, -$0.key) < ($1.value, -$1.key) })?.key
            else { break }
            room[rank, default: limits.context] -= rows
            state.free[rank]? -= 1
            state.requests[id]?.rank = rank
            state.waiting.removeFirst()
            plan.admissions.append(
                StepPlan.Admission(id: id, rank: rank, parameters: parameters))
        }
        plan.decodes = state.requests.count > state.waiting.count
        state.steps += 1
        return plan
    }

    /// Hands tokens to their requests.
    func deliver(_ events: [TokenEvent]) {
        guard !events.isEmpty else { return }
        state.withLock { state in
            state.tokens += events.count
            for event in events {
                guard let request = state.requests[event.id] else { continue }
                request.updates.yield(.token(event))
                guard event.finish != .none else { continue }
                request.updates.finish()
                state.requests[event.id] = nil
                if let rank = request.rank { state.free[rank]? += 1 }
            }
        }
    }

    // -------------------------------------------------------------------------------------------
    // Failures

    /// The ranks' rounds ended: no request goes on, and none is taken until `resume`.
    func fail(_ reason: String) {
        state.withLock { state in
            state.failure = reason
            state.failures += 1
        }
        failAll(reason)
    }

    /// Steps are done again, by these ranks.
    func resume(with ranks: [Int]) {
        state.withLock { state in
            state.failure = nil
            state.free = [:]
            for rank in ranks { state.free[rank] = limits.places[rank] }
        }
    }

    private func failAll(_ reason: String) {
        let requests = state.withLock { state in
            defer {
                for request in state.requests.values {
                    if let rank = request.rank { state.free[rank]? += 1 }
                }
                state.cancellations = []
                state.requests = [:]
                state.waiting = []
            }
            return state.requests
        }
        for request in requests.values {
            request.updates.yield(.failed(reason))
            request.updates.finish()
        }
    }
}

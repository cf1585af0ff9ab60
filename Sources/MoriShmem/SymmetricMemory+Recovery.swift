import Logging
public import MoriDevice

/// What a world makes anew when it recovers: an operator.
package protocol Recoverable: AnyObject, Sendable {
    /// Waits until none of this rank's work in the failed generation runs, and makes sure that none
    /// will, a graph's included.
    ///
    /// - Parameter deadline: How long it may take.
    /// - Returns: The last round begun and the last one complete, over all slots.
    /// - Throws: `timedOut` when something still runs at the deadline.
    func drain(before deadline: ContinuousClock.Instant) async throws(MoriError) -> RoundNumbers

    /// Prepares everything anew in a generation that is not the world's yet.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - generation: Where it allocates.
    ///   - base: The number that the next round follows.
    /// - Throws: `outOfMemory`, `ranksDisagree`, `timedOut`; what the fabric throws.
    func prepare(in generation: WorldGeneration, base: UInt32) async throws(MoriError)

    /// How a wait failed that reached its deadline, or ended because a peer's did; nil otherwise.
    var waitFailure: WaitFailure? { get }

    /// Goes over to what was prepared; false: drops it.
    func settle(_ succeeded: Bool, firstIncompleteRound: Int?)
}

/// How far the rounds of one operator are on one rank.
package struct RoundNumbers: Hashable, Sendable {
    /// The last round that began.
    package var begun: UInt32
    /// The last round that was complete; in every slot.
    package var complete: UInt32

    /// Creates the numbers.
    package init(begun: UInt32, complete: UInt32) {
        self.begun = begun
        self.complete = complete
    }
}

/// An operator of the world, and which one it is: the same number on every rank.
struct WorldMember: Sendable {
    let number: Int
    weak var member: (any Recoverable)?
}

/// What `SymmetricMemory.recover` found out.
public struct Recovery: Hashable, Sendable {
    /// The ranks that go on, ascending.
    public let activeRanks: [Int]
    /// How many times this world has recovered.
    public let generation: Int
    /// The smallest round, of any operator, that is not complete on every rank that goes on; nil where
    /// the world has no operator.
    ///
    /// Rounds are counted from 1, for each operator and slot. Ranks may have disagreed about this
    /// round and whatever came after it: none of them counts, also where a rank had its sums already.
    /// `EPDispatchCombineOp.firstIncompleteRound` has the number for one operator.
    public let firstIncompleteRound: Int?
}

extension SymmetricMemory {
    /// Goes on with some of the ranks after a failure: with all of them where one was only slow, or
    /// without those that died.
    ///
    /// Collective over `activeRanks`, each of which gives the same set. A failed round is void on every
    /// rank, and until this call everything answers `aborted`. It waits until this rank's kernels have
    /// ended, meets the other ranks anew (the smallest one serves the store, so rank 0 may be gone),
    /// and moves every operator to newly allocated memory, rings and queue pairs: whoever was left
    /// behind, and is alive after all, has none of it mapped and can disturb nobody. Then operators,
    /// streams and tensors of the caller are as usable as before, with these differences:
    /// * Experts of ranks that were left behind are dropped, as ids that no rank hosts are.
    /// * Outputs of dispatch and combine, recorded routes and captured graphs of the time before are
    ///   void: calls that take them throw. Memory of theirs stays until they go.
    /// * The registered combine input lies elsewhere, and the counts of the network begin anew.
    ///
    /// A rank that was left behind stays so: its world answers `aborted`, and no rank can join later.
    /// When this call throws, the world is as it was: call it again, with fewer ranks where some did
    /// not come. While it runs, an operator needs twice its memory.
    ///
    /// - Parameters:
    ///   - activeRanks: Who goes on, this rank among them, out of those that took part so far.
    ///   - timeout: How long to wait for this rank's own work and for the others; nil:
    ///     `bootstrapTimeout`.
    /// - Returns: What was agreed on.
    /// - Throws: `invalidArgument` for a set that lacks this rank or has others than those that take
    ///   part; `timedOut` naming the ranks that did not come; `ranksDisagree` when the sets differ;
    ///   `outOfMemory`; `closed`.
    @discardableResult
    public func recover(
        activeRanks: [Int], timeout: Duration? = nil
    ) async throws(MoriError) -> Recovery {
        let ranks = Set(activeRanks).sorted()
        let former = try beginRecovery(ranks)
        let start = ContinuousClock.now
        let result = await outcome { () async throws(MoriError) in
            try await recover(ranks, from: former, timeout: timeout ?? bootstrapTimeout)
        }
        state.withLock { $0.isRecovering = false }
        let recovery = try result.get()
        let duration = ContinuousClock.now - start
        metrics?.countRecovery(duration, activeRanks: ranks.count)
        logger.debug(
            "the world recovered",
            metadata: [
                "rank": "\(rank)", "activeRanks": "\(ranks)",
                "generation": "\(recovery.generation)", "duration": "\(duration)",
            ])
        return recovery
    }

    /// Checks the set, and that nobody else recovers.
    private func beginRecovery(_ ranks: [Int]) throws(MoriError) -> WorldGeneration {
        try state.withLock { (state) throws(MoriError) in
            guard !state.isClosed else {
                throw MoriError(.closed, "rank \(rank)'s part of this world was closed")
            }
            let active = state.generation.activeRanks
            guard ranks.contains(rank) else {
                throw MoriError(
                    .invalidArgument,
                    "rank \(rank) is not among the active ranks \(ranks): only ranks that go on"
                        + " recover; close what this one has", ranks: [rank])
            }
            guard Set(ranks).isSubset(of: active) else {
                throw MoriError(
                    .invalidArgument,
                    "active ranks \(ranks); legal are the ranks that take part, \(active): who was"
                        + " left behind cannot come back, and nobody can join",
                    ranks: Set(ranks).subtracting(active).sorted())
            }
            guard !state.isRecovering else {
                throw MoriError(.invalidArgument, "rank \(rank) recovers already; await that call")
            }
            state.isRecovering = true
            return state.generation
        }
    }

    private func recover(
        _ ranks: [Int], from former: WorldGeneration, timeout: Duration
    ) async throws(MoriError) -> Recovery {
        let deadline = ContinuousClock.now + timeout
        let left = former.activeRanks.filter { !ranks.contains($0) }
        if fault == nil {
            // The others know of a failure that this rank has not met yet, or nothing failed at all.
            let words =
                left.isEmpty ? "it recovers" : "it goes on without \(rankList(left))"
            abort(words)
        } else {
            former.raiseAbort(culprit: fault?.ranks.first)
        }
        let members = state.withLock { state in
            state.members.removeAll { $0.member == nil }
            return state.members
        }
        var rounds: [Int: RoundNumbers] = [:]
        var alive: [Int: any Recoverable] = [:]
        for member in members {
            guard let operation = member.member else { continue }
            rounds[member.number] = try await operation.drain(before: deadline)
            alive[member.number] = operation
        }
        let number = former.number + 1
        let bootstrap = try await former.bootstrap.regroup(
            ranks, generation: number, timeout: max(deadline - .now, .milliseconds(1)))
        // From here on no rank that goes on runs a kernel of the former generation.
        let made = await outcome { () async throws(MoriError) in
            try await rebuild(
                alive, rounds, number: number, former: former, over: bootstrap, timeout: timeout)
        }
        switch made {
        case .failure(let error):
            for operation in alive.values { operation.settle(false, firstIncompleteRound: nil) }
            await bootstrap.close(timeout: .seconds(1))
            keeper.leave(number, rank)
            throw error
        case .success(let (generation, bases)):
            install(generation, after: former, alive, bases)
            return Recovery(
                activeRanks: ranks, generation: number,
                firstIncompleteRound: bases.values.map(\.firstIncomplete).min())
        }
    }

    /// What the ranks agreed on about one operator.
    private struct Base: Sendable {
        var begun: UInt32 = 0
        var firstIncomplete = Int.max
    }

    /// Makes the memory of a new generation, and every operator in it that all ranks still have.
    private func rebuild(
        _ alive: [Int: any Recoverable], _ rounds: [Int: RoundNumbers], number: Int,
        former: WorldGeneration, over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) -> (WorldGeneration, [Int: Base]) {
        let own = rounds.sorted { $0.key < $1.key }.map {
            "\($0.key) \($0.value.begun) \($0.value.complete)"
        }
        let texts = try await bootstrap.allGather(
            "rounds", Array(own.joined(separator: "\n").utf8), timeout: timeout)
        let bases = Self.bases(bootstrap.members.map { texts[$0] })
        keeper.begin(number, rank)
        let heap = try SymmetricHeap(
            device: device, byteLimit: environment.heapByteLimit, timeout: timeout,
            bootstrap: bootstrap, keeper: keeper, generation: number, hosts: former.heap.hosts)
        let generation = try await WorldGeneration(number, bootstrap: bootstrap, heap: heap)
        for (member, base) in bases.sorted(by: { $0.key < $1.key }) {
            try await alive[member]?.prepare(in: generation, base: base.begun)
        }
        // Nobody may write into a peer whose words are not zero yet.
        try await bootstrap.barrier("recovered", timeout: timeout)
        return (generation, bases)
    }

    /// What follows from the rounds of all ranks, for the operators that all of them have.
    private static func bases(_ texts: [[UInt8]]) -> [Int: Base] {
        var bases: [Int: Base] = [:]
        var owners: [Int: Int] = [:]
        for text in texts {
            for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
                let numbers = line.split(separator: " ").compactMap { Int($0) }
                guard numbers.count == 3 else { continue }
                owners[numbers[0], default: 0] += 1
                var base = bases[numbers[0]] ?? Base()
                base.begun = max(base.begun, UInt32(truncatingIfNeeded: numbers[1]))
                base.firstIncomplete = min(base.firstIncomplete, numbers[2] + 1)
                bases[numbers[0]] = base
            }
        }
        return bases.filter { owners[$0.key] == texts.count }
    }

    /// Goes over to a new generation.
    private func install(
        _ generation: WorldGeneration, after former: WorldGeneration,
        _ alive: [Int: any Recoverable], _ bases: [Int: Base]
    ) {
        for (number, operation) in alive {
            // One that some rank has dropped stays as it is: its rounds are over.
            operation.settle(
                bases[number] != nil, firstIncompleteRound: bases[number]?.firstIncomplete)
        }
        let left = Set(former.activeRanks).subtracting(generation.activeRanks).sorted()
        if !left.isEmpty, generation.activeRanks.first == rank {
            // For those of them that live.
            former.bootstrap.abort(
                culprit: left.first, message: "the world goes on without \(rankList(left))")
        }
        let parting = Task { await former.bootstrap.close(timeout: .seconds(1)) }
        state.withLock { state in
            state.generation = generation
            state.fault = nil
            state.members.removeAll { bases[$0.number] == nil }
            state.partings.append(parting)
        }
        listen(to: generation)
        keeper.leave(former.number, rank)
    }

    /// Takes an operator into what recovery makes anew.
    package func enroll(_ member: any Recoverable) {
        state.withLock { state in
            state.members.removeAll { $0.member == nil }
            state.members.append(WorldMember(number: state.memberCount, member: member))
            state.memberCount += 1
        }
    }
}

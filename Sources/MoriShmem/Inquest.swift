import MoriDevice

/// The search for the rank that failed, when all that is known is that waits reached their deadline
/// (protocol rule P16).
///
/// The first wait to expire usually names a bystander: rank 3 waits for rank 2, which forwards what comes
/// from rank 0, which is dead. So every rank tells for whom it waited, and the culprit is whoever is
/// waited for and waits for nobody: it is dead, stopped, or has not come yet.
package final class Inquest: Sendable {
    /// How long the ranks' answers are waited for.
    static let duration = Duration.milliseconds(50)

    private struct State: Sendable {
        /// For whom each rank waited; what a rank said in several messages, together.
        var waits: [Int: Set<Int>] = [:]
        var search: Task<Void, Never>?
        var culprits: [Int]?
    }

    private let state = Locked(State())

    init() {}

    /// Whom it found, lowest first; nil before its end, or without one.
    package var culprits: [Int]? { state.withLock { $0.culprits } }

    /// Takes what a rank says of itself.
    func note(_ rank: Int, waitsFor others: [Int]) {
        state.withLock { $0.waits[rank, default: []].formUnion(others) }
    }

    /// The ranks that said something so far, ascending.
    var witnesses: [Int] { state.withLock { $0.waits.keys.sorted() } }

    /// Whether there is a reason to search.
    var hasBegun: Bool { state.withLock { $0.search != nil } }

    /// The search that is under way or over, else a new one.
    func begin(_ search: () -> Task<Void, Never>) -> Task<Void, Never> {
        state.withLock { state in
            if let known = state.search { return known }
            let task = search()
            state.search = task
            return task
        }
    }

    /// Ends the search with what is known.
    ///
    /// - Parameters:
    ///   - rank: Whose search it is.
    ///   - hasSpoken: Whether this rank said for whom it waited.
    ///   - leader: The rank that passes on what the ranks say.
    ///   - members: The ranks that take part.
    /// - Returns: The culprits, lowest first; none where nobody waited for anybody.
    func conclude(rank: Int, hasSpoken: Bool, leader: Int, members: [Int]) -> [Int] {
        state.withLock { state in
            let culprits = Self.culprits(
                of: state.waits, rank: rank, hasSpoken: hasSpoken, leader: leader,
                members: Set(members))
            state.culprits = culprits
            return culprits
        }
    }

    /// Who failed, by the ranks' own words.
    static func culprits(
        of waits: [Int: Set<Int>], rank: Int, hasSpoken: Bool, leader: Int, members: Set<Int>
    ) -> [Int] {
        // Its own words did not come back: the rank that passes them on is silent.
        if hasSpoken, waits[rank] == nil, rank != leader { return [leader] }
        let awaited = waits.values.reduce(into: Set<Int>()) { $0.formUnion($1) }
            .intersection(members)
        // Who says that it waits for nobody is late, or its own network took nothing.
        let ends = awaited.filter { waits[$0]?.isEmpty ?? true }
        if !ends.isEmpty { return ends.sorted() }
        // All wait for one another: a word was lost between them.
        return (waits[rank] ?? awaited).intersection(members).sorted()
    }
}

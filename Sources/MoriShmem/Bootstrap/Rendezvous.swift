import MoriDevice

/// The state of a world as its store sees it: who is there, who left, what is being gathered.
///
/// Knows nothing of sockets or threads: every step returns the messages to be delivered, in order.
struct Rendezvous: Sendable {
    /// A message and the rank that it is for.
    struct Delivery: Hashable, Sendable {
        /// The receiver.
        var rank: Int
        /// What it is told.
        var message: StoreMessage
    }

    /// The number of ranks that are numbered.
    let worldSize: Int
    /// The ranks that make the world complete.
    let expected: Set<Int>
    /// The ranks that are there: admitted, neither left nor lost.
    private(set) var members: Set<Int> = []
    /// Whether all ranks were there at once.
    private(set) var isFormed = false
    /// Why the world cannot be formed.
    private(set) var failure: MoriError?

    private var gathers: [GatherID: [Int: [UInt8]]] = [:]
    private var left: Set<Int> = []
    /// After a loss or an abort nothing can be gathered any more; the ranks know.
    private var isBroken = false

    /// Creates the state of a world that nobody has joined yet.
    ///
    /// - Parameters:
    ///   - worldSize: Ranks that are numbered.
    ///   - expected: Those that belong to it; nil: all.
    init(worldSize: Int, expected: [Int]? = nil) {
        self.worldSize = worldSize
        self.expected = Set(expected ?? Array(0..<worldSize))
    }

    /// Lets a rank in; the last one completes the world.
    mutating func admit(_ rank: Int) -> [Delivery] {
        members.insert(rank)
        guard !isFormed, members == expected else { return [] }
        isFormed = true
        let empty = [[UInt8]](repeating: [], count: worldSize)
        return toMembers(.gathered(.join, values: empty))
    }

    /// Takes what a rank says.
    mutating func receive(_ message: RankMessage, from rank: Int) -> [Delivery] {
        switch message {
        case .gather(let id, let value): contribute(value, to: id, from: rank)
        case .query(.join): giveUpJoining(rank)
        case .query(let id):
            [Delivery(rank: rank, message: .incomplete(id, missing: missing(from: id)))]
        case .abort(let culprit, let message): abort(by: rank, culprit: culprit, message: message)
        case .goodbye: leave(rank)
        case .waits(let ranks): toMembers(.waits(by: rank, for: ranks))
        }
    }

    /// Takes note that a rank's connection ended.
    ///
    /// Before the world is complete the rank may come again.
    mutating func disconnect(_ rank: Int) -> [Delivery] {
        guard members.remove(rank) != nil, isFormed else { return [] }
        isBroken = true
        gathers.removeAll()
        return toMembers(.peerLost(rank: rank))
    }

    /// Gives the world up before it is complete.
    mutating func fail(_ error: MoriError) -> [Delivery] {
        guard failure == nil, !isFormed else { return [] }
        failure = error
        return toMembers(.failed(error))
    }

    /// The ranks that have not contributed, lowest first.
    func missing(from id: GatherID) -> [Int] {
        if id == .join { return expected.subtracting(members).sorted() }
        let there = gathers[id] ?? [:]
        return expected.filter { there[$0] == nil }.sorted()
    }

    private mutating func contribute(
        _ value: [UInt8], to id: GatherID, from rank: Int
    ) -> [Delivery] {
        guard isFormed, !isBroken, id != .join else { return [] }
        var values = gathers[id] ?? [:]
        values[rank] = value
        let departed = left.filter { values[$0] == nil }
        guard departed.isEmpty else {
            return [Delivery(rank: rank, message: .departed(id, ranks: departed.sorted()))]
        }
        guard values.count == expected.count else {
            gathers[id] = values
            return []
        }
        gathers[id] = nil
        return toMembers(.gathered(id, values: (0..<worldSize).map { values[$0] ?? [] }))
    }

    /// The first rank whose patience ends, ends it for all: it leaves, so the world cannot be
    /// complete any more, and the others would have to name it too, though it did come.
    private mutating func giveUpJoining(_ rank: Int) -> [Delivery] {
        let missing = missing(from: .join)
        guard !missing.isEmpty else { return [] }
        let words =
            "joining a world of \(expected.count): \(rankList(missing)) did not come before the "
            + "deadline of rank \(rank)"
        return fail(MoriError(.timedOut, words, ranks: missing))
    }

    private mutating func leave(_ rank: Int) -> [Delivery] {
        var deliveries = [Delivery(rank: rank, message: .farewell)]
        guard members.remove(rank) != nil, isFormed else { return deliveries }
        left.insert(rank)
        for (id, values) in gathers where values[rank] == nil {
            gathers[id] = nil
            deliveries += values.keys.sorted().map {
                Delivery(rank: $0, message: .departed(id, ranks: [rank]))
            }
        }
        return deliveries
    }

    private mutating func abort(by rank: Int, culprit: Int?, message: String) -> [Delivery] {
        isBroken = true
        gathers.removeAll()
        let message = StoreMessage.aborted(by: rank, culprit: culprit, message: message)
        return toMembers(message).filter { $0.rank != rank }
    }

    private func toMembers(_ message: StoreMessage) -> [Delivery] {
        members.sorted().map { Delivery(rank: $0, message: message) }
    }
}

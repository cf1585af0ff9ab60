import MoriShmem

/// What a trace says about who waited for whom, and why.
package struct TraceAnalysis: Sendable {
    /// A round of one operator's slot.
    struct Key: Hashable, Sendable, Comparable {
        var number: Int
        var slot: Int
        var epoch: Int

        static func < (a: Key, b: Key) -> Bool {
            (a.number, a.epoch, a.slot) < (b.number, b.epoch, b.slot)
        }
    }

    /// One round on all ranks.
    package struct Round: Sendable {
        var key: Key
        var begin = Int.max
        var end = Int.min
        /// Kernels' phases, and the waits in them.
        var slices: [TraceFile.Slice] = []
        var signals: [TraceFile.Instant] = []
        /// By rank, where it is known.
        var receivedRows: [Int: Int] = [:]
        /// Nanoseconds that ranks waited for others.
        var waitNanoseconds = 0
    }

    /// A reason for waiting, in words.
    package struct Cause: Sendable, Codable {
        package var title: String
        package var text: String
        /// What it cost all ranks together.
        package var nanoseconds: Int
        /// The rank that it is about.
        package var rank: Int
    }

    package let worldSize: Int
    package private(set) var rounds: [Round] = []
    /// Nanoseconds of all rounds: [rank][peer]; the diagonal is itself.
    package private(set) var waits: [[Int]]
    /// Rows that each rank received in the rounds of which that is known.
    package private(set) var receivedRows: [Int]
    package private(set) var causes: [Cause] = []
    /// Nanoseconds that all ranks spent in the kernels of rounds, and waiting for others in them.
    package private(set) var busyNanoseconds = 0
    package private(set) var waitNanoseconds = 0

    package init(_ file: TraceFile) {
        worldSize = file.worldSize
        waits = Array(repeating: Array(repeating: 0, count: file.worldSize), count: file.worldSize)
        receivedRows = Array(repeating: 0, count: file.worldSize)
        addRounds(of: file)
        causes = TraceCauses(rounds, worldSize: worldSize).largest
    }

    private mutating func addRounds(of file: TraceFile) {
        var byKey: [Key: Round] = [:]
        for slice in file.slices where slice.category.isOfKernels {
            let key = Key(number: slice.number, slot: slice.slot, epoch: slice.epoch)
            let duration = slice.duration
            if let peer = slice.awaited { waits[slice.rank][peer].addClamped(duration) }
            let isForOther = slice.awaited.map { $0 != slice.rank } ?? false
            if isForOther { waitNanoseconds.addClamped(duration) }
            if slice.category == .kernel { busyNanoseconds.addClamped(duration) }
            byKey[key, default: Round(key: key)].add(slice, isForOther: isForOther)
        }
        for instant in file.instants {
            let key = Key(number: instant.number, slot: instant.slot, epoch: instant.epoch)
            switch instant.category {
            case .signal: byKey[key]?.signals.append(instant)
            case .rows: byKey[key]?.receivedRows[instant.rank] = instant.rows
            default: break
            }
        }
        rounds = byKey.values.sorted { $0.key < $1.key }
        for round in rounds {
            for (rank, rows) in round.receivedRows { receivedRows[rank].addClamped(rows) }
        }
    }
}

extension TraceAnalysis.Round {
    fileprivate mutating func add(_ slice: TraceFile.Slice, isForOther: Bool) {
        begin = min(begin, slice.begin)
        end = max(end, slice.end)
        slices.append(slice)
        if isForOther { waitNanoseconds.addClamped(slice.duration) }
    }
}

extension TraceFile.Slice {
    /// For whom it waits; nil: it is no wait for a peer.
    var awaited: Int? { category.isOfPeer ? peer : nil }
}

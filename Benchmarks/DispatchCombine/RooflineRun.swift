import CRoofline
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOracle

/// How a roofline's loop stores.
enum RooflineLoop: String, Sendable, Codable, CaseIterable {
    /// Through the caches.
    case cached
    /// Past the caches.
    case streaming
    /// The device's own copies: the one kind that GPUs have.
    case deviceCopy = "device-copy"
}

/// The unavoidable memory traffic of one phase on one rank, as a plain loop over the very buffers
/// that the phase uses.
///
/// All ranks run it at once, after a barrier, with as many threads as the kernels have warps:
/// * dispatch: reads each of the n own rows once and stores it to as many places as the token has
///   destinations (n reads, R writes), the places spread like the rows of different peers.
/// * zero-copy combine: reads for each own token as many rows as it has destinations and stores
///   their exclusive or (R reads, n writes).
/// * external combine: copies the R received rows, then does the same as zero-copy over the copies
///   (2R reads, R + n writes).
///
/// What it stores are copies of tokens; the rounds after it overwrite all of them. Kernels that send packets
/// between nodes have loops of their own (`NodeRoofline`).
struct RooflineRun: Sendable {
    let steps: [Step]
    let threads: Int

    /// One loop; the C side's struct with the tables that it points into.
    struct Step: Sendable {
        private(set) var kind: Int
        /// Kept, too.
        private(set) var source: DeviceTensor
        private(set) var destination: DeviceTensor
        /// Of `destination`: where the first item's own row is.
        private(set) var firstRow = 0
        /// Rows of the tensor that an item's own number means.
        private(set) var itemRows: Int
        private(set) var table: RowTable

        /// Each row of `source` to the rows of `destination` that the table has for it.
        static func scatter(
            _ source: DeviceTensor, to destination: DeviceTensor, _ table: RowTable
        ) -> Step {
            Step(
                kind: ROOFLINE_SCATTER, source: source, destination: destination,
                itemRows: source.shape[0], table: table)
        }

        /// To each row of `destination`, from its row `first` on, the exclusive or of the rows of
        /// `source` that the table has for it.
        static func gather(
            _ source: DeviceTensor, to destination: DeviceTensor, from first: Int = 0,
            _ table: RowTable
        ) -> Step {
            Step(
                kind: ROOFLINE_GATHER, source: source, destination: destination,
                firstRow: first, itemRows: destination.shape[0] - first, table: table)
        }

        /// Bytes of a row.
        var rowBytes: Int { source.elementType.byteCount(of: source.shape[1]) }

        /// The address of the row that scattered rows count from, or of the first item's.
        var target: UInt { destination.address + UInt(firstRow * rowBytes) }
    }

    /// The loop of a dispatch.
    static func dispatch(
        _ routes: Routes, rank: Int, tokens: DeviceTensor, received: DeviceTensor, threads: Int
    ) -> RooflineRun {
        RooflineRun(
            steps: [.scatter(tokens, to: received, .perDestination(routes, rank: rank))],
            threads: threads)
    }

    /// The loop of a combine: from the external rows through `landing`, or from `landing` itself,
    /// which is the registered buffer then.
    static func combine(
        _ routes: Routes, rank: Int, external: DeviceTensor?, landing: DeviceTensor,
        output: DeviceTensor, maxTokens: Int, threads: Int
    ) -> RooflineRun {
        var steps: [Step] = []
        var table = RowTable.perDestination(routes, rank: rank)
        if let external {
            table = .bySource(routes, rank: rank, maxTokens: maxTokens)
            steps.append(
                .scatter(
                    external, to: landing, .oneEach(external.shape[0], of: table.rows.sorted())))
        }
        steps.append(.gather(landing, to: output, table))
        return RooflineRun(steps: steps, threads: threads)
    }

    /// Runs the loop once.
    ///
    /// - Throws: `outOfMemory` when there are no threads for it.
    func measure(_ loop: RooflineLoop) async throws(MoriError) -> Interval {
        // A thread of its own: the pool that runs async functions has fewer than there are ranks.
        let (failure, interval) = try await BackgroundThread.run { runSteps(loop) }
        guard failure == 0 else {
            throw MoriError(
                .outOfMemory, "the roofline's \(threads) threads could not be started",
                cause: .errno(call: "roofline_run", code: failure))
        }
        return interval
    }

    private func runSteps(_ loop: RooflineLoop) -> (Int32, Interval) {
        var interval = Interval(began: 0, ended: 0)
        let failure = unsafe withRawSteps(steps[...], after: []) { raw in
            unsafe raw.withUnsafeBufferPointer { raw in
                unsafe roofline_run(
                    raw.baseAddress, Int32(raw.count), Int32(threads), loop == .streaming,
                    &interval.began, &interval.ended)
            }
        }
        return (failure, interval)
    }

    /// Calls `body` with C's form of the steps, whose tables stay where they are meanwhile.
    private func withRawSteps(
        _ rest: ArraySlice<Step>, after done: [roofline_step],
        _ body: ([roofline_step]) -> Int32
    ) -> Int32 {
        guard let step = rest.first else { return unsafe body(done) }
        return unsafe step.table.starts.withUnsafeBufferPointer { starts in
            unsafe step.table.rows.withUnsafeBufferPointer { rows in
                let raw = unsafe roofline_step(
                    kind: Int32(step.kind), reserved: 0, source: UInt64(step.source.address),
                    destination: UInt64(step.target),
                    item_rows: Int64(max(1, step.itemRows)), row_bytes: Int64(step.rowBytes),
                    items: Int64(step.table.starts.count - 1), first: starts.baseAddress,
                    list: rows.baseAddress)
                return unsafe withRawSteps(rest.dropFirst(), after: done + [raw], body)
            }
        }
    }
}

/// The rows that belong to each item of a loop.
struct RowTable: Sendable {
    /// Where each item's rows begin; one more than there are items.
    private(set) var starts: [Int32] = [0]
    private(set) var rows: [Int32] = []

    /// Adds an item.
    mutating func append(_ item: some Sequence<Int32>) {
        rows += item
        starts.append(Int32(rows.count))
    }

    /// For each own token a row for each destination: the destinations' rows follow each other, as
    /// they would in the buffers of different peers.
    static func perDestination(_ routes: Routes, rank: Int) -> RowTable {
        let count = routes.workload.tokens[rank]
        var next = [Int32](repeating: 0, count: routes.workload.worldSize + 1)
        for token in 0..<count {
            for destination in routes.destinations(rank: rank, token: token) {
                next[Int(destination) + 1] += 1
            }
        }
        for destination in 1..<next.count { next[destination] += next[destination - 1] }
        var table = RowTable()
        for token in 0..<count {
            for destination in routes.destinations(rank: rank, token: token) {
                table.rows.append(next[Int(destination)])
                next[Int(destination)] += 1
            }
            table.starts.append(Int32(table.rows.count))
        }
        return table
    }

    /// For each own token the rows at which the ranks that it went to leave their results.
    static func bySource(_ routes: Routes, rank: Int, maxTokens: Int) -> RowTable {
        var table = RowTable()
        for token in 0..<routes.workload.tokens[rank] {
            for destination in routes.destinations(rank: rank, token: token) {
                table.rows.append(Int32(Int(destination) * maxTokens + token))
            }
            table.starts.append(Int32(table.rows.count))
        }
        return table
    }

    /// `count` items of one row each, taken from `rows` in turn.
    static func oneEach(_ count: Int, of rows: [Int32]) -> RowTable {
        RowTable(
            starts: (0...count).map(Int32.init),
            rows: (0..<count).map { rows.isEmpty ? Int32($0) : rows[$0 % rows.count] })
    }
}

import CRoofline
import FoundationEssentials
import Glibc
import MoriDevice
import MoriEP
import MoriOracle
import Synchronization

/// One rank's part of the benchmark.
struct RankRun<Element: BenchElement, Combined: BenchElement> {
    let settings: BenchSettings
    let routes: Routes
    let op: EPDispatchCombineOp
    let stream: DeviceStream
    let clock: EventClock
    let phaseThread = PhaseThread()
    let buffers: RoundBuffers
    let progress: Progress
    var peakBytes = 0

    var world: SymmetricMemory { op.world }
    var rank: Int { world.rank }

    /// What one way of combining needs beside the common tensors.
    struct Mode {
        let input: CombineInput
        /// Where the experts write: a tensor of the benchmark's, or the registered buffer.
        let expertOutput: DeviceTensor
        /// The operator's own, known after a round.
        var received: DeviceTensor?
        var combined: DeviceTensor?
        /// Of what the verified round combined; other rounds receive in other orders, which the
        /// experts' output does not follow.
        var checksum: UInt64?
    }

    /// Verifies and measures each way of combining in turn.
    mutating func run() async throws -> [ModeResult] {
        var results: [ModeResult] = []
        for input in settings.combineInputs {
            let mode = try await prepared(input)
            let samples = try await measure(mode)
            results.append(
                ModeResult(
                    input, try await gather(samples), settings: settings, routes: routes))
            try await noteMemory()
        }
        progress.clear()
        return results
    }

    // -------------------------------------------------------------------------------------------
    // Rounds

    /// Makes a way of combining ready for timed rounds, and verifies it.
    func prepared(_ input: CombineInput) async throws -> Mode {
        // As many rows as come, no more: the registered buffer is large enough for all.
        let shape = [routes.receivedCounts[rank], settings.workload.hidden]
        var mode = Mode(
            input: input,
            expertOutput: input == .external
                ? try DeviceTensor(
                    shape: shape, elementType: Combined.elementType, on: world.device)
                : try op.registeredCombineInput(
                    of: Combined.elementType, hiddenDim: settings.workload.hidden))
        try await prepare(&mode)
        return mode
    }

    /// Runs one round; this rank begins so many nanoseconds later than the others.
    ///
    /// Each phase is a blocking call on a thread of the benchmark's, as of a server that has one for
    /// each rank: enqueue, and wait for the stream.
    ///
    /// - Returns: The phases' times by the host's clock, from before the call to when the host knows
    ///   of its end; and what the kernels moved.
    @discardableResult
    func round(
        _ mode: Mode, marks: (PhaseMarks, PhaseMarks), delay: Int64 = 0
    ) async throws -> (dispatch: Interval, combine: Interval, moved: MovedBytes?) {
        let before = stream.rowTraffic
        let (received, dispatch) = try await blocking(
            from: try await world.meetingTime() + delay, marks.0
        ) { [op, stream, buffers] () throws(MoriError) in
            Held(
                try op.dispatch(
                    buffers.tokens, weights: buffers.weights, indices: buffers.indices, on: stream))
        }
        let between = stream.rowTraffic
        let (_, combine) = try await blocking(from: try await world.meetingTime(), marks.1) {
            [op, stream] () throws(MoriError) in
            _ = try op.combine(
                mode.expertOutput, of: received.take(), input: mode.input, on: stream)
        }
        let moved = MovedBytes(before: before, between: between, after: stream.rowTraffic)
        return (dispatch, combine, moved)
    }

    /// What a dispatch gave, for another thread; taken once.
    private final class Held: Sendable {
        private let output: Mutex<DispatchOutput?>

        init(_ output: consuming DispatchOutput) { self.output = Mutex(output) }

        func take() -> DispatchOutput {
            guard let taken = output.withLock({ $0.take() }) else { preconditionFailure("taken") }
            return taken
        }
    }

    /// Enqueues on a thread of its own at a moment, and waits there until the stream is done.
    private func blocking<Success: Sendable>(
        from start: Int64, _ marks: PhaseMarks,
        _ enqueue: @escaping @Sendable () throws(MoriError) -> Success
    ) async throws -> (Success, Interval) {
        try await phaseThread.run { [stream] in
            Result { () throws(MoriError) in
                roofline_wait_until(start)
                var interval = Interval.now
                let success = try stream.synchronize { () throws(MoriError) in
                    try marks.begin(on: stream)
                    let success = try enqueue()
                    try marks.finish(on: stream)
                    return success
                }
                interval.end()
                return (success, interval)
            }
        }.get()
    }

    /// The rounds before the timed ones: one of NaNs and a verified one, or plain ones.
    private func prepare(_ mode: inout Mode) async throws {
        let rows = routes.receivedCounts[rank]
        progress.show("\(mode.input): first round")
        try buffers.tokens.fill(with: 0xFF, on: stream)
        try buffers.weights.fill(with: 0xFF, on: stream)
        try mode.expertOutput.prefix(rows).fill(with: 0xFF, on: stream)
        let received = try op.dispatch(
            buffers.tokens, weights: buffers.weights, indices: buffers.indices, on: stream)
        let receivedTokens = received.tokens
        let receivedIndices = received.indices
        let first = try op.combine(
            mode.expertOutput, of: received, input: mode.input, on: stream)
        try await stream.completion()
        mode.received = receivedTokens
        mode.combined = first.tokens
        // Nobody may send into the indices that are made unusable here.
        try await world.barrier()
        try receivedIndices.prefix(rows).fill(with: 0xFF, on: stream)
        progress.show("\(mode.input): tokens")
        if settings.config.quantizesDispatch {
            try await buffers.load(BFloat16.self, settings.workload, rank: rank, on: stream)
        } else {
            try await buffers.load(Element.self, settings.workload, rank: rank, on: stream)
        }
        try await world.barrier()
        if settings.verifies {
            mode.checksum = try await verify(mode)
        } else {
            try await loadExpertOutput(mode, rows: rows)
        }
    }

    /// Numbers for the timed rounds: not what experts would make, but no special values.
    private func loadExpertOutput(_ mode: Mode, rows: Int) async throws(MoriError) {
        let workload = settings.workload
        let width = Combined.elementType.byteCount(of: workload.hidden)
        for piece in DeviceTensor.pieces(rows, rowByteCount: width) {
            var elements: [Combined] = []
            for row in piece {
                elements += RowMath.rounded(workload.tokenRow(rank: rank, token: row))
            }
            try mode.expertOutput.rows(piece).copy(from: elements, on: stream)
            try await stream.completion()
        }
    }

    /// One round compared with the oracle, on every rank.
    ///
    /// - Returns: The checksum of the combined rows, for whoever asks for rounds.
    private func verify(_ mode: Mode) async throws -> UInt64? {
        let verification = Verification<Element, Combined>(
            routes: routes, rank: rank, dispatchWire: .dispatch(settings.config),
            combineWire: .combine(settings.config))
        progress.show("\(mode.input): verifying dispatch")
        let received = try op.dispatch(
            buffers.tokens, weights: buffers.weights, indices: buffers.indices, on: stream)
        try await throwFirst(
            try await verification.checkReceived(
                received, writing: mode.expertOutput, with: op, on: stream))
        progress.show("\(mode.input): verifying combine")
        let weights = received.weights
        let combined = try op.combine(
            mode.expertOutput, of: received, weights: weights, input: mode.input, on: stream)
        try await throwFirst(try await verification.checkCombined(combined, on: stream))
        return settings.roundRequests == nil ? nil : try await checksum(of: combined.tokens)
    }

    /// Throws the difference of the lowest rank that found one, the same on every rank.
    private func throwFirst(_ difference: String?) async throws {
        let all = try await world.allGather(Array((difference ?? "").utf8))
        guard let found = all.firstIndex(where: { !$0.isEmpty }) else { return }
        throw RankFailure(
            rank: rank, reason: "verification",
            message: "verification failed: " + String(decoding: all[found], as: UTF8.self))
    }

    // -------------------------------------------------------------------------------------------
    // Timing

    /// The timed rounds, each followed by the rooflines of its two phases.
    private func measure(_ mode: Mode) async throws -> RankSamples {
        let device = world.device
        let marks = (try PhaseMarks(on: device), try PhaseMarks(on: device))
        // A plain loop does not quantize: what it takes would be no roofline.
        let rooflines = settings.isQuantized ? nil : try Rooflines(self, mode)
        var samples = RankSamples(
            dispatch: PhaseSamples(bytes: byteCount(of: Element.self)),
            combine: PhaseSamples(bytes: byteCount(of: Combined.self)),
            commonClock: world.isOneMachine)
        // Once before the timed rounds, so that its memory was touched too.
        if let rooflines {
            for verb in Rooflines.Verb.allCases {
                _ = try await rooflines.measure(verb, rooflines.loops[0])
            }
        }
        samples.warmups = try await warmUp(mode, marks: marks)
        (samples.network, samples.moved) = try await count(mode, marks: marks)
        let iterations = settings.shape.iterations
        // Of the first way only: its rounds are alike, and the file stays small.
        let isTraced = settings.trace != nil && mode.input == settings.combineInputs[0]
        /// Of pairs whose untraced round came first, and of the others.
        var costs: [[Double]] = [[], []]
        if isTraced {
            try op.startTrace(on: stream)
            try await stream.completion()
        }
        for turn in 0..<iterations {
            progress.show("\(mode.input): round \(turn + 1) of \(iterations)")
            // A round that is not recorded beside each that is, and neither always first.
            let before = isTraced && turn % 2 == 0 ? try await untraced(mode, marks) : nil
            try await round(mode, marks: marks)
            let phases = (try marks.0.interval(clock), try marks.1.interval(clock))
            samples.dispatch.phase.append(phases.0)
            samples.combine.phase.append(phases.1)
            let after = isTraced && before == nil ? try await untraced(mode, marks) : nil
            if let other = before ?? after {
                costs[before == nil ? 1 : 0].append(
                    Double(phases.0.nanoseconds + phases.1.nanoseconds) / Double(other))
            }
            guard let rooflines else { continue }
            for loop in rooflines.loops {
                for verb in Rooflines.Verb.allCases {
                    try await world.meet()
                    samples.add(try await rooflines.measure(verb, loop), verb, loop)
                }
            }
        }
        if isTraced, let path = settings.trace {
            try op.stopTrace(on: stream)
            try await stream.completion()
            try await world.exportTrace(to: path)
            // The first of a pair finds other things in the caches than the second: both orders count alike.
            let medians = costs.filter { !$0.isEmpty }.map { $0.sorted()[$0.count / 2] }
            samples.traceCost = exp(medians.map { log($0) }.reduce(0, +) / Double(medians.count))
        }
        return samples
    }

    /// Runs one round that no trace sees.
    ///
    /// - Returns: The nanoseconds of its phases.
    private func untraced(_ mode: Mode, _ marks: (PhaseMarks, PhaseMarks)) async throws -> Int64 {
        op.pauseTrace(true)
        defer { op.pauseTrace(false) }
        try await round(mode, marks: marks)
        return try marks.0.interval(clock).nanoseconds + marks.1.interval(clock).nanoseconds
    }

    /// Rounds without timing, until the processes' page tables know the rows of all peers.
    ///
    /// A rank process pays for each page of a peer when it stores there first, and where its rows
    /// go depends on which ranks came before it. A model runs many thousand rounds, so that it pays
    /// once; a benchmark of ten rounds would measure little else. The ranks begin these rounds in
    /// another order each time, which reaches every page soon. A number that the user chose is kept
    /// to.
    ///
    /// - Returns: How many rounds it took.
    func warmUp(_ mode: Mode, marks: (PhaseMarks, PhaseMarks)) async throws -> Int {
        let count = world.worldSize
        let most =
            settings.warmups
            ?? max(BenchSettings.leastWarmups, min(3 * count, BenchSettings.mostWarmups))
        for turn in 0..<most {
            progress.show("\(mode.input): warming up, round \(turn + 1)")
            let before = PageFaults.count()
            try await round(
                mode, marks: marks, delay: Int64((rank + turn) % count) * 3_000_000)
            let own = [PageFaults.count() - before, byteCount(of: Element.self)]
            let all = try await world.allGather(Array("\(own[0]) \(own[1])".utf8))
            let sums = all.map { String(decoding: $0, as: UTF8.self).split(separator: " ") }
                .reduce(into: (faults: 0, bytes: 0)) { sums, words in
                    sums.faults += Int(words[0]) ?? 0
                    sums.bytes += Int(words[1]) ?? 0
                }
            // Pages that are still new: less than one of a hundred that a round moves.
            let isKnown = sums.faults * PageFaults.pageByteCount * 100 < sums.bytes
            let isEnough = settings.warmups == nil && turn + 1 >= BenchSettings.leastWarmups
            if isEnough && isKnown { return turn + 1 }
        }
        return most
    }

    /// What one round asks of the network, nil where the kernels have none, and what they move.
    private func count(
        _ mode: Mode, marks: (PhaseMarks, PhaseMarks)
    ) async throws -> (NetworkStatistics?, MovedBytes?) {
        progress.show("\(mode.input): counting")
        let before = await op.networkStatistics()
        let moved = try await round(mode, marks: marks).moved
        guard settings.config.kernelType != .intraNode else { return (nil, moved) }
        return (await op.networkStatistics() - before, moved)
    }

    private func byteCount<Type: BenchElement>(of type: Type.Type) -> Int {
        routes.receivedCounts[rank] * Type.elementType.byteCount(of: settings.workload.hidden)
    }

    /// Every rank's samples, by rank.
    private func gather(_ samples: RankSamples) async throws -> [RankSamples] {
        let bytes = try JSONEncoder().encode(samples)
        return try await world.allGather(Array(bytes)).map {
            try JSONDecoder().decode(RankSamples.self, from: Data($0))
        }
    }

    /// Adds up the memory of all ranks; threads share one process's.
    private mutating func noteMemory() async throws {
        try await world.barrier()
        let own = settings.shape.world == .thread && rank != 0 ? 0 : PeakMemory.proportionalBytes()
        let all = try await world.allGather(Array("\(own)".utf8))
        let sum = all.compactMap { Int(String(decoding: $0, as: UTF8.self)) }.reduce(0, +)
        peakBytes = max(peakBytes, sum)
    }
}

extension RankRun where Element == BFloat16, Combined == BFloat16 {
    /// Makes a rank's operator, runs it with the settings' element types, and closes it.
    static func run(
        _ settings: BenchSettings, _ routes: Routes, in world: SymmetricMemory
    ) async throws -> BenchResult? {
        let types = (settings.config.elementType, settings.config.effectiveCombineElementType)
        // The pairs that models use, for which the compiler makes fast code.
        return switch types {
        case (.bfloat16, .bfloat16):
            try await RankRun<BFloat16, BFloat16>.measured(settings, routes, in: world)
        case (.float32, .float32):
            try await RankRun<Float, Float>.measured(settings, routes, in: world)
        case (.float16, .float16):
            try await RankRun<Float16, Float16>.measured(settings, routes, in: world)
        case (.float8E4M3, .bfloat16):
            try await RankRun<Float8E4M3, BFloat16>.measured(settings, routes, in: world)
        case (.float8E4M3FNUZ, .bfloat16):
            try await RankRun<Float8E4M3FNUZ, BFloat16>.measured(settings, routes, in: world)
        case (.float4E2M1, .bfloat16):
            try await RankRun<Float4E2M1Pair, BFloat16>.measured(settings, routes, in: world)
        default:
            try await measured(
                types.0.benchElement, types.1.benchElement, settings, routes, in: world)
        }
    }

    /// Any pair; slower to verify.
    private static func measured<Dispatched: BenchElement, Summed: BenchElement>(
        _: Dispatched.Type, _: Summed.Type, _ settings: BenchSettings, _ routes: Routes,
        in world: SymmetricMemory
    ) async throws -> BenchResult? {
        try await RankRun<Dispatched, Summed>.measured(settings, routes, in: world)
    }
}

extension RankRun {
    fileprivate static func measured(
        _ settings: BenchSettings, _ routes: Routes, in world: SymmetricMemory
    ) async throws -> BenchResult? {
        let progress = Progress(rank: world.rank)
        progress.show("allocating")
        let op = try await EPDispatchCombineOp(settings.config, in: world)
        let stream = try DeviceStream(on: world.device)
        let clock = try EventClock(on: stream)
        let buffers = try RoundBuffers(
            routes, rank: world.rank, config: settings.config, on: stream)
        var run = RankRun(
            settings: settings, routes: routes, op: op, stream: stream, clock: clock,
            buffers: buffers, progress: progress)
        if let prefix = settings.roundRequests {
            try await run.serve(RoundRequests(prefix: prefix, rank: world.rank))
            try await op.close()
            return nil
        }
        let modes = try await run.run()
        let result = try BenchResult(
            settings, modes: modes, op: op, peakBytes: run.peakBytes)
        try await op.close()
        return result
    }
}

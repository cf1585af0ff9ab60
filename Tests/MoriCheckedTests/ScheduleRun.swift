#if Checked
import MoriDevice
import MoriEP
import MoriHostKernels
import MoriOracle
import MoriTestSupport

/// How a schedule ended for one rank.
enum Outcome: Sendable, CustomStringConvertible {
    /// All rounds were as the oracle says.
    case finished
    /// A round failed, and the caller was told.
    case failed(MoriError, round: Int, after: Duration)
    /// Something else than an error and a right result.
    case wrong(String)

    var description: String {
        switch self {
        case .finished: "finished"
        case .failed(let error, let round, let after):
            "round \(round) failed after \(after): \(error)"
        case .wrong(let words): "WRONG: \(words)"
        }
    }
}

/// What a schedule led to.
struct Report: Sendable {
    /// By rank; where all rounds were right, then how the ranks closed.
    var outcomes: [Outcome] = []
    /// Accesses that nothing orders.
    var races: [String] = []
}

extension Schedule {
    /// Runs all rounds on all ranks; nobody tells the others that it failed but the library.
    func run() async throws -> Report {
        VirtualTime.start()
        let worlds = try await SymmetricMemory.local(
            worldSize: worldSize, device: Device(.host), roundTimeout: .seconds(3600),
            fabric: LoopbackFabric(loopback))
        var parts: [RankPart]? = try await RankPart.make(self, in: worlds)
        let routes = rounds.map { Routes($0.workload) }
        begin()
        var report = Report()
        report.outcomes = await withTaskGroup(of: (Int, Outcome).self) { group in
            for part in parts ?? [] {
                VirtualTime.hold()
                group.addTask {
                    let outcome = await part.run(self, routes)
                    VirtualTime.release()
                    return (part.rank, outcome)
                }
            }
            VirtualTime.release()
            var outcomes = [Outcome](repeating: .finished, count: worldSize)
            for await (rank, outcome) in group { outcomes[rank] = outcome }
            return outcomes
        }
        report.races = end()
        let isWhole = report.outcomes.allSatisfy { if case .finished = $0 { true } else { false } }
        for part in parts ?? [] where !isWhole { part.world.abort("the schedule is over") }
        // What the proxies still have to do takes time.
        let closed = await withTaskGroup(of: Outcome.self) { group in
            for part in parts ?? [] { group.addTask { await part.close(isWhole: isWhole) } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        parts = nil
        VirtualTime.hold()
        if isWhole { report.outcomes += closed }
        return report
    }

    private func begin() {
        moriep_pause_warps(warpSeed, UInt64(warpPause.nanoseconds))
        moriep_fail_allocation(failingAllocation)
        moriep_stream_always(storesPastCaches ? 1 : 0)
        if checksRaces { moriep_check_races(1) }
    }

    private func end() -> [String] {
        moriep_pause_warps(0, 0)
        moriep_fail_allocation(0)
        moriep_stream_always(0)
        guard checksRaces else { return [] }
        moriep_check_races(0)
        return (0..<moriep_race_count()).compactMap { index in
            guard let words = unsafe moriep_race(index) else { return nil }
            return unsafe String(cString: words)
        }
    }
}

/// What a combine failed with, and when that was known.
private struct CombineFailure: Error {
    let error: MoriError
    let time: Duration
}

/// One rank of a schedule.
private struct RankPart: Sendable {
    let world: SymmetricMemory
    let op: EPDispatchCombineOp
    let stream: DeviceStream

    var rank: Int { world.rank }

    static func make(
        _ schedule: Schedule, in worlds: [SymmetricMemory]
    ) async throws -> [RankPart] {
        try await withThrowingTaskGroup(of: RankPart.self) { group in
            for world in worlds {
                group.addTask {
                    RankPart(
                        world: world,
                        op: try await EPDispatchCombineOp(schedule.config, in: world),
                        stream: try DeviceStream(on: world.device))
                }
            }
            var parts: [RankPart] = []
            for try await part in group { parts.append(part) }
            return parts.sorted { $0.rank < $1.rank }
        }
    }

    func run(_ schedule: Schedule, _ routes: [Routes]) async -> Outcome {
        var number = 0
        var began = VirtualTime.now
        do {
            for round in schedule.rounds.indices {
                (number, began) = (round, VirtualTime.now)
                try await runRound(number, of: schedule, routes[number])
            }
            // Who has no tokens has not waited for the last sums.
            try await stream.completion()
            return .finished
        } catch let failure as CombineFailure {
            return .failed(failure.error, round: number, after: failure.time - began)
        } catch let error as MoriError {
            return .failed(error, round: number, after: VirtualTime.now - began)
        } catch {
            return .wrong("rank \(rank), round \(number): \(error)")
        }
    }

    func close(isWhole: Bool) async -> Outcome {
        do throws(MoriError) {
            if isWhole { try await op.close() }
            try await world.close()
            return .finished
        } catch {
            return .failed(error, round: -1, after: .zero)
        }
    }

    private func pause(_ point: Schedule.Point, _ round: Int, _ schedule: Schedule) throws {
        for pause in schedule.pauses
        where pause.rank == rank && pause.round == round && pause.point == point {
            try StreamCall.pause(stream, for: pause.duration)
        }
    }

    private func failLaunch(isCombine: Bool, _ round: Int, _ schedule: Schedule) throws {
        for launch in schedule.failingLaunches
        where launch.rank == rank && launch.round == round && launch.isCombine == isCombine {
            try StreamCall.failNextLaunch(stream)
        }
    }

    private func runRound(_ round: Int, of schedule: Schedule, _ routes: Routes) async throws {
        let timeout = schedule.deadline(of: rank)
        var options = RoundOptions(
            input: schedule.input, launch: schedule.launch, timeout: timeout)
        options.dispatchWeights = !schedule.withoutWeights.contains(rank)
        try pause(.beforeDispatch, round, schedule)
        let inputs = try RoundInputs<BFloat16>(routes, rank: rank, on: stream, for: op.config)
        let weights = options.dispatchWeights ? inputs.weights : nil
        try failLaunch(isCombine: false, round, schedule)
        let received: DispatchOutput
        if schedule.isSplit {
            let pending = try op.dispatchSend(
                inputs.tokens, weights: weights, scales: inputs.scales, indices: inputs.indices,
                launch: schedule.launch, timeout: timeout, on: stream)
            try pause(.betweenHalves, round, schedule)
            received = try op.dispatchReceive(
                pending, launch: schedule.launch, timeout: timeout, on: stream)
        } else {
            received = try op.dispatch(
                inputs.tokens, weights: weights, scales: inputs.scales, indices: inputs.indices,
                launch: schedule.launch, timeout: timeout, on: stream)
        }
        try pause(.beforeReading, round, schedule)
        let rows = try await checkReceived(
            received, routes, of: BFloat16.self, options: options, with: op, on: stream)
        for tensor in [received.tokens, received.indices] {
            try tensor.fill(with: 0xFF, on: stream)
        }
        if schedule.rounds[round].isDiscarded { return try op.discard(received) }
        try pause(.beforeCombine, round, schedule)
        let output = try ExpertOutput<BFloat16>(
            rows, routes, of: BFloat16.self, options: options, with: op, on: stream)
        try failLaunch(isCombine: true, round, schedule)
        let combined: CombineOutput
        if schedule.isSplit {
            let pending = try op.combineSend(
                output.tokens, of: received, weights: output.weights, input: schedule.input,
                launch: schedule.launch, timeout: timeout, on: stream)
            try pause(.betweenCombineHalves, round, schedule)
            combined = try op.combineReceive(
                pending, launch: schedule.launch, timeout: timeout, on: stream)
        } else {
            combined = try op.combine(
                output.tokens, of: received, weights: output.weights, input: schedule.input,
                launch: schedule.launch, timeout: timeout, on: stream)
        }
        do {
            try await checkCombined(
                combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                on: stream)
        } catch let error as MoriError {
            // Time goes on while the rows are looked at.
            let failure = CombineFailure(error: error, time: VirtualTime.now)
            try await requireVoid(combined, routes)
            throw failure
        }
    }

    /// A round that failed leaves no number that could be taken for a sum: its rows are void, or
    /// right because the failure came when they were finished.
    private func requireVoid(_ combined: CombineOutput, _ routes: Routes) async throws {
        // Whoever waited was told a moment before the stream says so. Or the wait itself found no memory:
        // then the round goes on, and others need time for it.
        VirtualTime.release()
        for _ in 0..<1000 where !stream.isIdle { try await Task.sleep(for: .milliseconds(1)) }
        VirtualTime.hold()
        guard stream.isIdle else { throw Mismatch("a stream still runs after its round") }
        let rows = unsafe Array(try combined.tokens.hostElements(as: BFloat16.self))
        let workload = routes.workload
        let oracle = Oracle(
            workload, rounding: BFloat16.rounding, combineRounding: BFloat16.rounding,
            sums: op.config.sumOrder(worldSize: op.world.worldSize))
        for token in 0..<workload.tokens[rank] {
            let row = rows[token * workload.hidden..<(token + 1) * workload.hidden]
            if row.allSatisfy(\.float.isNaN) { continue }
            let expected = BFloat16.rounded(oracle.combinedRow(rank: rank, token: token))
            guard row.elementsEqual(expected) else {
                throw Mismatch(
                    "row \(token) of a failed combine is neither NaN nor the right sum:"
                        + " \(row.prefix(4).map(\.float))")
            }
        }
    }
}
#endif

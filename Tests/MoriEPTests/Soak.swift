import CAllocationCount
import FoundationEssentials
import Glibc
import MoriEP
import MoriTestSupport

/// Worlds that come and go beside one that stays, for as long as asked, after a fifth of that time for one
/// operator in a great many rounds; everything is compared with the oracle.
struct Soak: Sendable {
    let seconds: Double
    let firstSeed: UInt64

    /// What happened.
    struct Outcome: Sendable {
        var worlds = 0
        var rounds = 0
        /// Of dispatch and combine, by the one operator.
        var pairs = 0
        /// Resident bytes, about once a second.
        var resident: [Int] = []
        /// Allocations that are not freed, likewise; all -1 where a sanitizer counts its own way.
        var allocations: [Int] = []
    }

    /// Runs until the time is over.
    ///
    /// - Throws: `Mismatch` for a wrong result, or where memory grew.
    func run() async throws -> Outcome {
        // Alone: where others have the cores, each of its waits would take a turn of theirs.
        let pairs = try await SteadyRounds(seed: firstSeed).run(
            until: .now + .seconds(seconds / 5))
        let end = ContinuousClock.now + .seconds(seconds * 0.8)
        var outcome = try await withThrowingTaskGroup(of: Outcome.self) { group in
            group.addTask { try await drawnWorlds(until: end) }
            group.addTask { try await lastingWorld(until: end) }
            group.addTask {
                var outcome = Outcome()
                while ContinuousClock.now < end {
                    outcome.resident.append(try Self.residentByteCount())
                    outcome.allocations.append(Int(mori_live_allocation_count()))
                    try await Task.sleep(for: .seconds(1))
                }
                return outcome
            }
            var sum = Outcome()
            for try await part in group {
                sum.worlds += part.worlds
                sum.rounds += part.rounds
                sum.resident += part.resident
                sum.allocations += part.allocations
            }
            return sum
        }
        outcome.pairs = pairs
        let resident = Trend(outcome.resident)
        guard resident.late <= resident.early + resident.early / 10 + 32 << 20 else {
            throw Mismatch("resident bytes grew: \(resident)")
        }
        let allocations = Trend(outcome.allocations)
        guard allocations.late <= allocations.early + allocations.early / 10 + 4096 else {
            throw Mismatch("allocations grew: \(allocations)")
        }
        return outcome
    }

    /// One world after the other, of any shape.
    private func drawnWorlds(until end: ContinuousClock.Instant) async throws -> Outcome {
        var outcome = Outcome()
        var seed = firstSeed
        while ContinuousClock.now < end {
            let space = ConfigurationSpace(seed: seed)
            do {
                if try await space.check() == .worked {
                    outcome.rounds += space.rounds.joined().count
                }
            } catch {
                throw Mismatch("\(error)\n  TEST_CONFIGURATIONS=1 TEST_SEED=\(seed): \(space)")
            }
            outcome.worlds += 1
            seed += 1
        }
        return outcome
    }

    /// Four ranks with three operators that live as long as the soak, in rounds of changing shapes.
    private func lastingWorld(until end: ContinuousClock.Instant) async throws -> Outcome {
        let ranks = 4
        let worlds = try await SymmetricMemory.local(
            worldSize: ranks, device: Device(.host), roundTimeout: Patience.healthy)
        let kinds: [KernelType] = [.intraNode, .interNodeV1, .asyncLL]
        let configs = kinds.map { kind in
            var config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 256, maxInputTokensPerRank: 64,
                expertsPerRank: 4, expertsPerToken: 4)
            config.kernelType = kind
            config.devicesPerNode = 2
            if kind == .intraNode { config.devicesPerNode = ranks }
            config.combineInput = .external
            return config
        }
        let members = try await onEveryRank(of: worlds) { world in
            var operators: [EPDispatchCombineOp] = []
            for config in configs {
                operators.append(try await EPDispatchCombineOp(config, in: world))
            }
            return (operators, try DeviceStream(on: world.device))
        }.map { try $0.get() }
        var outcome = Outcome()
        outcome.worlds = 1
        var dice = Dice(seed: firstSeed)
        while ContinuousClock.now < end {
            let runs = configs.map { config in
                ConfigurationRun(
                    ConfigurationSpace.drawRound(
                        &dice, ranks: ranks, most: config.maxInputTokensPerRank, config), config,
                    worldSize: ranks)
            }
            let records = runs.map { _ in ReceivedRecord() }
            let results = await onEveryRank(of: worlds) { world in
                let (operators, stream) = members[world.rank]
                for (index, run) in runs.enumerated() {
                    let received = try await run.dispatch(with: operators[index], on: stream)
                    try await run.finish(
                        received, slot: 0, records[index].round(0), with: operators[index],
                        on: stream)
                }
            }
            for result in results { try result.get() }
            outcome.rounds += runs.count
        }
        let closed = await onEveryRank(of: worlds) { world in
            for op in members[world.rank].0 { try await op.close() }
            try await world.close()
        }
        for result in closed { try result.get() }
        return outcome
    }

    /// What the process has of physical memory.
    static func residentByteCount() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }
}

/// How something developed: its medians in the second quarter of the time and in the last.
struct Trend: Sendable, CustomStringConvertible {
    let early: Int
    let late: Int

    init(_ values: [Int]) {
        func median(_ values: ArraySlice<Int>) -> Int {
            let sorted = values.sorted()
            return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
        }
        let quarter = values.count / 4
        early = median(values.dropFirst(quarter).prefix(quarter))
        late = median(values.suffix(quarter))
    }

    var description: String { "\(early), then \(late)" }
}

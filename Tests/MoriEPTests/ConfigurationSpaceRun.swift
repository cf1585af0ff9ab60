import MoriEP
import MoriOracle
import MoriTestSupport

/// What became of one configuration.
enum ConfigurationOutcome: Hashable {
    /// `validate` refused it, and so did the operator, in the same way.
    case refused
    /// It is legal, and asks for more memory than this world has.
    case tooLarge
    /// All its rounds gave what the oracle says.
    case worked
    /// More rows came than there was room for, where that is to fail.
    case overflowed
}

extension ConfigurationSpace {
    /// Symmetric memory of a rank; more than any case needs that was drawn to work.
    private static var heapByteLimit: Int { 64 << 20 }

    /// Runs the case on every rank and compares with the oracle.
    ///
    /// - Throws: `Mismatch` for whatever is neither right nor refused.
    func check() async throws -> ConfigurationOutcome {
        let refusal = refused { () throws(MoriError) in try config.validate(worldSize: worldSize) }
        let isTooLarge = try refusal == nil && needsMoreMemory()
        let worlds = try await SymmetricMemory.local(
            worldSize: worldSize, device: Device(.host), heapByteLimit: Self.heapByteLimit,
            roundTimeout: Patience.healthy)
        let record = ReceivedRecord()
        let results = await onEveryRank(of: worlds) { [self] world in
            let outcome: ConfigurationOutcome
            if refusal != nil || isTooLarge {
                try await expectRefusal(refusal?.code ?? .outOfMemory, in: world)
                outcome = isTooLarge ? .tooLarge : .refused
            } else {
                outcome = try await run(in: world, record)
            }
            if outcome != .overflowed { try await world.close() }
            return outcome
        }
        // The reason is better than what it did to the others.
        let errors = results.compactMap { if case .failure(let error) = $0 { error } else { nil } }
        if let error = errors.first(where: { $0 is Mismatch }) ?? errors.first { throw error }
        let outcomes = try Set(results.map { try $0.get() })
        guard let outcome = outcomes.first, outcomes.count == 1 else {
            throw Mismatch("ranks differ: \(outcomes)")
        }
        return outcome
    }

    private func refused(_ body: () throws(MoriError) -> Void) -> MoriError? {
        do throws(MoriError) { try body() } catch { return error }
        return nil
    }

    /// Whether a legal configuration is beyond this world's memory, by its own plan.
    private func needsMoreMemory() throws -> Bool {
        let plan = try EPDispatchCombineOp.memoryPlan(for: config, worldSize: worldSize)
        let parts = [plan.symmetricByteCount, plan.deviceByteCount, plan.pinnedByteCount]
        guard parts.allSatisfy({ $0 >= 0 }) else { throw Mismatch("a plan of \(plan)") }
        return plan.symmetricByteCount > Self.heapByteLimit
    }

    private func expectRefusal(_ code: MoriError.Code, in world: SymmetricMemory) async throws {
        do throws(MoriError) {
            _ = try await EPDispatchCombineOp(config, in: world)
        } catch {
            guard error.code == code, !error.message.isEmpty else {
                throw Mismatch("an operator fails with \(error), expected \(code)")
            }
            let legal: [MoriError.Code] = [.invalidConfiguration, .unsupported, .outOfMemory]
            guard legal.contains(code) else { throw Mismatch("refused as \(error)") }
            return
        }
        throw Mismatch("an operator was made of what is not legal, expected \(code)")
    }

    /// Runs all rounds on one rank.
    private func run(
        in world: SymmetricMemory, _ record: ReceivedRecord
    ) async throws -> ConfigurationOutcome {
        let op = try await EPDispatchCombineOp(config, in: world)
        let stream = try DeviceStream(on: world.device)
        for (number, pair) in rounds.enumerated() {
            let runs = pair.map { ConfigurationRun($0, config, worldSize: worldSize) }
            if let failing = runs.first(where: \.shallFail) {
                try await failing.expectOverflow(with: op, on: stream)
                return .overflowed
            }
            let records = pair.indices.map { record.round(number * 2 + $0) }
            let first = try await runs[0].dispatch(with: op, on: stream)
            if runs.count == 1 {
                try await runs[0].finish(first, slot: 0, records[0], with: op, on: stream)
            } else {
                let second = try await runs[1].dispatch(with: op, on: stream)
                try await runs[0].finish(first, slot: 0, records[0], with: op, on: stream)
                try await runs[1].finish(second, slot: 1, records[1], with: op, on: stream)
            }
        }
        try await op.close()
        return .worked
    }
}

/// Which rows came at all, in all rounds of a world: what there was no room for depends on who was
/// first.
final class ReceivedRecord: Sendable {
    private let rows = Locked<[[Int]: Set<Int>]>([:])

    /// One round's part of it.
    struct Round: Sendable {
        let record: ReceivedRecord
        let number: Int

        func add(_ positions: [TokenPosition], at receiver: Int) {
            record.rows.withLock { rows in
                for source in positions {
                    rows[[number, source.rank, source.token], default: []].insert(receiver)
                }
            }
        }

        func receivers(of rank: Int, count: Int) -> [[Int]] {
            record.rows.withLock { rows in
                (0..<count).map { rows[[number, rank, $0], default: []].sorted() }
            }
        }
    }

    func round(_ number: Int) -> Round { Round(record: self, number: number) }
}

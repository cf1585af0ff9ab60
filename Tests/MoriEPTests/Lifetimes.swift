import CAllocationCount
import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport

/// One life after the other, each with a round on two ranks.
struct Lifetimes: Sendable {
    /// What comes and goes.
    enum Kind: String, Codable, CaseIterable, Sendable {
        case operatorOnOneNode, operatorBetweenNodes
        /// With an operator between nodes.
        case world
    }

    static let ranks = 2
    /// After these, what is kept for good has been made.
    static let settling = 100

    let kind: Kind
    let count: Int

    /// What there is more of than before.
    struct Growth: Sendable, CustomStringConvertible {
        var residentBytes: Int
        /// Of all threads, not freed; 0 where a sanitizer counts its own way.
        var allocations: Int

        var description: String {
            "resident memory grew by \(residentBytes) bytes, allocations by \(allocations)"
        }
    }

    /// Runs them.
    ///
    /// - Throws: `Mismatch` for a wrong result, or where memory grew.
    func run() async throws -> Growth {
        let growth = kind == .world ? try await worlds() : try await operators()
        // Each of libdispatch's threads may come to keep 1,024 of its own, for the next time.
        guard growth.residentBytes < 4 << 20, growth.allocations < 3 * 1024 else {
            throw Mismatch("\(growth) in \(count) lifetimes")
        }
        return growth
    }

    private func worlds() async throws -> Growth {
        for _ in 0..<Self.settling { _ = try await withLocalWorld(Self.ranks, live) }
        let before = try await Self.whatThereIs()
        for _ in 0..<count { _ = try await withLocalWorld(Self.ranks, live) }
        return try await Self.growth(since: before)
    }

    private func operators() async throws -> Growth {
        try await withLocalWorld(Self.ranks) { world in
            for _ in 0..<Self.settling { try await live(in: world) }
            // Nobody is in the middle of something while they are counted.
            try await world.barrier()
            let before = try await Self.whatThereIs()
            try await world.barrier()
            for _ in 0..<count { try await live(in: world) }
            try await world.barrier()
            let growth = try await Self.growth(since: before)
            try await world.barrier()
            return growth
        }[0]
    }

    private func live(in world: SymmetricMemory) async throws {
        let routes = Routes(
            Workload(
                worldSize: Self.ranks, tokens: [3, 5], hidden: 40, topK: 2, expertsPerRank: 2,
                seed: 91))
        var config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 40, maxInputTokensPerRank: 8, expertsPerRank: 2,
            expertsPerToken: 2)
        config.kernelType = kind == .operatorOnOneNode ? .intraNode : .interNodeV1
        config.devicesPerNode = kind == .operatorOnOneNode ? Self.ranks : 1
        let op = try await EPDispatchCombineOp(config, in: world)
        try await checkRound(
            routes, of: BFloat16.self, combining: BFloat16.self, with: op,
            on: DeviceStream(on: world.device))
        try await op.close()
    }

    private static func growth(since before: Growth) async throws -> Growth {
        let now = try await whatThereIs()
        return Growth(
            residentBytes: now.residentBytes - before.residentBytes,
            allocations: now.allocations - before.allocations)
    }

    /// The least of what there is for some time: what is being released takes its own.
    private static func whatThereIs() async throws -> Growth {
        var least = Growth(residentBytes: .max, allocations: .max)
        for _ in 0..<20 {
            try await Task.sleep(for: .milliseconds(10))
            least.residentBytes = min(least.residentBytes, try Soak.residentByteCount())
            least.allocations = min(least.allocations, Int(mori_live_allocation_count()))
        }
        return least
    }
}

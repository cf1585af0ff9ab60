import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// One world that loses ranks and goes on, as the argument of a test.
struct RecoveryCase: Sendable, CustomTestStringConvertible {
    var kernelType = KernelType.intraNode
    var ranks: Int
    var devicesPerNode = 8
    var lost: Set<Int>
    var receiveOrder = ReceiveOrder.unspecified
    var slots = 1
    var seed: UInt64 = 9

    var testDescription: String {
        "\(kernelType), \(ranks) ranks, \(devicesPerNode) a node, without \(lost.sorted()),"
            + " \(receiveOrder), \(slots) slots, seed \(seed)"
    }

    /// Every rank has tokens for every other one, with scales and weights.
    func workload(round: Int) -> Workload {
        Workload(
            worldSize: ranks, tokens: (0..<ranks).map { [5, 70, 3, 0, 12][($0 + round) % 5] },
            hidden: 40, topK: 4, expertsPerRank: 3, scaleDim: 3, seed: seed + UInt64(round))
    }

    var round: RoundCase {
        RoundCase(workload(round: 0)) {
            $0.kernelType = kernelType
            $0.devicesPerNode = devicesPerNode
            $0.receiveOrder = receiveOrder
            $0.slots = slots
        }
    }

    var survivors: [Int] { (0..<ranks).filter { !lost.contains($0) } }
}

extension WorldTests.RecoveryTests {
    /// The thin path: a rank of a world of threads never dispatches, the round fails on all, and they
    /// go on without it.
    @Test(
        .timeLimit(.minutes(2)),
        arguments: [
            RecoveryCase(ranks: 4, lost: [1]),
            RecoveryCase(ranks: 4, lost: [0]),
            RecoveryCase(ranks: 3, lost: [0, 2]),
            RecoveryCase(ranks: 4, lost: [2], receiveOrder: .source),
            RecoveryCase(ranks: 4, lost: [3], slots: 2),
        ])
    func survivorsGoOnWithoutTheRankThatNeverCame(_ test: RecoveryCase) async throws {
        try await Self.run(test)
    }

    /// Proxies move to the next rank of their node, rings and queues are made anew; a whole node may be
    /// gone, and the last rank that is left goes on alone.
    @Test(
        .enabled(if: InterNodeSupport.isBuilt), .timeLimit(.minutes(3)),
        arguments: InterNodeSupport.kernels)
    func survivorsOfTheKernelsBetweenNodesGoOn(_ kernel: KernelType) async throws {
        for (ranks, perNode, lost) in [
            (4, 2, [1]), (4, 2, [0]), (4, 2, [2, 3]), (5, 2, [0, 3]), (6, 3, [3, 4]), (3, 1, [0]),
            (4, 4, [2]), (2, 1, [0]),
        ] as [(Int, Int, Set<Int>)] {
            let test = RecoveryCase(
                kernelType: kernel, ranks: ranks, devicesPerNode: perNode, lost: lost)
            do {
                try await Self.run(test, fabric: LoopbackFabric(.shuffled(seed: 3)))
            } catch {
                Issue.record("\(test.testDescription): \(error)")
            }
        }
    }

    /// A rank that comes too late: all go on, with everyone's experts.
    @Test(.timeLimit(.minutes(3)), arguments: KernelType.allCases)
    func nothingIsLostWhenEveryoneGoesOn(_ kernel: KernelType) async throws {
        let test = RecoveryCase(kernelType: kernel, ranks: 4, devicesPerNode: 2, lost: [2])
        let worlds = try await SymmetricMemory.local(
            worldSize: test.ranks, device: Device(.host), roundTimeout: Patience.healthy)
        let gaveUp = Arrivals()
        let results = await onEveryRank(of: worlds) { world in
            let op = try await EPDispatchCombineOp(test.round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            for round in 0..<2 { try await Self.check(test, round, with: op, on: stream) }
            try await world.barrier()
            try op.setTimeout(.milliseconds(500), on: stream)
            if test.lost.contains(world.rank) { try await gaveUp.wait(for: 3) }
            await #expect(throws: MoriError.self) {
                try await Self.check(test, 2, with: op, on: stream)
            }
            gaveUp.arrive()
            let recovery = try await world.recover(activeRanks: [3, 1, 2, 0])
            #expect(recovery.activeRanks == [0, 1, 2, 3])
            #expect(recovery.firstIncompleteRound == 3)
            try op.setTimeout(Patience.healthy, on: stream)
            // The void round again, and more.
            for round in 2..<6 { try await Self.check(test, round, with: op, on: stream) }
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
    }

    /// Its queue pairs break in the middle of a round: it is named by the completions' status, and
    /// nothing is sent there any more.
    @Test(
        .enabled(if: InterNodeSupport.isBuilt), .timeLimit(.minutes(2)),
        arguments: InterNodeSupport.kernels)
    func survivorsOfACutNetworkGoOn(_ kernel: KernelType) async throws {
        let test = RecoveryCase(kernelType: kernel, ranks: 4, devicesPerNode: 2, lost: [2])
        let worlds = try await SymmetricMemory.local(
            worldSize: test.ranks, device: Device(.host), roundTimeout: Patience.healthy,
            fabric: LoopbackFabric(.immediate.failing(.lostPeer(rank: 2, request: 20))))
        let results = await onEveryRank(of: worlds) { world in
            let op = try await EPDispatchCombineOp(test.round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let failure = await #expect(throws: MoriError.self) {
                for round in 0..<100 { try await Self.check(test, round, with: op, on: stream) }
            }
            #expect(failure?.ranks == [2], "\(failure.map { "\($0)" } ?? "")")
            if test.lost.contains(world.rank) {
                try await op.close()
                return try await world.close()
            }
            try await world.recover(activeRanks: test.survivors)
            for round in 3..<6 {
                try await Self.check(test, round, without: test.lost, with: op, on: stream)
            }
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
    }

    /// Every rank that recovers must name the same ranks, itself among them, of those that are left.
    @Test(.timeLimit(.minutes(1)))
    func setsOfRanksThatCannotGoOnAreRefused() async throws {
        let worlds = try await SymmetricMemory.local(worldSize: 4, device: Device(.host))
        let world = worlds[1]
        for (ranks, about) in [([0, 2], [1]), ([0, 1, 4], [4]), ([-1, 1], [-1]), ([], [1])] {
            let error = await #expect(throws: MoriError.self) {
                try await world.recover(activeRanks: ranks)
            }
            #expect(error?.code == .invalidArgument)
            #expect(error?.ranks == about, "\(ranks)")
        }
        let refused = Arrivals()
        // Nothing has happened yet.
        let results = await onEveryRank(of: worlds) { world in
            try await world.barrier()
            guard world.rank < 3 else { return }
            let error = await #expect(throws: MoriError.self) {
                try await world.recover(
                    activeRanks: world.rank == 2 ? [1, 2] : [0, 1, 2], timeout: .milliseconds(500))
            }
            #expect(
                error?.code == .ranksDisagree || error?.code == .timedOut,
                "\(error.map { "\($0)" } ?? "")")
            refused.arrive()
            try await refused.wait(for: 3)
            let again = try await world.recover(activeRanks: [0, 1, 2])
            #expect(again.activeRanks == [0, 1, 2] && again.firstIncompleteRound == nil)
            try await world.barrier()
            // Rank 3 is out for good.
            let late = await #expect(throws: MoriError.self) {
                try await world.recover(activeRanks: [0, 1, 2, 3])
            }
            #expect(late?.code == .invalidArgument && late?.ranks == [3])
            try await world.close()
        }
        for result in results { try result.get() }
        let error = await #expect(throws: MoriError.self) { try await worlds[3].barrier() }
        #expect(error?.code == .aborted)
        try await worlds[3].close()
    }

    /// Two rounds, then one that the lost ranks never dispatch, then recovery and three more.
    static func run(_ test: RecoveryCase, fabric: (any Fabric)? = nil) async throws {
        let worlds = try await SymmetricMemory.local(
            worldSize: test.ranks, device: Device(.host), roundTimeout: Patience.healthy,
            fabric: fabric)
        let results = await onEveryRank(of: worlds) { world in
            let op = try await EPDispatchCombineOp(test.round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            for round in 0..<2 { try await check(test, round, with: op, on: stream) }
            guard !test.lost.contains(world.rank) else { return }
            try op.setTimeout(.milliseconds(300), on: stream)
            let failure = await #expect(throws: MoriError.self) {
                try await check(test, 2, with: op, on: stream)
            }
            #expect(
                test.lost.contains(failure?.ranks.first ?? -1), "\(failure.map { "\($0)" } ?? "")")
            try requireAborted(op) { _ = try op.reclaim() }
            let recovery = try await world.recover(activeRanks: test.survivors)
            #expect(recovery.activeRanks == test.survivors && recovery.generation == 1)
            #expect(op.firstIncompleteRound == recovery.firstIncompleteRound)
            #expect(world.activeRanks == test.survivors)
            for round in 3..<6 {
                try await check(test, round, without: test.lost, with: op, on: stream)
            }
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
        for rank in test.lost { try await worlds[rank].close() }
    }

    static func check(
        _ test: RecoveryCase, _ round: Int, without lost: Set<Int> = [],
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws {
        try await checkRound(
            Routes(test.workload(round: round).without(lost)), of: BFloat16.self,
            combining: BFloat16.self, with: op, on: stream)
    }
}

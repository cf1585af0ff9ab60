import CHIP
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// An order in which things go around a recovery.
enum RecoveryTeardown: String, Codable, CaseIterable, Sendable {
    case recoveredAndClosed
    case recoveredAndDropped
    case recoveredTwice
    case recoveredWhileAnotherOperatorIsGone
    case outputKeptOverTheRecovery
    case graphKeptOverTheRecovery
    case recoveryThatNobodyJoins
    case closedInsteadOfRecovered
    case worldClosedBeforeTheOperator
}

extension WorldTests.CloseTests {
    /// No crash, no hang, and nothing is left, also by the rank that was left behind.
    @Test(
        .timeLimit(.minutes(1)), arguments: RecoveryTeardown.allCases,
        [KernelType.intraNode, .interNodeV1LL])
    func nothingIsLeftAroundARecovery(_ order: RecoveryTeardown, _ kernel: KernelType) async {
        await #expect(processExitsWith: .success) { [order, kernel] in
            try await run(order, kernel)
            try await requireNothingLive()
        }
    }

    /// Whatever was closed stays closed, and says so.
    @Test(.timeLimit(.minutes(1)))
    func aClosedWorldDoesNotRecover() async throws {
        let worlds = try await SymmetricMemory.local(worldSize: 2, device: Device(.host))
        try await close(worlds)
        try await close(worlds)
        for world in worlds {
            let error = await #expect(throws: MoriError.self) {
                try await world.recover(activeRanks: [0, 1])
            }
            #expect(error?.code == .closed)
        }
    }
}

private let routes = Routes(
    Workload(worldSize: 3, tokens: [5, 3, 4], hidden: 40, topK: 2, expertsPerRank: 2, seed: 78))

private func config(_ kernel: KernelType) -> EPDispatchCombineConfig {
    EPDispatchCombineConfig(
        elementType: .bfloat16, hiddenDim: 40, maxInputTokensPerRank: 8, expertsPerRank: 2,
        expertsPerToken: 2, kernelType: kernel, devicesPerNode: kernel == .intraNode ? 8 : 1)
}

/// Rank 2 does not come; what the others do about it is the order.
private func run(_ order: RecoveryTeardown, _ kernel: KernelType) async throws {
    let worlds = try await SymmetricMemory.local(
        worldSize: 3, device: Device(.host), roundTimeout: .milliseconds(500))
    let gaveUp = Arrivals()
    let results = await onEveryRank(of: worlds) { world in
        let stream = try DeviceStream(on: world.device)
        let op = try await EPDispatchCombineOp(config(kernel), in: world)
        var other: EPDispatchCombineOp? = try await EPDispatchCombineOp(config(kernel), in: world)
        try await checkRound(
            routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
        try await world.barrier()
        if world.rank == 2 { return try await gaveUp.wait(for: 2) }
        let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
        var graph: DeviceGraph?
        if order == .graphKeptOverTheRecovery {
            try await stream.completion()
            graph = try stream.capture { () throws(MoriError) in
                let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
                let tokens = received.tokens
                _ = try op.combine(tokens, of: received, on: stream)
            }
        }
        let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
        let failure = await #expect(throws: MoriError.self) { try await stream.completion() }
        guard failure != nil else { throw Mismatch("no failure") }
        gaveUp.arrive()
        if order == .recoveredWhileAnotherOperatorIsGone && world.rank == 0 { other = nil }
        try await go(on: order, op, received, graph, world, stream)
        _ = other
    }
    for result in results { try result.get() }
}

private func go(
    on order: RecoveryTeardown, _ op: EPDispatchCombineOp, _ received: consuming DispatchOutput,
    _ graph: DeviceGraph?, _ world: SymmetricMemory, _ stream: DeviceStream
) async throws {
    let survivors = Routes(routes.workload.without([2]))
    switch order {
    case .closedInsteadOfRecovered:
        try await op.close()
        try await world.close()
    case .worldClosedBeforeTheOperator:
        try await world.close()
        try await op.close()
    case .recoveryThatNobodyJoins:
        if world.rank == 0 {
            do {
                try await world.recover(activeRanks: [0, 1], timeout: .milliseconds(300))
                throw Mismatch("a recovery that nobody joined")
            } catch let error as MoriError {
                guard error.code == .timedOut, error.ranks == [1] else { throw error }
            }
        }
        try await op.close()
        try await world.close()
    case .outputKeptOverTheRecovery:
        try await world.recover(activeRanks: [0, 1])
        let tokens = received.tokens
        do {
            _ = try op.combine(tokens, of: received, on: stream)
            throw Mismatch("an output outlived its round")
        } catch let error as MoriError {
            guard error.code == .aborted else { throw error }
        }
        try await checkRound(
            survivors, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
        try await op.close()
        try await world.close()
    case .graphKeptOverTheRecovery:
        try await world.recover(activeRanks: [0, 1])
        do {
            try graph?.launch(on: stream)
            throw Mismatch("a graph outlived its operator's memory")
        } catch let error as MoriError {
            guard error.code == .aborted else { throw error }
        }
        try await op.close()
        try await world.close()
    case .recoveredAndClosed, .recoveredAndDropped, .recoveredTwice,
        .recoveredWhileAnotherOperatorIsGone:
        try await world.recover(activeRanks: [0, 1])
        try await checkRound(
            survivors, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
        if order == .recoveredTwice {
            // Nothing failed, and nobody is left behind: legal, and everything is made anew.
            let second = try await world.recover(activeRanks: [0, 1])
            guard second.generation == 2 else { throw Mismatch("\(second)") }
            try await checkRound(
                survivors, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
        }
        guard order != .recoveredAndDropped else { return }
        try await op.close()
        try await world.close()
    }
}

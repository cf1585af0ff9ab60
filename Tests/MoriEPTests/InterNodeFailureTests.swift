import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeFailureTests {
    private static let kernels = InterNodeSupport.kernels
    private static let geometry = Geometry(4, of: 2)
    /// Every rank sends to every other one: to each node, and to each rank of it.
    private static let routes = Routes(
        geometry.workload(tokens: [5, 4, 66, 3], hidden: 10, expertsPerRank: 1, seed: 31))

    private static func config(_ kernel: KernelType) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 10, maxInputTokensPerRank: 70, expertsPerRank: 1,
            expertsPerToken: 4, kernelType: kernel, devicesPerNode: geometry.devicesPerNode)
    }

    /// Rounds until one fails; a rank that waits for nobody any more goes on to the next.
    private static func runRounds(
        _ kernel: KernelType, in world: SymmetricMemory, count: Int = 20
    ) async throws {
        let op = try await EPDispatchCombineOp(config(kernel), in: world)
        let stream = try DeviceStream(on: world.device)
        let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
        for _ in 0..<count {
            let received = try op.dispatch(
                inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
            let rows = received.tokens
            _ = try op.combine(rows, of: received, on: stream)
            try await stream.completion()
        }
    }

    private static func world(
        over behavior: LoopbackBehavior, timeout: Duration = Patience.healthy
    ) async throws -> [SymmetricMemory] {
        try await SymmetricMemory.local(
            worldSize: geometry.ranks, device: Device(.host), roundTimeout: timeout,
            fabric: LoopbackFabric(behavior))
    }

    /// The rank whose network fails says so at once, long before the deadline, and frees the others.
    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func aFailedWriteEndsTheRoundAndNamesThePeer(_ kernel: KernelType) async throws {
        // Where rank 0's packets for node 1 go depends on the kernel: to rank 2, to rank 3, or both.
        for peer in [2, 3] {
            let worlds = try await Self.world(
                over: .immediate.failing(.completionError(rank: 0, peer: peer, request: 3)))
            let began = ContinuousClock.now
            let results = await onEveryRank(of: worlds) { world in
                try await Self.runRounds(kernel, in: world)
            }
            #expect(ContinuousClock.now - began < Patience.prompt)
            let errors = results.compactMap { result -> MoriError? in
                if case .failure(let error) = result { error as? MoriError } else { nil }
            }
            // A kernel that does not write there fails nowhere.
            guard !errors.isEmpty else { continue }
            #expect(errors.count == Self.geometry.ranks)
            for error in errors {
                #expect(error.code == .networkFailure || error.code == .aborted, "\(error)")
                #expect(error.ranks.contains(peer), "\(error)")
            }
            #expect(errors[0].description.contains("rank \(peer)"), "\(errors[0])")
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func aRankThatCannotBeReachedIsNamedByEveryone(_ kernel: KernelType) async throws {
        let worlds = try await Self.world(over: .immediate.failing(.lostPeer(rank: 2, request: 5)))
        let errors = try await failures(of: worlds) { world in
            try await Self.runRounds(kernel, in: world)
        }
        for error in errors {
            #expect(error.code == .networkFailure || error.code == .aborted, "\(error)")
            #expect(error.ranks.contains(2), "\(error)")
        }
        try await close(worlds)
    }

    /// A rank of another node that does not dispatch: whoever waits ends at the deadline.
    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func aRankThatDoesNotDispatchEndsTheRoundAtTheDeadline(_ kernel: KernelType) async throws {
        let worlds = try await Self.world(over: .immediate, timeout: .milliseconds(500))
        let gaveUp = Arrivals()
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(Self.routes, rank: world.rank, on: stream)
            try await stream.completion()
            try await world.barrier()
            // Comes when it is too late.
            if world.rank == 3 { try await gaveUp.wait(for: 3) }
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            let count = received.receivedTokenCount
            do {
                try await stream.completion()
            } catch {
                gaveUp.arrive()
                let host = unsafe try count.hostElements(as: Int32.self)
                #expect(unsafe host[0] == 0, "a void round received something")
                try requireAborted(op) { _ = try op.reclaim() }
                throw error
            }
            try op.discard(received)
        }
        for error in errors[..<3] {
            #expect(error.code == .timedOut || error.code == .aborted, "\(error)")
        }
        #expect(errors[..<3].contains { $0.code == .timedOut })
        #expect(errors[3].code == .aborted)
        try await close(worlds)
    }
}

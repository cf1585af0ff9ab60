import CAllocationCount
import CHIP
import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// An order in which things go.
enum Teardown: String, Codable, CaseIterable, Sendable {
    case closedInOrder
    case closedTwice
    case operatorDropped
    case worldClosedFirst
    case everythingDropped
    case droppedWhileWorkRuns
    case closedWhileWorkRuns
    case outputsKeptBeyondTheWorld
    case outputAbandoned
    case outputDiscarded
    case graphKeptBeyondTheOperator
    case captureDropped
    case closedAfterATimeout
    case droppedAfterATimeout
    case closedAfterAnAbort
}

extension WorldTests.LifetimeTests {
    /// No crash, no hang, and nothing is left; on one node, and on two, with a proxy and queues.
    @Test(
        .timeLimit(.minutes(1)), arguments: Teardown.allCases,
        [KernelType.intraNode, .interNode, .interNodeV1])
    func nothingIsLeftWhateverGoesFirst(_ order: Teardown, _ kernel: KernelType) async {
        await #expect(processExitsWith: .success) { [order, kernel] in
            try await run(order, kernel)
            try await requireNothingLive()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func memoryPlansAreWhatIsAllocatedToTheByte() async {
        await #expect(processExitsWith: .success) {
            for (ranks, config) in planCases { try await checkPlan(of: config, ranks: ranks) }
        }
    }

    /// What the proxy's thread does about once a millisecond, over the days that a server lives.
    @Test(
        .enabled(if: mori_live_allocation_count() >= 0, "a sanitizer counts its own way"),
        .timeLimit(.minutes(1)))
    func anOperatorThatWaitsForWorkKeepsNothing() async {
        await #expect(processExitsWith: .success) {
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(
                    teardownConfig(.interNodeV1), in: world)
                try await world.barrier()
                // Until here what is kept for good has been made.
                try await Task.sleep(for: .milliseconds(100))
                let before = mori_live_allocation_count()
                try await Task.sleep(for: .milliseconds(500))
                let kept = mori_live_allocation_count() - before
                // Of sleeping tasks; the proxies had several hundred turns.
                guard kept < 50 else { throw Mismatch("\(kept) allocations in half a second") }
                try await world.barrier()
                try await op.close()
            }
        }
    }

    /// A round in the steady state makes no buffer, stream, event or graph.
    @Test(.timeLimit(.minutes(1)))
    func roundsAllocateNothing() async {
        await #expect(processExitsWith: .success) {
            let routes = teardownRoutes
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(teardownConfig, in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                var least: moriep_live_counts?
                for turn in 0..<50 {
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                        on: stream)
                    let tokens = received.tokens
                    let weights = received.weights
                    _ = try op.combine(tokens, of: received, weights: weights, on: stream)
                    try await stream.completion()
                    try await world.barrier()
                    // The inputs' staging buffers may go in the background meanwhile, but nothing
                    // comes.
                    let counts = try liveCounts()
                    if turn >= 5 {
                        guard least.map(counts.isWithin) ?? true else {
                            throw Mismatch(
                                "round \(turn): \(counts.words), before \(least?.words ?? "")")
                        }
                        least = counts
                    }
                    try await world.barrier()
                }
                try await op.close()
            }
            try await requireNothingLive()
        }
    }

    /// Not even a small allocation that no device knows of, which days of rounds would add up.
    @Test(
        .enabled(if: mori_live_allocation_count() >= 0, "a sanitizer counts its own way"),
        .timeLimit(.minutes(1)), arguments: [KernelType.intraNode, .interNodeV1, .asyncLL])
    func roundsKeepNothing(_ kernel: KernelType) async {
        await #expect(processExitsWith: .success) { [kernel] in
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(teardownConfig(kernel), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(
                    teardownRoutes, rank: world.rank, on: stream)
                // On threads of their own: those of Swift's tasks keep what they may use again.
                let kept = try await BackgroundThread.run {
                    Result { try keptAllocations(of: op, inputs, on: stream) }
                }.get()
                guard kept < 16 else { throw Mismatch("\(kept) allocations of 300 rounds") }
                try await world.barrier()
                try await op.close()
            }
        }
    }
}

/// How many more allocations there are after 400 rounds than after 100: each time the least of the last 50
/// rounds, since the other rank may be in the middle of one.
private func keptAllocations(
    of op: EPDispatchCombineOp, _ inputs: RoundInputs<BFloat16>, on stream: DeviceStream
) throws -> Int {
    var counts: [Int] = []
    for _ in 0..<400 {
        let received = try op.dispatch(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
        let tokens = received.tokens
        _ = try op.combine(tokens, of: received, on: stream)
        try stream.synchronize()
        counts.append(Int(mori_live_allocation_count()))
    }
    return (counts[350..<400].min() ?? 0) - (counts[50..<100].min() ?? 0)
}

private let teardownRoutes = Routes(
    Workload(worldSize: 2, tokens: [5, 3], hidden: 40, topK: 2, expertsPerRank: 2, seed: 77))

private let teardownConfig = EPDispatchCombineConfig(
    elementType: .bfloat16, hiddenDim: 40, maxInputTokensPerRank: 8, expertsPerRank: 2,
    expertsPerToken: 2)

/// The same with other kernels; between nodes, each rank is one.
private func teardownConfig(_ kernel: KernelType) -> EPDispatchCombineConfig {
    var config = teardownConfig
    config.kernelType = kernel
    if kernel != .intraNode { config.devicesPerNode = 1 }
    return config
}

/// Makes a world, runs rounds, and lets everything go in this order.
private func run(_ order: Teardown, _ kernel: KernelType) async throws {
    switch order {
    case .closedAfterATimeout, .droppedAfterATimeout, .closedAfterAnAbort:
        try await runFailure(order, kernel)
        return
    default: break
    }
    let worlds = try await SymmetricMemory.local(
        worldSize: 2, device: Device(.host), roundTimeout: Patience.healthy)
    let results = await onEveryRank(of: worlds) { world in
        try await run(order, kernel, in: world)
    }
    for result in results { try result.get() }
}

private func run(
    _ order: Teardown, _ kernel: KernelType, in world: SymmetricMemory
) async throws {
    let stream = try DeviceStream(on: world.device)
    switch order {
    case .closedInOrder, .closedTwice:
        let op = try await makeUsedOp(kernel, in: world, on: stream)
        for _ in 0..<(order == .closedTwice ? 2 : 1) {
            try await op.close()
        }
        for _ in 0..<(order == .closedTwice ? 2 : 1) {
            try await world.close()
        }
    case .operatorDropped:
        for _ in 0..<3 { _ = try await makeUsedOp(kernel, in: world, on: stream) }
        try await world.close()
    case .worldClosedFirst:
        let op = try await makeUsedOp(kernel, in: world, on: stream)
        try await world.close()
        // Too late to meet the others; it must say so or do nothing, not hang.
        try? await op.close()
    case .everythingDropped:
        _ = try await makeUsedOp(kernel, in: world, on: stream)
        try await world.barrier()
    case .droppedWhileWorkRuns, .closedWhileWorkRuns:
        let gate: StreamGate
        do {
            let op = try await makeUsedOp(kernel, in: world, on: stream)
            let inputs = try RoundInputs<BFloat16>(
                teardownRoutes, rank: world.rank, on: stream)
            gate = try StreamGate(on: stream)
            for _ in 0..<3 {
                let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
                let tokens = received.tokens
                _ = try op.combine(tokens, of: received, on: stream)
            }
            if order == .closedWhileWorkRuns {
                gate.open()
                try await op.close()
            }
        }
        if order == .closedWhileWorkRuns {
            try await world.close()
        } else {
            // Every rank's operator is gone before any of the work begins.
            try await world.barrier()
            gate.open()
        }
    case .outputsKeptBeyondTheWorld:
        let kept = try await keepOutputs(kernel, of: world, on: stream)
        let rows: [BFloat16] = try await kept.elements(on: stream)
        guard rows.count == teardownRoutes.workload.tokens[world.rank] * 40 else {
            throw Mismatch("\(rows.count) elements")
        }
    case .outputAbandoned, .outputDiscarded:
        let op = try await makeUsedOp(kernel, in: world, on: stream)
        let inputs = try RoundInputs<BFloat16>(teardownRoutes, rank: world.rank, on: stream)
        do {
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            if order == .outputDiscarded { try op.discard(received) }
        }
        try await op.close()
        try await world.close()
    case .graphKeptBeyondTheOperator, .captureDropped:
        let graph = try await captureRound(kernel, in: world, on: stream)
        if order == .graphKeptBeyondTheOperator {
            for _ in 0..<5 { try graph.launch(on: stream) }
            try await stream.completion()
        }
        try await world.barrier()
    case .closedAfterATimeout, .droppedAfterATimeout, .closedAfterAnAbort: break
    }
}

/// An operator that has two rounds behind it.
private func makeUsedOp(
    _ kernel: KernelType, in world: SymmetricMemory, on stream: DeviceStream
) async throws -> EPDispatchCombineOp {
    let op = try await EPDispatchCombineOp(teardownConfig(kernel), in: world)
    for _ in 0..<2 {
        try await checkRound(
            teardownRoutes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
    }
    return op
}

private func keepOutputs(
    _ kernel: KernelType, of world: SymmetricMemory, on stream: DeviceStream
) async throws -> DeviceTensor {
    let op = try await makeUsedOp(kernel, in: world, on: stream)
    let inputs = try RoundInputs<BFloat16>(teardownRoutes, rank: world.rank, on: stream)
    let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
    let tokens = received.tokens
    let combined = try op.combine(tokens, of: received, on: stream)
    try await op.close()
    try await world.close()
    return combined.tokens
}

private func captureRound(
    _ kernel: KernelType, in world: SymmetricMemory, on stream: DeviceStream
) async throws -> DeviceGraph {
    let op = try await makeUsedOp(kernel, in: world, on: stream)
    let inputs = try RoundInputs<BFloat16>(teardownRoutes, rank: world.rank, on: stream)
    try await stream.completion()
    return try stream.capture { () throws(MoriError) in
        let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
        let tokens = received.tokens
        _ = try op.combine(tokens, of: received, on: stream)
    }
}

/// Rank 1 does not come, or aborts.
private func runFailure(_ order: Teardown, _ kernel: KernelType) async throws {
    let worlds = try await SymmetricMemory.local(
        worldSize: 2, device: Device(.host), roundTimeout: .milliseconds(500))
    let gaveUp = Arrivals()
    let results = await onEveryRank(of: worlds) { world in
        let stream = try DeviceStream(on: world.device)
        let op = try await EPDispatchCombineOp(teardownConfig(kernel), in: world)
        if world.rank == 1 {
            if order == .closedAfterAnAbort { world.abort("no") }
            try await gaveUp.wait(for: 1)
        }
        do {
            let inputs = try RoundInputs<BFloat16>(teardownRoutes, rank: world.rank, on: stream)
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            try await stream.completion()
            try op.discard(received)
            throw Mismatch("rank \(world.rank): no failure")
        } catch is MoriError {
            gaveUp.arrive()
        }
        if order == .droppedAfterATimeout { return }
        try await op.close()
        try await world.close()
    }
    for result in results { try result.get() }
}

private let planCases: [(Int, EPDispatchCombineConfig)] = {
    var cases: [(Int, EPDispatchCombineConfig)] = [(1, teardownConfig), (2, teardownConfig)]
    var config = EPDispatchCombineConfig(
        elementType: .float32, combineElementType: .bfloat16, hiddenDim: 130, scaleDim: 7,
        scaleByteSize: 2, maxInputTokensPerRank: 33, expertsPerRank: 3, expertsPerToken: 5,
        slots: 3)
    cases.append((5, config))
    config.maxTotalReceivedTokens = 17
    config.expertCount = 14
    cases.append((5, config))
    config.combineInput = .registered
    config.slots = 1
    cases.append((8, config))
    cases.append((64, teardownConfig))
    // DeepSeek-V3's shape: planned and allocated, but never touched.
    cases.append(
        (
            8,
            EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 7168, maxInputTokensPerRank: 4096,
                expertsPerRank: 32, expertsPerToken: 8)
        ))
    return cases
}()

private func checkPlan(of config: EPDispatchCombineConfig, ranks: Int) async throws {
    let plan = try EPDispatchCombineOp.memoryPlan(for: config, worldSize: ranks)
    guard
        plan.byteCount
            == plan.symmetricByteCount + plan.deviceByteCount + plan.pinnedByteCount
    else { throw Mismatch("\(plan)") }
    _ = try await withLocalWorld(ranks) { world in
        try await world.barrier()
        let before = try liveCounts().allocated_bytes
        try await world.barrier()
        let op = try await EPDispatchCombineOp(config, in: world)
        guard op.memoryPlan == plan else { throw Mismatch("\(op.memoryPlan), not \(plan)") }
        try await world.barrier()
        let expected = before + Int64(ranks * plan.byteCount)
        var found = try liveCounts().allocated_bytes
        // Staging buffers go in the background.
        for _ in 0..<6000 where found != expected {
            try await Task.sleep(for: .milliseconds(10))
            found = try liveCounts().allocated_bytes
        }
        guard found == expected else {
            throw Mismatch("\(ranks) ranks: \(found - before) bytes, planned \(ranks) x \(plan)")
        }
        try await world.barrier()
        try await op.close()
    }
    try await requireNothingLive()
}

// The Swift names that PythonNames.swift is sent to, in use. Not part of any target: RenamedTests
// compiles it beside that file, and it must have no error.

import MoriEP

func swiftConfiguration() -> EPDispatchCombineConfig {
    var config = EPDispatchCombineConfig(
        elementType: .bfloat16, hiddenDim: 7168, maxInputTokensPerRank: 4096, expertsPerRank: 32,
        expertsPerToken: 8)
    config.elementType = ElementType.float32
    config.hiddenDim = 7168
    config.scaleDim = 0
    config.scaleByteSize = 1
    config.maxTokenElementByteSize = 4
    config.maxInputTokensPerRank = 4096
    config.maxTotalReceivedTokens = nil
    config.expertsPerRank = 32
    config.expertsPerToken = 8
    config.launch = LaunchConfiguration(blocks: 80, warpsPerBlock: 16)
    config.launch = LaunchConfiguration(blocks: 96, rdmaBlocks: 64, warpsPerBlock: 8)
    config.launch.blocks = 96
    config.launch.rdmaBlocks = 64
    config.launch.warpsPerBlock = 8
    config.combineInput = .external
    config.combineInput = .registered
    config.quantization = .fp8Blockwise
    config.devicesPerNode = 8
    config.queuePairsPerPeer = 1
    _ = config.maxReceivedTokens(worldSize: 8)
    for kernelType in [
        KernelType.intraNode, .interNode, .interNodeV1, .interNodeV1LL, .asyncLL,
    ] {
        config.kernelType = kernelType
    }
    _ = [
        ElementType.bfloat16, .float16, .float32, .float8E4M3, .float8E4M3FNUZ, .float8E5M2,
        .float4E2M1, .int32, .uint8,
    ]
    return config
}

func swiftWorlds(_ stream: DeviceStream) async throws {
    let id = try UniqueID.init()
    let world = try await SymmetricMemory.join(rank: 0, worldSize: 1, uniqueID: id)
    let other = try await SymmetricMemory.join(.environment)
    _ = (world.rank, world.worldSize, world.device)
    try await world.barrier()
    try await other.close()
    try await stream.completion()
}

func swiftRounds(
    _ op: EPDispatchCombineOp, _ tokens: DeviceTensor, _ weights: DeviceTensor,
    _ scales: DeviceTensor, _ indices: DeviceTensor, _ stream: DeviceStream
) async throws {
    let launch = try op.launchParameters(forCombine: false, override: nil)
    let received = try op.dispatch(
        tokens, weights: weights, scales: scales, indices: indices, launch: launch, on: stream)
    _ = (received.tokens, received.weights, received.scales, received.indices)
    _ = (received.receivedTokenCount, op.maxReceivedTokens, op.memoryPlan)
    _ = try await op.sourceTokenPositions(of: received, on: stream)
    _ = try op.registeredCombineInput(of: .bfloat16, hiddenDim: 7168)
    let combined = try op.combine(
        received.tokens, of: received, weights: weights, input: .external, launch: launch,
        on: stream)
    _ = (combined.tokens, combined.weights)
    op.reset()
    try op.startTrace(on: stream)
    try op.stopTrace(on: stream)
    _ = try await op.world.exportTrace(to: "ep_trace.json")

    let pendingDispatch = try op.dispatchSend(
        tokens, weights: weights, scales: scales, indices: indices, launch: launch, on: stream)
    let split = try op.dispatchReceive(pendingDispatch, launch: launch, on: stream)
    let pendingCombine = try op.combineSend(
        split.tokens, of: split, weights: weights, launch: launch, on: stream)
    _ = try op.combineReceive(pendingCombine, launch: launch, on: stream)
    try await op.close()
}

func swiftStandardMoE(
    _ op: EPDispatchCombineOp, _ tokens: DeviceTensor, _ weights: DeviceTensor,
    _ indices: DeviceTensor, _ stream: DeviceStream
) throws {
    let output = try op.dispatchStandardMoE(
        tokens, weights: weights, scales: nil, indices: indices, into: nil, launch: nil,
        timeout: nil, on: stream)
    _ = try op.combineStandardMoE(
        output.layout.tokens, of: output, launch: nil, timeout: nil, on: stream)
    let received = try op.dispatch(tokens, weights: weights, indices: indices, on: stream)
    _ = try op.localExpertCount(of: received, on: stream)
    let layout = try op.convertToStandardMoE(received, into: nil, on: stream)
    let sums = try op.convertFromStandardMoE(
        layout.tokens, of: received, layout: layout, on: stream)
    _ = try op.combine(sums, of: received, input: .registered, on: stream)
}

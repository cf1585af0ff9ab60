// The guide's complete example in Swift; docs/coming-from-python.md has both side by side.
//
//   make example
//
// Under a launcher (torchrun, mpirun, srun, `mori-ep launch`) a process is one rank. Started alone, it
// is all eight, as tasks of one process.
import Foundation
import MoriEP

@main
struct ComingFromPython {
    static func main() async throws {
        let launchers = ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"]
        if launchers.contains(where: { ProcessInfo.processInfo.environment[$0] != nil }) {
            try await runEP(in: SymmetricMemory.join(.environment))
            return
        }
        let worlds = try await SymmetricMemory.local(worldSize: 8)
        try await withThrowingTaskGroup { group in
            for world in worlds {
                group.addTask { try await runEP(in: world) }
            }
            try await group.waitForAll()
        }
    }

    /// One rank's round of dispatch and combine.
    static func runEP(in world: SymmetricMemory) async throws {
        // Configuration
        let config = EPDispatchCombineConfig(
            elementType: .bfloat16,
            hiddenDim: 7168,
            maxInputTokensPerRank: 4096,
            expertsPerRank: 32,
            expertsPerToken: 8,
            combineInput: .registered)
        let op = try await EPDispatchCombineOp(config, in: world)
        let stream = try DeviceStream(on: world.device)

        // Generate test data
        let data = TestData(tokenCount: 128, config, worldSize: world.worldSize)
        let tokens = try DeviceTensor(
            data.tokens, shape: [data.tokenCount, config.hiddenDim], on: stream)
        let weights = try DeviceTensor(
            data.weights, shape: [data.tokenCount, config.expertsPerToken], on: stream)
        let indices = try DeviceTensor(
            data.indices, shape: [data.tokenCount, config.expertsPerToken], on: stream)

        // Dispatch tokens to experts
        let received = try op.dispatch(
            tokens, weights: weights, indices: indices,
            launch: LaunchConfiguration(blocks: 16, warpsPerBlock: 2), on: stream)
        let count = try await op.receivedTokenCount(of: received, on: stream)
        print("Rank \(world.rank): sent \(data.tokenCount) tokens, received \(count)")

        // Simulate expert computation (identity for testing), into the buffer that peers read
        let expertOutput = try op.registeredCombineInput()
        try expertOutput.prefix(count).copy(from: received.tokens.prefix(count), on: stream)

        // Combine results back
        let receivedWeights = received.weights
        let combined = try op.combine(
            expertOutput, of: received, weights: receivedWeights,
            launch: LaunchConfiguration(blocks: 16, warpsPerBlock: 2), on: stream)
        let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
        let weightSums: [Float] = try await combined.weights?.elements(on: stream) ?? []

        // Verify
        try data.verify(sums, weightSums)
        print("Rank \(world.rank): the sums are right")

        // Cleanup
        try await op.close()
        try await world.close()
    }
}

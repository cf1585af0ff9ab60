import ArgumentParser
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOptions
import MoriShmem

/// `mori-ep self-test-rank`: one rank of a self-test, started by `mori-ep doctor`.
struct SelfTestRank: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "self-test-rank", abstract: "One rank of doctor's self-test.",
        shouldDisplay: false)

    @Option(
        help: ArgumentHelp("Kernels: \(OptionTypes.legalKernels)."), transform: OptionTypes.kernel)
    var kernel: KernelType

    private static let hidden = 64
    private static let tokens = 16

    func run() async throws {
        do {
            try Lifeline.watch()
            let world = try await SymmetricMemory.join(.environment)
            try await Self.round(in: world, kernel)
            try await world.close()
        } catch {
            Console.error("\(error)\n")
            throw ExitCode.failure
        }
    }

    /// Every token goes to both ranks; rank r's expert multiplies by r + 2, so sums are five times the
    /// token, exactly.
    private static func round(in world: SymmetricMemory, _ kernel: KernelType) async throws {
        let op = try await EPDispatchCombineOp(
            EPDispatchCombineConfig(
                elementType: .float32, hiddenDim: hidden, maxInputTokensPerRank: tokens,
                expertsPerRank: 1, expertsPerToken: 2, kernelType: kernel, devicesPerNode: 1),
            in: world)
        let stream = try DeviceStream(on: world.device)
        let own = (0..<tokens * hidden).map { Float(world.rank * 10_000 + $0) }
        let rows = try DeviceTensor(own, shape: [tokens, hidden], on: stream)
        let indices = try DeviceTensor(
            (0..<tokens).flatMap { _ in [Int32(0), 1] }, shape: [tokens, 2], on: stream)
        let received = try op.dispatch(rows, indices: indices, on: stream)
        let count = try await op.receivedTokenCount(of: received, on: stream)
        guard count == 2 * tokens else {
            throw MoriError(
                .deviceFailure, "rank \(world.rank) received \(count) rows, not \(2 * tokens)")
        }
        let found: [Float] = try await received.tokens.prefix(count).elements(on: stream)
        let output = try DeviceTensor(
            found.map { $0 * Float(world.rank + 2) }, shape: [count, hidden], on: stream)
        let combined = try op.combine(output, of: received, on: stream)
        let sums: [Float] = try await combined.tokens.elements(on: stream)
        if let problem = mistake(in: sums, of: own) {
            throw MoriError(.deviceFailure, "rank \(world.rank): \(problem)")
        }
        try await op.close()
    }

    /// What is wrong with the sums of a rank's tokens; nil: nothing.
    static func mistake(in sums: [Float], of tokens: [Float]) -> String? {
        guard sums.count == tokens.count else {
            return "there are \(sums.count) elements of sums, not \(tokens.count)"
        }
        guard let wrong = zip(sums, tokens).enumerated().first(where: { $1.0 != 5 * $1.1 }) else {
            return nil
        }
        return "element \(wrong.offset) of the sums is \(wrong.element.0), not"
            + " \(5 * wrong.element.1)"
    }
}

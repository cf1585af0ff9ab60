import ArgumentParser
import MoriDevice
import MoriEP
import MoriOracle
import MoriShmem
import MoriTestSupport

/// `mori-lab rounds`: rounds of the operator between hosts, compared with the oracle bit for bit.
struct RoundsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rounds",
        abstract: "Dispatch and combine between hosts, compared with the oracle.",
        discussion: """
            Start one process a rank, with the variables of torchrun. Runs every kernel between \
            nodes with 1 and with 3 queue pairs, unless one is named.
            """)

    @Option(help: "One kernel only.")
    var kernel: String?

    @Option(help: "More rounds of each operator, whose sums must be the same bits.")
    var repeats = 0

    @Flag(
        help: """
            Go on until the rounds end, and succeed if the error names a rank of another host, and \
            the ranks of this one recover and go on without those.
            """)
    var untilLost = false

    private static let seed: UInt64 = 77

    func run() async throws {
        let kernels = KernelType.allCases.filter {
            $0 != .intraNode && (kernel == nil || kernel == $0.description)
        }
        guard !kernels.isEmpty else { throw ValidationError("no kernel \(kernel ?? "")") }
        let world = try await SymmetricMemory.join(.environment)
        do {
            if untilLost {
                try await runUntilLost(kernels[0], in: world)
                return
            }
            var count = 0
            for kernel in kernels {
                for queuePairs in [1, 3] {
                    try await check(kernel, queuePairs: queuePairs, in: world)
                    count += 1
                }
            }
            say(
                "rank \(world.rank): \(count) operators: every round equals the oracle's, and"
                    + " \(repeats) repeats gave the same bits")
            try await world.close()
        } catch {
            say("mori-lab: rank \(world.rank): \(error)")
            world.abort("\(error)")
            throw ExitCode(1)
        }
    }

    /// More than a chunk of tokens, none, a few; weights and scales.
    private func round(
        _ kernel: KernelType, queuePairs: Int, in world: SymmetricMemory
    ) -> RoundCase {
        let workload = Workload(
            worldSize: world.worldSize,
            tokens: (0..<world.worldSize).map { [70, 5, 0, 33][$0 % 4] }, hidden: 66, topK: 3,
            expertsPerRank: 3, scaleDim: 2, seed: Self.seed)
        return RoundCase(workload) {
            $0.kernelType = kernel
            $0.devicesPerNode = world.localWorldSize
            $0.queuePairsPerPeer = queuePairs
        }
    }

    private func check(
        _ kernel: KernelType, queuePairs: Int, in world: SymmetricMemory
    ) async throws {
        let round = round(kernel, queuePairs: queuePairs, in: world)
        let op = try await EPDispatchCombineOp(round.config, in: world)
        let stream = try DeviceStream(on: world.device)
        for input in CombineInput.allCases {
            var options = round.options
            options.input = input
            try await checkRound(
                Routes(round.workload), of: BFloat16.self, combining: BFloat16.self, with: op,
                on: stream, options: options)
        }
        try await repeatRound(round, with: op, on: stream)
        try await op.close()
        say(
            "rank \(world.rank): \(kernel) with \(queuePairs) queue pairs per peer, seed \(Self.seed)"
        )
    }

    /// Plain rounds of experts that give back what they received: their sums do not depend on where
    /// the rows came to lie, and are the same bits every time.
    private func repeatRound(
        _ round: RoundCase, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws {
        let inputs = try RoundInputs<BFloat16>(
            Routes(round.workload), rank: op.world.rank, on: stream)
        var first: [UInt32]?
        for turn in 0..<repeats {
            let received = try op.dispatch(
                inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                indices: inputs.indices, on: stream)
            let rows = received.tokens
            let weights = received.weights
            let combined = try op.combine(rows, of: received, weights: weights, on: stream)
            let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
            let weightSums: [Float] = try await combined.weights?.elements(on: stream) ?? []
            let bits = sums.map { UInt32($0.bitPattern) } + weightSums.map(\.bitPattern)
            guard first == nil || first == bits else {
                throw Mismatch("repeat \(turn) of rank \(op.world.rank) gave other bits")
            }
            first = bits
        }
    }

    /// The other host is gone, or cannot be reached; on that one they may say the same of this.
    private func runUntilLost(_ kernel: KernelType, in world: SymmetricMemory) async throws {
        let round = round(kernel, queuePairs: 1, in: world)
        let op = try await EPDispatchCombineOp(round.config, in: world)
        let stream = try DeviceStream(on: world.device)
        let error = try await failure(of: round, with: op, on: stream)
        let size = world.localWorldSize
        let own = Array(world.rank / size * size..<(world.rank / size + 1) * size)
        guard let lost = error.ranks.first(where: { !own.contains($0) }) else { throw error }
        say(
            "rank \(world.rank): the rounds ended as they should, because of rank \(lost): \(error)"
        )
        try await world.recover(activeRanks: own)
        let others = Set(0..<world.worldSize).subtracting(own)
        let rounds = 5
        for _ in 0..<rounds {
            try await checkRound(
                Routes(round.workload.without(others)), of: BFloat16.self,
                combining: BFloat16.self, with: op, on: stream)
        }
        try await op.close()
        try await world.close()
        say(
            "rank \(world.rank): \(rounds) rounds without ranks \(others.sorted()) equal the"
                + " oracle's")
    }

    /// Rounds until one fails.
    private func failure(
        of round: RoundCase, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws -> MoriError {
        let routes = Routes(round.workload)
        do {
            while true {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            }
        } catch let error as MoriError {
            return error
        }
    }
}

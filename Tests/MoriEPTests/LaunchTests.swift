import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.LaunchTests {
    static let grids = [
        LaunchConfiguration(blocks: 1, warpsPerBlock: 1),
        LaunchConfiguration(blocks: 1, warpsPerBlock: 2),
        LaunchConfiguration(blocks: 2, warpsPerBlock: 1),
        LaunchConfiguration(blocks: 3, warpsPerBlock: 5),
        LaunchConfiguration(blocks: 7, warpsPerBlock: 3),
        LaunchConfiguration(blocks: 1, warpsPerBlock: 32),
        LaunchConfiguration(blocks: 32, warpsPerBlock: 1),
        LaunchConfiguration(blocks: 8, warpsPerBlock: 8),
    ]

    /// The sums of every rank as bits, for one operator and a launch of each call.
    private static func sums(
        launches: [LaunchConfiguration?], input: CombineInput, hidden: Int = 1030
    ) async throws -> [[[UInt32]]] {
        let workload = Workload(
            worldSize: 4, tokens: [13, 0, 5, 8], hidden: hidden, topK: 6, expertsPerRank: 4,
            pattern: .skewed, seed: 2026)
        let round = RoundCase(workload) {
            $0.dispatchType = .float32
            $0.options.input = input
        }
        let routes = Routes(workload)
        return try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            var results: [[UInt32]] = []
            for launch in launches {
                var options = round.options
                options.launch = launch
                let inputs = try RoundInputs<Float>(routes, rank: world.rank, on: stream)
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                    launch: launch, on: stream)
                let rows = try await checkReceived(
                    received, routes, of: Float.self, options: options, with: op, on: stream)
                let output = try ExpertOutput<Float>(
                    rows, routes, of: Float.self, options: options, with: op, on: stream)
                let combined = try op.combine(
                    output.tokens, of: received, weights: output.weights, input: input,
                    launch: launch, on: stream)
                let sums: [Float] = try await combined.tokens.elements(on: stream)
                let weights: [Float] = try await combined.weights?.elements(on: stream) ?? []
                results.append((sums + weights).map(\.bitPattern))
            }
            try await op.close()
            return results
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: CombineInput.allCases)
    func sumsAreTheSameBitsForEveryGrid(input: CombineInput) async throws {
        for rank in try await Self.sums(launches: [nil] + Self.grids, input: input) {
            for (number, sums) in rank.enumerated() {
                #expect(
                    sums == rank[0],
                    "\(number == 0 ? "default" : "\(Self.grids[number - 1])") differs")
            }
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: CombineInput.allCases)
    func aHundredRepeatsGiveTheSameBits(input: CombineInput) async throws {
        let launch = LaunchConfiguration(blocks: 3, warpsPerBlock: 2)
        let ranks = try await Self.sums(
            launches: Array(repeating: launch, count: 100), input: input, hidden: 70)
        for rank in ranks { #expect(Set(rank).count == 1) }
    }

    @Test(.timeLimit(.minutes(2)), arguments: grids, CombineInput.allCases)
    func everyGridGivesTheOraclesRound(
        _ launch: LaunchConfiguration, input: CombineInput
    ) async throws {
        let workload = Workload(
            worldSize: 3, tokens: [1, 20, 2], hidden: 3000, topK: 4, expertsPerRank: 2,
            scaleDim: 5, seed: 12)
        try await RoundCase(workload) {
            $0.options.input = input
            $0.options.launch = launch
            $0.rounds = [[1, 20, 2], [0, 1, 0]]
        }.run()
    }

    /// Nothing that ranks exchange depends on a rank's own grid.
    @Test(.timeLimit(.minutes(1)))
    func ranksMayLaunchDifferently() async throws {
        let workload = Workload(
            worldSize: 4, tokens: [13, 1, 5, 8], hidden: 130, topK: 6, expertsPerRank: 4, seed: 8)
        let round = RoundCase(workload)
        let routes = Routes(workload)
        _ = try await withLocalWorld(4) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<Self.grids.count {
                var options = round.options
                options.launch = Self.grids[(turn + 3 * world.rank) % Self.grids.count]
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                    options: options)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func theConfigurationsLaunchIsClampedAndTold() async throws {
        _ = try await withLocalWorld(2) { world in
            var config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 2,
                expertsPerToken: 2)
            config.launch = LaunchConfiguration(blocks: 60_000, rdmaBlocks: 70, warpsPerBlock: 32)
            let op = try await EPDispatchCombineOp(config, in: world)
            let properties = try world.device.properties()
            for forCombine in [false, true] {
                let found = try op.launchParameters(forCombine: forCombine)
                #expect(found.source == .configuration)
                #expect(found.wanted == config.launch)
                let launch = found.configuration
                #expect(launch.blocks >= 1 && launch.warpsPerBlock >= 1)
                #expect(launch.blocks * launch.warpsPerBlock <= properties.maxResidentWarps)
                #expect(launch.rdmaBlocks <= launch.blocks)
                let own = LaunchConfiguration(blocks: 5, warpsPerBlock: 3)
                let overridden = try op.launchParameters(forCombine: forCombine, override: own)
                #expect(overridden.configuration == own)
                #expect(overridden.source == .override)
            }
            try await op.close()
        }
    }
}

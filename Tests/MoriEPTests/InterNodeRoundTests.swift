import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeRoundTests {
    private static let kernels = InterNodeSupport.kernels
    private static let geometry = Geometry.uneven

    private static func routes(_ tokens: [Int], seed: UInt64) -> Routes {
        Routes(geometry.workload(tokens: tokens, topK: 3, seed: seed))
    }

    private static func config(
        _ kernel: KernelType, slots: Int = 1, input: CombineInput = .external
    ) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 34, maxInputTokensPerRank: 70, expertsPerRank: 3,
            expertsPerToken: 3, combineInput: input, kernelType: kernel,
            devicesPerNode: geometry.devicesPerNode, slots: slots)
    }

    private static func dispatch(
        _ routes: Routes, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) throws -> DispatchOutput {
        let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
        return try op.dispatch(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
    }

    /// The patterns of the upstream AsyncLL test and chunks that come and go, on one operator.
    @Test(.timeLimit(.minutes(2)), arguments: kernels, CombineInput.allCases)
    func tokenCountsMayChangeEveryRound(_ kernel: KernelType, input: CombineInput) async throws {
        let geometry = Geometry(8, of: 3)
        let counts = [
            [4, 0, 3, 0, 2, 0, 1, 0], [0, 5, 0, 4, 0, 3, 0, 2], [6, 1, 0, 0, 65, 0, 0, 2],
            [0, 0, 7, 1, 0, 0, 4, 3], [0, 0, 0, 0, 0, 0, 0, 0], [7, 7, 7, 7, 7, 7, 7, 7],
            [0, 0, 0, 0, 0, 0, 0, 1], [0, 70, 0, 0, 0, 0, 64, 0],
        ]
        let workload = geometry.workload(tokens: counts[0], hidden: 12, seed: 99)
        try await geometry.round(kernel, workload) {
            $0.options.input = input
            $0.rounds = (0..<32).map { counts[$0 % counts.count] }
        }.run()
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func theRoundAfterADiscardedOneIsRight(_ kernel: KernelType) async throws {
        let workload = Self.geometry.workload(tokens: [5, 0, 66, 7, 1], hidden: 12, seed: 500)
        try await Self.geometry.round(kernel, workload) {
            $0.rounds = (0..<24).map { number in
                let count = workload.tokens.count
                return (0..<count).map { workload.tokens[($0 + number) % count] }
            }
            // One by itself, two and three in a row, the first and the last.
            $0.discarded = [0, 3, 6, 7, 10, 11, 12, 23]
        }.run()
    }

    /// Discarded without anybody waiting in between.
    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func roundsMayBeDiscardedBeforeTheyRan(_ kernel: KernelType) async throws {
        let rounds = [Self.routes([5, 0, 2, 7, 66], seed: 1), Self.routes([1, 8, 0, 3], seed: 2)]
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<12 {
                for number in 0..<turn % 4 {
                    let received = try Self.dispatch(
                        rounds[(turn + number) % 2], with: op, on: stream)
                    try op.discard(received)
                }
                try await checkRound(
                    rounds[turn % 2], of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: stream)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels, CombineInput.allCases)
    func twoRoundsCanBeInFlightWithTwoSlots(
        _ kernel: KernelType, input: CombineInput
    ) async throws {
        let rounds = [
            Self.routes([5, 0, 2, 7, 1], seed: 1), Self.routes([1, 68, 3, 0, 4], seed: 2),
        ]
        var options = RoundOptions()
        options.input = input
        _ = try await withLocalWorld(Self.geometry.ranks) { [options] world in
            let op = try await EPDispatchCombineOp(
                Self.config(kernel, slots: 2, input: input), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<8 {
                let early = try Self.dispatch(rounds[0], with: op, on: stream)
                let late = try Self.dispatch(rounds[1], with: op, on: stream)
                let earlyRows = try await checkReceived(
                    early, rounds[0], of: BFloat16.self, options: options, with: op, on: stream)
                let lateRows = try await checkReceived(
                    late, rounds[1], of: BFloat16.self, options: options, with: op, on: stream)
                // Which is combined first does not matter, as long as all ranks agree.
                if turn % 2 == 0 {
                    try await checkCombine(
                        of: early, earlyRows, rounds[0], of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream, options: options, slot: 0)
                    try await checkCombine(
                        of: late, lateRows, rounds[1], of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream, options: options, slot: 1)
                } else {
                    try await checkCombine(
                        of: late, lateRows, rounds[1], of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream, options: options, slot: 1)
                    try await checkCombine(
                        of: early, earlyRows, rounds[0], of: BFloat16.self,
                        combining: BFloat16.self, with: op, on: stream, options: options, slot: 0)
                }
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func dispatchAndCombineMayUseDifferentStreams(_ kernel: KernelType) async throws {
        let rounds = [Self.routes([5, 0, 2], seed: 7), Self.routes([1, 8, 0, 65], seed: 9)]
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let streams = try (0..<3).map { _ in try DeviceStream(on: world.device) }
            for turn in 0..<12 {
                try await checkRound(
                    rounds[turn % 2], of: BFloat16.self, combining: BFloat16.self, with: op,
                    on: streams[turn % 3], combineOn: streams[(turn * 5 + 1) % 3])
            }
            try await op.close()
        }
    }

    /// Nothing that ranks exchange depends on a rank's own grid.
    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func ranksMayLaunchDifferently(_ kernel: KernelType) async throws {
        let launches = WorldTests.InterNodeTests.launches
        let routes = Self.routes([13, 1, 70, 8, 0], seed: 8)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in launches.indices {
                var options = RoundOptions()
                options.launch = launches[(turn + 3 * world.rank) % launches.count]
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                    options: options)
            }
            try await op.close()
        }
    }

    /// Operators of every kernel, with queues of their own, side by side in one world.
    @Test(.timeLimit(.minutes(2)))
    func operatorsOfAllKernelsTakeTurnsInOneWorld() async throws {
        let routes = Self.routes([5, 0, 66, 7, 1], seed: 21)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let stream = try DeviceStream(on: world.device)
            var ops: [EPDispatchCombineOp] = []
            for kernel in [.intraNode] + Self.kernels {
                ops.append(try await EPDispatchCombineOp(Self.config(kernel), in: world))
            }
            for _ in 0..<4 {
                for op in ops {
                    try await checkRound(
                        routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
                }
            }
            for op in ops.reversed() { try await op.close() }
        }
    }

    /// The published order of sums: any other gives other bits here.
    @Test(.timeLimit(.minutes(1)), arguments: kernels, CombineInput.allCases)
    func sumsRunInThePublishedOrder(_ kernel: KernelType, input: CombineInput) async throws {
        let geometry = Geometry(8, of: 3)
        let hidden = 96
        let workload = geometry.workload(
            tokens: [2], hidden: hidden, topK: 8, expertsPerRank: 1, pattern: .spread, seed: 55)
        let round = geometry.round(kernel, workload) {
            $0.dispatchType = .float32
            $0.options.input = input
        }
        let routes = Routes(workload)
        let order = round.config.sumOrder(worldSize: geometry.ranks)
        @Sendable func value(maker: Int, column: Int) -> Float {
            let unit = Generator(seed: 77).unit(maker, column, 0)
            return (unit - 0.5)
                * Float(sign: .plus, exponent: (maker * 7 + column) % 24, significand: 1)
        }
        let terms = (0..<hidden).map { column in
            (0..<geometry.ranks).map { (rank: $0, value: value(maker: $0, column: column)) }
        }
        let expected = terms.map { order.sum($0) { $0 } }
        let other: SumOrder = order == .ranks ? .nodes(geometry.nodes) : .ranks
        #expect(
            terms.map { other.sum($0) { $0 } } != expected,
            "these values cannot tell the orders apart")
        _ = try await withLocalWorld(geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<Float>(routes, rank: world.rank, on: stream)
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            let count = try await op.receivedTokenCount(of: received, on: stream)
            let made = (0..<count).flatMap { _ in terms.map { $0[world.rank].value } }
            let output: DeviceTensor
            if input == .registered {
                output = try op.registeredCombineInput()
                try output.prefix(count).copy(from: made, on: stream)
            } else {
                output = try DeviceTensor(made, shape: [count, hidden], on: stream)
            }
            let combined = try op.combine(output, of: received, on: stream)
            let sums: [Float] = try await combined.tokens.elements(on: stream)
            for token in 0..<workload.tokens[world.rank] {
                let found = sums[token * hidden..<(token + 1) * hidden].map(\.bitPattern)
                #expect(found == expected.map(\.bitPattern))
            }
            try await op.close()
        }
    }
}

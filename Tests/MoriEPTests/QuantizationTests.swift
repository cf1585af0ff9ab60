import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Combines whose rows travel in fewer bits.
    @Suite struct QuantizationTests {
        static let schemes: [CombineQuantization] = [.fp8DirectCast, .fp8Blockwise, .fp4Blockwise]

        private static func wire(_ scheme: CombineQuantization, block: Int) -> QuantizedWire {
            switch scheme {
            case .fp4Blockwise: QuantizedWire(.e2m1, block: block)
            case .fp8Blockwise: QuantizedWire(.e4m3, block: block)
            default: QuantizedWire(.e4m3, block: nil)
            }
        }

        private static func config(
            _ kernel: KernelType, _ scheme: CombineQuantization, _ workload: Workload, block: Int
        ) -> EPDispatchCombineConfig {
            var config = RoundCase(workload) {
                $0.kernelType = kernel
                $0.devicesPerNode = kernel == .intraNode ? 8 : 2
            }.config
            config.quantization = scheme
            config.quantizationBlock = block
            return config
        }

        /// One round, each sum against the oracle's bits.
        private static func check(
            _ routes: Routes, through wire: QuantizedWire, with op: EPDispatchCombineOp,
            on stream: DeviceStream, options: RoundOptions
        ) async throws {
            let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
            let received = try op.dispatch(
                inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                launch: options.launch, on: stream)
            let rows = try await checkReceived(
                received, routes, of: BFloat16.self, options: options, with: op, on: stream)
            let output = try ExpertOutput<BFloat16>(
                rows, routes, of: BFloat16.self, options: options, with: op, on: stream)
            let combined = try op.combine(
                output.tokens, of: received, weights: output.weights, input: options.input,
                launch: options.launch, on: stream)
            let found: [BFloat16] = try await combined.tokens.elements(on: stream)
            let weights: [Float] = try await combined.weights?.elements(on: stream) ?? []
            let workload = routes.workload
            let oracle = Oracle(
                workload, rounding: BFloat16.rounding,
                sums: op.config.sumOrder(worldSize: op.world.worldSize))
            let (hidden, topK) = (workload.hidden, workload.topK)
            for token in 0..<workload.tokens[op.world.rank] {
                let expected = BFloat16.rounded(
                    oracle.combinedRow(rank: op.world.rank, token: token, through: wire))
                guard Array(found[token * hidden..<(token + 1) * hidden]) == expected else {
                    throw Mismatch("token \(token) of rank \(op.world.rank) differs")
                }
                let sums = oracle.combinedWeights(rank: op.world.rank, token: token)
                guard Array(weights[token * topK..<(token + 1) * topK]) == sums else {
                    throw Mismatch("weights of token \(token) of rank \(op.world.rank) differ")
                }
            }
        }

        @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases, schemes)
        func sumsAreThoseOfQuantizedRowsToTheBit(
            _ kernel: KernelType, _ scheme: CombineQuantization
        ) async throws {
            // Rows of whole blocks, with a short last one, shorter than any, and of an odd number.
            for (hidden, block) in [(256, 128), (200, 64), (18, 32), (97, 32), (512, 256)] {
                let rounds = [[5, 0, 66, 7, 1], [1, 3, 0, 2, 8]].enumerated().map {
                    Routes(
                        Workload(
                            worldSize: 5, tokens: $1, hidden: hidden, topK: 3, expertsPerRank: 3,
                            seed: UInt64(hidden + $0)))
                }
                _ = try await withLocalWorld(5) { world in
                    let op = try await EPDispatchCombineOp(
                        Self.config(kernel, scheme, rounds[0].workload, block: block), in: world)
                    let stream = try DeviceStream(on: world.device)
                    for (routes, launch) in zip(
                        rounds,
                        [nil, LaunchConfiguration(blocks: 2, warpsPerBlock: 3)])
                    {
                        var options = RoundOptions()
                        options.launch = launch
                        let isExternal = kernel == .intraNode || launch == nil
                        options.input = isExternal ? .external : .registered
                        try await Self.check(
                            routes, through: Self.wire(scheme, block: block), with: op, on: stream,
                            options: options)
                    }
                    try await op.close()
                }
            }
        }

        /// The bounds of the upstream tests: |found - expected| against float64, by scheme.
        @Test(
            .timeLimit(.minutes(2)), arguments: KernelType.allCases,
            CombineQuantization.allCases)
        func errorsStayWithinTheUpstreamBounds(
            _ kernel: KernelType, _ scheme: CombineQuantization
        ) async throws {
            let workload = Workload(
                worldSize: 4, tokens: [16, 16, 16, 16], hidden: 448, topK: 4, expertsPerRank: 4,
                seed: 77)
            let routes = Routes(workload)
            let block = 64
            _ = try await withLocalWorld(4) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(kernel, scheme, workload, block: block), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
                let positions = try await op.sourceTokenPositions(of: received, on: stream)
                // No expert is the identity; all have one sign, so that nothing cancels.
                func factor(_ rank: Int) -> Double { 1 + Double(rank) / 8 }
                let output = positions.flatMap { position in
                    workload.tokenRow(rank: position.rank, token: position.token).map {
                        BFloat16(BFloat16($0).float * Float(factor(world.rank)))
                    }
                }
                let combined = try op.combine(
                    DeviceTensor(output, shape: [positions.count, 448], on: stream), of: received,
                    on: stream)
                let found: [BFloat16] = try await combined.tokens.elements(on: stream)
                for token in 0..<16 {
                    let row = workload.tokenRow(rank: world.rank, token: token).map {
                        Double(BFloat16($0).float)
                    }
                    let ranks = routes.destinations[world.rank][token]
                    let sum = ranks.map(factor).reduce(0, +)
                    for column in row.indices {
                        let expected = row[column] * sum
                        let begin = column / block * block
                        let most = row[begin..<begin + block].map(\.magnitude).max() ?? 0
                        let bound: Double =
                            switch scheme {
                            case .none: 1e-2 + 1e-2 * expected.magnitude
                            case .fp8DirectCast: 1e-1 + 1e-1 * expected.magnitude
                            case .fp8Blockwise: 7e-2 + 7e-2 * expected.magnitude
                            case .fp4Blockwise:
                                most / 6 * sum + 5e-2 * expected.magnitude + 1e-2
                            }
                        let value = Double(found[token * 448 + column].float)
                        guard (value - expected).magnitude <= bound else {
                            throw Mismatch(
                                "token \(token), column \(column): \(value), not \(expected)")
                        }
                    }
                }
                try await op.close()
            }
        }

        /// Zeros, the smallest and the largest numbers, infinities and NaNs.
        @Test(.timeLimit(.minutes(1)), arguments: [KernelType.intraNode, .asyncLL], schemes)
        func specialNumbersBecomeNoNaNWhereThereWasNone(
            _ kernel: KernelType, _ scheme: CombineQuantization
        ) async throws {
            let blocks: [[Float]] = [
                [0, -0.0], [0x1p-133, -0x1p-130], [3.3e38, -1, 1e-30], [500, -500, 447],
                [.infinity, 2, -3], [.nan, 2, -3], [.infinity, .infinity],
            ]
            let row = blocks.flatMap { values in
                (0..<32).map { BFloat16(values[$0 % values.count]) }
            }
            let rows = try await withLocalWorld(2) { world -> [BFloat16] in
                var config = EPDispatchCombineConfig(
                    elementType: .bfloat16, hiddenDim: row.count, maxInputTokensPerRank: 1,
                    expertsPerRank: 1, expertsPerToken: 1, kernelType: kernel, devicesPerNode: 1)
                config.quantization = scheme
                config.quantizationBlock = 32
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                let tokens = try DeviceTensor(row, shape: [1, row.count], on: stream)
                let indices = try DeviceTensor([Int32(1 - world.rank)], shape: [1, 1], on: stream)
                let received = try op.dispatch(tokens, indices: indices, on: stream)
                let combined = try op.combine(tokens, of: received, on: stream)
                let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
                try await op.close()
                return sums
            }
            let wire = Self.wire(scheme, block: 32)
            let expected = BFloat16.rounded(wire.passed(row.map(\.float)))
            for found in rows {
                for column in row.indices {
                    let value = found[column].float
                    if row[column].float.isFinite { #expect(!value.isNaN, "column \(column)") }
                    let isRight =
                        value.isNaN && expected[column].float.isNaN
                        || value == expected[column].float
                    // fp4 says the largest number where there is no NaN; see the block of infinities.
                    if scheme != .fp4Blockwise || row[column].float.isFinite && column < 128 {
                        #expect(isRight, "column \(column): \(value), not \(expected[column])")
                    }
                }
            }
        }

        @Test func whatCannotBeQuantizedIsRefused() async throws {
            var config = EPDispatchCombineConfig(
                elementType: .float32, hiddenDim: 64, maxInputTokensPerRank: 4, expertsPerRank: 1,
                expertsPerToken: 1)
            config.quantization = .fp8Blockwise
            func message() -> String {
                #expect(throws: MoriError.self) { try config.validate() }?.message ?? ""
            }
            #expect(message().contains("only bf16 is quantized"))
            config.combineElementType = .bfloat16
            config.quantizationBlock = 100
            #expect(message().contains("32, 64, 128 and 256, nearest 128"))
            config.quantizationBlock = 128
            config.combineInput = .registered
            #expect(message().contains("set combineInput to external"))
            config.combineInput = .external
            _ = try await withLocalWorld(1) { [config] world in
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                let tokens = try DeviceTensor(
                    [Float](repeating: 2, count: 64), shape: [1, 64], on: stream)
                let indices = try DeviceTensor([Int32(0)], shape: [1, 1], on: stream)
                let narrow = try DeviceTensor(
                    shape: [1, 32], elementType: .float32, on: world.device)
                func combine(
                    _ output: DeviceTensor, _ received: consuming DispatchOutput,
                    _ input: CombineInput
                ) -> String {
                    do throws(MoriError) {
                        _ = try op.combine(output, of: received, input: input, on: stream)
                        return ""
                    } catch {
                        return error.message
                    }
                }
                let received = try op.dispatch(tokens, indices: indices, on: stream)
                #expect(combine(narrow, received, .external).contains("legal is bf16"))
                let again = try op.reclaim()
                #expect(
                    combine(try op.registeredCombineInput(), again, .registered)
                        .contains("combine with input: .external"))
                let last = try op.reclaim()
                let output = try DeviceTensor(
                    [BFloat16](repeating: BFloat16(3), count: 64), shape: [1, 64], on: stream)
                let combined = try op.combine(output, of: last, on: stream)
                let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
                #expect(sums.allSatisfy { $0.float == 3 })
                try await op.close()
            }
        }

        /// Rows of fewer bits are fewer bytes on the network.
        @Test(.timeLimit(.minutes(1)), arguments: [KernelType.interNodeV1, .asyncLL])
        func quantizedRowsAreFewerBytes(_ kernel: KernelType) async throws {
            var bytes: [CombineQuantization: Double] = [:]
            for scheme in CombineQuantization.allCases {
                let workload = Workload(
                    worldSize: 2, tokens: [8, 8], hidden: 7168, topK: 2, expertsPerRank: 2, seed: 5)
                let routes = Routes(workload)
                let found = try await withLocalWorld(2) { world -> Double in
                    var config = Self.config(kernel, scheme, workload, block: 128)
                    config.devicesPerNode = 1
                    let op = try await EPDispatchCombineOp(config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    if scheme == .none {
                        try await checkRound(
                            routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                            on: stream)
                    } else {
                        try await Self.check(
                            routes, through: Self.wire(scheme, block: 128), with: op, on: stream,
                            options: RoundOptions())
                    }
                    let statistics = await op.networkStatistics()
                    try await op.close()
                    return Double(statistics.combine.total.payloadByteCount)
                }
                bytes[scheme] = found.reduce(0, +)
            }
            let plain = try #require(bytes[CombineQuantization.none])
            for (scheme, most) in [
                (CombineQuantization.fp8DirectCast, 0.51), (.fp8Blockwise, 0.53),
                (.fp4Blockwise, 0.28),
            ] {
                let ratio = try #require(bytes[scheme]) / plain
                #expect(ratio > 0.2 && ratio <= most, "\(scheme): \(ratio)")
            }
        }
    }
}

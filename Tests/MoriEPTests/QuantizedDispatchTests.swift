import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Dispatches that send bf16 tokens as fp8.
    @Suite struct QuantizedDispatchTests {
        private static func config(
            _ kernel: KernelType, _ workload: Workload, _ type: ElementType, block: Int,
            order: ReceiveOrder = .unspecified
        ) -> EPDispatchCombineConfig {
            var config = RoundCase(workload) {
                $0.kernelType = kernel
                $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                $0.dispatchType = type
                $0.combineType = .bfloat16
                $0.receiveOrder = order
            }.config
            config.quantizesDispatch = true
            config.quantizationBlock = block
            config.scaleDim = config.blockCount(of: workload.hidden)
            config.scaleByteSize = 4
            return config
        }

        /// One dispatch, each received row and scale against the oracle's bits.
        private static func check<Element: Float8>(
            _ routes: Routes, _: Element.Type, _ wire: QuantizedWire,
            with op: EPDispatchCombineOp, on stream: DeviceStream,
            launch: LaunchConfiguration? = nil
        ) async throws {
            let workload = routes.workload
            let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
            let received = try op.dispatch(
                inputs.tokens, weights: inputs.weights, indices: inputs.indices, launch: launch,
                on: stream)
            let positions = try await op.sourceTokenPositions(of: received, on: stream)
            guard
                positions.map({ [$0.rank, $0.token] }).sorted(by: {
                    $0.lexicographicallyPrecedes($1)
                }) == routes.sources(receivedBy: op.world.rank)
            else { throw Mismatch("rank \(op.world.rank) received \(positions.count) rows") }
            let rows: [Element] = try await received.tokens.elements(on: stream)
            let scales: [Float] =
                try await #require(received.scales).elements(on: stream)
            let weights: [Float] = try await #require(received.weights).elements(on: stream)
            let (hidden, dim, topK) = (workload.hidden, op.config.scaleDim, workload.topK)
            for (row, position) in positions.enumerated() {
                let sent = wire.sent(
                    workload.tokenRow(rank: position.rank, token: position.token)
                        .map(BFloat16.rounding))
                guard rows[row * hidden..<(row + 1) * hidden].map(\.bitPattern) == sent.bits,
                    Array(scales[row * dim..<row * dim + sent.scales.count]) == sent.scales,
                    Array(weights[row * topK..<(row + 1) * topK])
                        == workload.weightRow(rank: position.rank, token: position.token)
                else {
                    throw Mismatch("row \(row) of rank \(op.world.rank) differs")
                }
            }
            // Combine is bf16, as ever: every expert gives threes.
            let output = try DeviceTensor(
                [BFloat16](repeating: BFloat16(3), count: positions.count * hidden),
                shape: [positions.count, hidden], on: stream)
            let combined = try op.combine(output, of: received, on: stream)
            let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
            for token in 0..<workload.tokens[op.world.rank] {
                let count = routes.destinations[op.world.rank][token].count
                #expect(sums[token * hidden].float == Float(3 * count))
            }
        }

        @Test(
            .timeLimit(.minutes(2)), arguments: KernelType.allCases,
            [ElementType.float8E4M3, .float8E4M3FNUZ])
        func tokensArriveAsTheOracleQuantizesThem(
            _ kernel: KernelType, _ type: ElementType
        ) async throws {
            for (hidden, block) in [(256, 128), (200, 64), (97, 32), (18, 256)] {
                let rounds = [[5, 0, 66, 7, 1], [1, 3, 0, 2, 8]].enumerated().map {
                    Routes(
                        Workload(
                            worldSize: 5, tokens: $1, hidden: hidden, topK: 3, expertsPerRank: 3,
                            seed: UInt64(hidden + $0)))
                }
                _ = try await withLocalWorld(5) { world in
                    let op = try await EPDispatchCombineOp(
                        Self.config(kernel, rounds[0].workload, type, block: block), in: world)
                    let stream = try DeviceStream(on: world.device)
                    for (routes, launch) in zip(
                        rounds, [nil, LaunchConfiguration(blocks: 2, warpsPerBlock: 3)])
                    {
                        if type == .float8E4M3 {
                            try await Self.check(
                                routes, Float8E4M3.self, QuantizedWire(.e4m3, block: block),
                                with: op, on: stream, launch: launch)
                        } else {
                            try await Self.check(
                                routes, Float8E4M3FNUZ.self,
                                QuantizedWire(.e4m3fnuz, block: block), with: op, on: stream,
                                launch: launch)
                        }
                    }
                    try await op.close()
                }
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func anOrderedDispatchQuantizesToo() async throws {
            let routes = Routes(
                Workload(
                    worldSize: 3, tokens: [9, 4, 30], hidden: 160, topK: 2, expertsPerRank: 2,
                    seed: 4))
            _ = try await withLocalWorld(3) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(
                        .intraNode, routes.workload, .float8E4M3, block: 64, order: .source),
                    in: world)
                let stream = try DeviceStream(on: world.device)
                try await Self.check(
                    routes, Float8E4M3.self, QuantizedWire(.e4m3, block: 64), with: op, on: stream)
                try await op.close()
            }
        }

        /// Tokens that are fp8 already go as they are, on the same operator.
        @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
        func tokensOfTheNarrowTypePassUnchanged(_ kernel: KernelType) async throws {
            var workload = Workload(
                worldSize: 4, tokens: [5, 2, 0, 8], hidden: 128, topK: 3, expertsPerRank: 2,
                seed: 51)
            workload.scaleDim = 2
            let routes = Routes(workload)
            _ = try await withLocalWorld(4) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(kernel, routes.workload, .float8E4M3, block: 64), in: world)
                let stream = try DeviceStream(on: world.device)
                try await checkRound(
                    routes, of: Float8E4M3.self, combining: BFloat16.self, with: op, on: stream)
                try await op.close()
            }
        }

        @Test func settingsThatDoNotFitAreRefused() async throws {
            var config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 200, maxInputTokensPerRank: 4,
                expertsPerRank: 1, expertsPerToken: 1)
            config.quantizesDispatch = true
            func message() -> String {
                #expect(throws: MoriError.self) { try config.validate() }?.message ?? ""
            }
            #expect(message().contains("fp8_e4m3 or fp8_e4m3fnuz"))
            config.elementType = .float8E4M3
            #expect(message().contains("legal is scaleDim 2"))
            config.scaleDim = 2
            config.combineElementType = .bfloat16
            _ = try await withLocalWorld(1) { [config] world in
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                let tokens = try DeviceTensor(
                    [BFloat16](repeating: BFloat16(1), count: 200), shape: [1, 200], on: stream)
                let indices = try DeviceTensor([Int32(0)], shape: [1, 1], on: stream)
                let scales = try DeviceTensor([Float(1), 1], shape: [1, 2], on: stream)
                let error = #expect(throws: MoriError.self) {
                    _ = try op.dispatch(tokens, scales: scales, indices: indices, on: stream)
                }
                #expect(error?.message.contains("whose scales dispatch makes") == true)
                let received = try op.dispatch(tokens, indices: indices, on: stream)
                let combined = try op.combine(tokens, of: received, on: stream)
                let sums: [BFloat16] = try await combined.tokens.elements(on: stream)
                #expect(sums.allSatisfy { $0.float == 1 })
                try await op.close()
            }
        }

        /// fp8 with a 4-byte scale per 128 elements, fp4 with a 1-byte scale per 32: the bytes that
        /// the network carries, against bf16's for the same routing.
        @Test(
            .timeLimit(.minutes(1)), arguments: [KernelType.interNodeV1, .interNodeV1LL, .asyncLL])
        func narrowTokensAreFewerBytes(_ kernel: KernelType) async throws {
            func bytes(_ change: @escaping @Sendable (inout EPDispatchCombineConfig) -> Void)
                async throws -> Double
            {
                let found = try await withLocalWorld(2) { world -> Int in
                    let workload = Workload(
                        worldSize: 2, tokens: [8, 8], hidden: 7168, topK: 8, expertsPerRank: 8,
                        seed: 6)
                    var config = EPDispatchCombineConfig(
                        elementType: .bfloat16, combineElementType: .bfloat16, hiddenDim: 7168,
                        maxInputTokensPerRank: 8, expertsPerRank: 8, expertsPerToken: 8,
                        kernelType: kernel, devicesPerNode: 1)
                    change(&config)
                    let op = try await EPDispatchCombineOp(config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    let routes = Routes(workload)
                    let tokens =
                        config.quantizesDispatch
                        ? try DeviceTensor(
                            shape: [8, 7168], elementType: .bfloat16, on: world.device)
                        : try DeviceTensor(
                            shape: [8, 7168], elementType: config.elementType, on: world.device)
                    try tokens.fill(with: 0x11, on: stream)
                    let scales =
                        config.scaleDim == 0 || config.quantizesDispatch
                        ? nil
                        : try DeviceTensor(
                            shape: [8, config.scaleDim],
                            elementType: config.scaleByteSize == 1 ? .uint8 : .float32,
                            on: world.device)
                    try scales?.fill(with: 0, on: stream)
                    let weights = try DeviceTensor(
                        [Float](repeating: 1, count: 64), shape: [8, 8], on: stream)
                    let indices = try DeviceTensor(
                        routes.experts[world.rank], shape: [8, 8], on: stream)
                    let received = try op.dispatch(
                        tokens, weights: weights, scales: scales, indices: indices, on: stream)
                    try await stream.completion()
                    let statistics = await op.networkStatistics()
                    try op.discard(received)
                    try await op.close()
                    return statistics.dispatch.total.payloadByteCount
                }
                return Double(found.reduce(0, +))
            }
            let plain = try await bytes { _ in }
            let fp8 = try await bytes {
                $0.elementType = .float8E4M3
                $0.scaleDim = 56
            }
            let quantized = try await bytes {
                $0.elementType = .float8E4M3FNUZ
                $0.scaleDim = 56
                $0.quantizesDispatch = true
            }
            let fp4 = try await bytes {
                $0.elementType = .float4E2M1
                $0.scaleDim = 224
                $0.scaleByteSize = 1
            }
            #expect(plain > 0 && fp8 / plain <= 0.53, "\(fp8 / plain)")
            #expect(quantized == fp8)
            #expect(fp4 / plain <= 0.28, "\(fp4 / plain)")
        }
    }
}

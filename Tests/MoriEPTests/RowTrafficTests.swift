import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Bytes that kernels move, held against the least that the routing allows.
    @Suite struct RowTrafficTests {
        private static let routes = Routes(
            Workload(
                worldSize: 4, tokens: [9, 0, 33, 6], hidden: 1024, topK: 4, expertsPerRank: 3,
                scaleDim: 8, seed: 70))

        /// What a stream has moved until now.
        private static func traffic(of stream: DeviceStream) async throws -> RowTraffic {
            try await stream.completion()
            return try #require(stream.rowTraffic)
        }

        private static func config(
            _ kernel: KernelType, _ type: ElementType, _ launch: LaunchConfiguration
        ) -> EPDispatchCombineConfig {
            var config = RoundCase(routes.workload) {
                $0.kernelType = kernel
                $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                $0.dispatchType = type
            }.config
            config.launch = launch
            return config
        }

        private static let launches = [
            LaunchConfiguration(blocks: 1, warpsPerBlock: 1),
            LaunchConfiguration(blocks: 3, warpsPerBlock: 2),
        ]

        @Test(.timeLimit(.minutes(1)), arguments: [KernelType.intraNode, .interNodeV1], launches)
        func theStandardMoELayoutReadsAndWritesEachRowOnce(
            _ kernel: KernelType, _ launch: LaunchConfiguration
        ) async throws {
            _ = try await withLocalWorld(4) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(kernel, .bfloat16, launch), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(
                    Self.routes, rank: world.rank, on: stream, for: op.config)
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                    indices: inputs.indices, on: stream)
                let layout = try op.makeStandardMoELayout(
                    capacity: nil, scaleElementType: inputs.scales?.elementType)
                let row = 1024 * 2
                let scales = 8 * 4

                let dispatched = try await Self.traffic(of: stream)
                _ = try op.convertToStandardMoE(received, into: layout, on: stream)
                let packing = try await Self.traffic(of: stream) - dispatched
                let counts: [Int32] = try await layout.counts.elements(on: stream)
                let pairs = Int(counts.reduce(0, +))
                let rows = try await op.receivedTokenCount(of: received, on: stream)
                #expect(pairs > rows, "no row goes to two experts: the shape shows nothing")
                #expect(packing.bytesRead == rows * (row + scales))
                #expect(packing.bytesWritten == pairs * (row + scales))

                let packed = try await Self.traffic(of: stream)
                _ = try op.convertFromStandardMoE(
                    layout.tokens, of: received, layout: layout, on: stream)
                let summing = try await Self.traffic(of: stream) - packed
                #expect(summing.bytesRead == pairs * row)
                #expect(summing.bytesWritten == rows * row)
                try op.discard(received)
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(1)), arguments: launches)
        func intraNodeReadsATokenOnceAndWritesItOnceToEachOfItsRanks(
            _ launch: LaunchConfiguration
        ) async throws {
            try await Self.checkIntraNode(BFloat16.self, launch)
            try await Self.checkIntraNode(Float8E4M3.self, launch)
        }

        private static func checkIntraNode<Element: TokenElement>(
            _: Element.Type, _ launch: LaunchConfiguration
        ) async throws {
            _ = try await withLocalWorld(4) { world in
                let op = try await EPDispatchCombineOp(
                    config(.intraNode, Element.elementType, launch), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<Element>(
                    routes, rank: world.rank, on: stream, for: op.config)
                let destinations = routes.destinations[world.rank]
                let sent = destinations.count { !$0.isEmpty }
                let copies = destinations.map(\.count).reduce(0, +)
                let row = 1024 * MemoryLayout<Element>.size
                // Scales, weights, expert ids; and where it comes from, which is not read.
                let metadata = 8 * 4 + 4 * 4 + 4 * 4

                for input in [CombineInput.external, .registered] {
                    let begin = try await traffic(of: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                        indices: inputs.indices, on: stream)
                    let rows = try await op.receivedTokenCount(of: received, on: stream)
                    let dispatched = try await traffic(of: stream)
                    #expect((dispatched - begin).bytesRead == sent * (row + metadata))
                    #expect((dispatched - begin).bytesWritten == copies * (row + metadata))

                    let experts =
                        try input == .registered
                        ? op.registeredCombineInput(of: Element.elementType)
                        : received.tokens
                    _ = try op.combine(experts, of: received, input: input, on: stream)
                    let combining = try await traffic(of: stream) - dispatched
                    // An external input goes through memory once more: the peers cannot see it.
                    let staged = input == .external ? rows * row : 0
                    #expect(combining.bytesRead == staged + copies * row)
                    #expect(combining.bytesWritten == staged + destinations.count * row)
                }
                try await op.close()
            }
        }
    }
}

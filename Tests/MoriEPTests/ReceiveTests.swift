import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// What a rank can ask of what it receives: its order, its room, where experts live.
    @Suite struct ReceiveTests {
        private static func nodes(_ kernel: KernelType) -> Int { kernel == .intraNode ? 8 : 2 }

        // Order --------------------------------------------------------------------------------

        @Test(
            .timeLimit(.minutes(2)),
            arguments: [KernelType.intraNode, .interNode, .asyncLL],
            [LaunchConfiguration(blocks: 1, warpsPerBlock: 1), .init(blocks: 3, warpsPerBlock: 2)])
        func rowsComeInOrderOfSourceAndToken(
            _ kernel: KernelType, _ launch: LaunchConfiguration
        ) async throws {
            let rounds = [[9, 0, 30, 7, 1], [0, 0, 1, 0, 0], [65, 3, 2, 64, 8]].enumerated().map {
                Routes(
                    Workload(
                        worldSize: 5, tokens: $1, hidden: 34, topK: 4, expertsPerRank: 3,
                        seed: UInt64(70 + $0)))
            }
            _ = try await withLocalWorld(5) { world in
                var config = RoundCase(rounds[2].workload) {
                    $0.kernelType = kernel
                    $0.devicesPerNode = Self.nodes(kernel)
                }.config
                config.receiveOrder = .source
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                var options = RoundOptions()
                options.launch = launch
                for routes in rounds {
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                        launch: launch, on: stream)
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: options, with: op, on: stream)
                    let found = rows.positions.map { [$0.rank, $0.token] }
                    if found != routes.sources(receivedBy: world.rank) {
                        throw Mismatch("rank \(world.rank) received \(found)")
                    }
                    try await checkCombine(
                        of: received, rows, routes, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream, options: options)
                }
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(1)), arguments: CombineInput.allCases)
        func orderedRoundsComeBackSummedInManyShapes(_ input: CombineInput) async throws {
            for (ranks, tokens, topK) in [(1, [7], 2), (2, [3, 5], 1), (9, [6, 0, 1], 8)] {
                let workload = Workload(
                    worldSize: ranks, tokens: (0..<ranks).map { tokens[$0 % tokens.count] },
                    hidden: 18, topK: topK, expertsPerRank: 4, scaleDim: 3,
                    pattern: .everyOtherDropped, seed: UInt64(ranks))
                try await RoundCase(workload) {
                    $0.receiveOrder = .source
                    $0.options.input = input
                    $0.rounds = [workload.tokens, workload.tokens, workload.tokens]
                    $0.discarded = [1]
                }.run()
            }
        }

        /// What finds no room is the last rows of the last ranks, in every run.
        @Test(.timeLimit(.minutes(1)), arguments: [KernelType.intraNode, .interNode, .asyncLL])
        func anOrderedOverflowDropsTheLastRows(_ kernel: KernelType) async throws {
            let routes = Routes(
                Workload(
                    worldSize: 4, tokens: [5, 5, 5, 5], hidden: 16, topK: 4, expertsPerRank: 1,
                    pattern: .spread, seed: 9))
            _ = try await withLocalWorld(4) { world in
                var config = RoundCase(routes.workload) {
                    $0.kernelType = kernel
                    $0.devicesPerNode = Self.nodes(kernel)
                    $0.receiveOrder = .source
                }.config
                config.maxTotalReceivedTokens = 13
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                for _ in 0..<3 {
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream, isComplete: false)
                    #expect(
                        rows.positions.map { [$0.rank, $0.token] }
                            == Array(routes.sources(receivedBy: world.rank).prefix(13)))
                    #expect(try await op.droppedTokenCount(of: received, on: stream) == 7)
                    // The sums leave out what was dropped: rank 2's last two tokens, all of rank 3's.
                    let arrived = routes.destinations[world.rank].indices.map { token in
                        world.rank * 5 + token < 13 ? [0, 1, 2, 3] : []
                    }
                    let output = try ExpertOutput<BFloat16>(
                        rows, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    let combined = try op.combine(
                        output.tokens, of: received, weights: output.weights, on: stream)
                    try await checkCombined(
                        combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                        on: stream, arrived: arrived)
                }
                try await op.close()
            }
        }

        @Test func aFixedOrderIsRefusedWhereNodesForward() {
            var config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 1,
                expertsPerToken: 1, kernelType: .interNodeV1, devicesPerNode: 1)
            config.receiveOrder = .source
            let error = #expect(throws: MoriError.self) { try config.validate(worldSize: 2) }
            #expect(error?.code == .unsupported)
            #expect(error?.message.contains("intranode, internode and async-ll") == true)
        }

        // Room ---------------------------------------------------------------------------------

        @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
        func anOverflowThatShallFailSaysHowMuchRoomWasNeeded(_ kernel: KernelType) async throws {
            let routes = Routes(
                Workload(
                    worldSize: 4, tokens: [5, 1, 5, 5], hidden: 16, topK: 2, expertsPerRank: 1,
                    pattern: .allToOne, seed: 3))
            let worlds = try await SymmetricMemory.local(worldSize: 4, device: Device(.host))
            let results = await onEveryRank(of: worlds) { world in
                var config = RoundCase(routes.workload) {
                    $0.kernelType = kernel
                    $0.devicesPerNode = Self.nodes(kernel)
                }.config
                config.maxTotalReceivedTokens = 14
                config.overflow = .fail
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let received = try op.dispatch(
                    inputs.tokens, indices: inputs.indices, on: stream)
                let output = try DeviceTensor(
                    shape: [14, 16], elementType: .bfloat16, on: world.device)
                // Refused where the dispatch has failed by now; the stream says what it failed with.
                _ = try? op.combine(output, of: received, on: stream)
                try await stream.completion()
            }
            for (rank, result) in results.enumerated() {
                let error = #expect(throws: MoriError.self) { try result.get() }
                #expect(error?.ranks == [0], "rank \(rank): \(String(describing: error))")
                if rank == 0 {
                    #expect(error?.code == .capacityExceeded)
                    #expect(
                        error?.message.contains("maxTotalReceivedTokens to 16 or more") == true)
                }
            }
        }

        // Experts ------------------------------------------------------------------------------

        @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
        func expertsMayLiveAnywhere(_ kernel: KernelType) async throws {
            // 11 experts on 4 ranks, one of which has none.
            let workload = Workload(
                worldSize: 4, tokens: [9, 0, 66, 3], hidden: 34, topK: 3, expertsPerRank: 5,
                expertRanks: [3, 0, 0, 3, 1, 3, 1, 0, 3, 3, 0], seed: 21)
            for input in CombineInput.allCases {
                try await RoundCase(workload) {
                    $0.kernelType = kernel
                    $0.devicesPerNode = Self.nodes(kernel)
                    $0.options.input = input
                    $0.rounds = [workload.tokens, [1, 2, 3, 4]]
                }.run()
            }
        }

        @Test(
            arguments: [
                ([0, 2], nil, "expertRanks puts expert 1 at rank 2; legal is 0 to 1"),
                ([0, -1], nil, "expert 1 at rank -1"),
                ([0, 0, 0], nil, "more than 2 experts at rank 0"),
                ([0, 1], 3, "leave one of them nil"),
            ] as [([Int], Int?, String)])
        func anIllegalMapOfExpertsIsRefused(
            _ ranks: [Int], _ count: Int?, _ words: String
        ) {
            var config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 2,
                expertsPerToken: 1)
            config.expertRanks = ranks
            config.expertCount = count
            let error = #expect(throws: MoriError.self) { try config.validate(worldSize: 2) }
            #expect(error?.code == .invalidConfiguration)
            #expect(error?.message.contains(words) == true, "\(String(describing: error))")
        }

        @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
        func everyExpertsRowsAreCounted(_ kernel: KernelType) async throws {
            for (pattern, map) in [
                (RoutingPattern.random, nil), (.duplicates, nil), (.outOfRange, nil),
                (.random, [2, 1, 0, 0, 1, 2, 1, 0, 2]),
            ] as [(RoutingPattern, [Int]?)] {
                let routes = Routes(
                    Workload(
                        worldSize: 3, tokens: [11, 0, 70], hidden: 8, topK: 4, expertsPerRank: 3,
                        expertRanks: map, pattern: pattern, seed: 31))
                _ = try await withLocalWorld(3) { world in
                    let op = try await EPDispatchCombineOp(
                        RoundCase(routes.workload) {
                            $0.kernelType = kernel
                            $0.devicesPerNode = Self.nodes(kernel)
                        }.config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, on: stream)
                    let counts: [Int32] =
                        try await op.localExpertCount(of: received, on: stream)
                        .elements(on: stream)
                    let oracle = Oracle(routes.workload, rounding: { $0 })
                    var expected = [Int32](repeating: 0, count: 3)
                    let own = oracle.experts(of: world.rank)
                    for ids in routes.experts {
                        for id in ids {
                            if let place = own.firstIndex(of: id) { expected[place] += 1 }
                        }
                    }
                    if counts != expected {
                        throw Mismatch("rank \(world.rank) counts \(counts), not \(expected)")
                    }
                    try op.discard(received)
                    try await op.close()
                }
            }
        }
    }
}

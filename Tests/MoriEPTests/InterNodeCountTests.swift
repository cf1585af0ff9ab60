import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeCountTests {
    private static let kernels = InterNodeSupport.kernels
    /// The two policies of one implementation, for which the numbers are promised.
    private static let routed = kernels.filter { [.interNodeV1, .interNodeV1LL].contains($0) }

    /// What one round cost, and what it should have.
    private struct Cost {
        /// By rank, of a round after the first.
        var statistics: [NetworkStatistics]
        var traffic: NetworkTraffic
        var packet: PacketByteCount

        /// Over all ranks.
        var total: NetworkStatistics { statistics.reduce(NetworkStatistics(), +) }
    }

    /// Runs two rounds and gives the second one's counts.
    ///
    /// What the rounds give is compared with the oracle elsewhere; here rows only travel.
    private static func cost(
        _ kernel: KernelType, _ geometry: Geometry, tokens: [Int], pattern: RoutingPattern,
        queuePairs: Int = 1, scaleDim: Int = 0
    ) async throws -> Cost {
        let workload = geometry.workload(
            tokens: tokens, hidden: 256, topK: 8, expertsPerRank: 4, scaleDim: scaleDim,
            pattern: pattern, seed: UInt64(geometry.ranks))
        let round = geometry.round(kernel, workload) { $0.queuePairsPerPeer = queuePairs }
        let routes = Routes(workload)
        let statistics = try await withLocalWorld(geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
            var snapshots: [NetworkStatistics] = []
            for _ in 0..<2 {
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                    indices: inputs.indices, on: stream)
                let rows = received.tokens
                let weights = received.weights
                _ = try op.combine(rows, of: received, weights: weights, on: stream)
                try await stream.completion()
                snapshots.append(await op.networkStatistics())
            }
            try await op.close()
            return snapshots[1] - snapshots[0]
        }
        return Cost(
            statistics: statistics,
            traffic: NetworkTraffic(
                nodes: geometry.nodes, tokens: workload.tokens
            ) { routes.destinations[$0][$1] },
            packet: PacketByteCount(
                row: 512, topK: workload.topK, carriesWeights: true, scales: 4 * scaleDim))
    }

    /// 2, 3, 4, 8 and 16 nodes, one of them with a last node that is not full.
    static let geometries = [
        Geometry(4, of: 2), Geometry(5, of: 2), Geometry(12, of: 3), Geometry(16, of: 2),
        Geometry(32, of: 2),
    ]
    static let patterns: [RoutingPattern] = [.random, .skewed]

    @Test(.timeLimit(.minutes(2)), arguments: geometries, patterns)
    func tokensCrossOncePerNodeInAWriteAndAWordPerChunk(
        _ geometry: Geometry, _ pattern: RoutingPattern
    ) async throws {
        for kernel in Self.routed {
            let cost = try await Self.cost(
                kernel, geometry, tokens: [66, 0, 130, 64], pattern: pattern, scaleDim: 3)
            for (rank, counts) in cost.statistics.enumerated() {
                let source = cost.traffic.sources[rank]
                let dispatch = counts.dispatch
                #expect(dispatch.workRequests == source.requests, "rank \(rank)")
                #expect(dispatch.workRequests <= source.requestBound, "rank \(rank)")
                #expect(dispatch.signalByteCount == 8 * source.toldChunks, "rank \(rank)")
                #expect(dispatch.posts <= source.toldChunks, "rank \(rank)")
                // Everything for a node goes to one of its ranks.
                let reached = dispatch.byPeer.filter { $0.value.workRequests > 0 }.keys
                #expect(
                    Set(reached.map(geometry.nodes.node(of:))).count == reached.count,
                    "rank \(rank) reached ranks \(reached.sorted())")
                #expect(reached.count == source.remoteNodes, "rank \(rank)")
            }
            let total = cost.total
            let traffic = cost.traffic
            #expect(total.combine.workRequests <= traffic.total(\.requestBound))
            #expect(total.combine.workRequests >= traffic.total(\.filledChunks) * 2)
            #expect(total.combine.posts <= traffic.total(\.toldChunks))
            Self.expectCompletions(cost)
            Self.expectPayload(
                total.dispatch,
                atLeast: traffic.byteLowerBound(packetByteCount: cost.packet.dispatch))
            Self.expectPayload(
                total.combine,
                atLeast: traffic.byteLowerBound(packetByteCount: cost.packet.combine))
            #expect(total.dispatch.phases == 1)
            #expect(total.combine.phases == 1)
        }
    }

    /// The issue's own number: the original posts 16, a proxy that sends token by token about 960.
    @Test(.timeLimit(.minutes(2)), arguments: patterns)
    func fourNodesOfEightNeedTwelveRequestsARankFor128Tokens(
        _ pattern: RoutingPattern
    ) async throws {
        for kernel in Self.routed {
            let cost = try await Self.cost(
                kernel, Geometry(32, of: 8), tokens: [128], pattern: pattern)
            for counts in cost.statistics { #expect(counts.dispatch.workRequests <= 12) }
            #expect(cost.total.combine.workRequests <= 12 * 32)
        }
    }

    /// More queues share the chunks and add nothing.
    @Test(.timeLimit(.minutes(2)), arguments: [2, 4])
    func queuePairsAddNoRequests(_ queuePairs: Int) async throws {
        for kernel in Self.routed {
            let cost = try await Self.cost(
                kernel, Geometry(5, of: 2), tokens: [200, 0, 66], pattern: .random,
                queuePairs: queuePairs)
            #expect(cost.total.dispatch.workRequests == cost.traffic.total(\.requests))
            #expect(cost.total.combine.workRequests <= cost.traffic.total(\.requestBound))
            Self.expectCompletions(cost)
        }
    }

    /// One write and one word for each rank of another node and queue.
    @Test(
        .enabled(if: kernels.contains(.asyncLL)), .timeLimit(.minutes(2)), arguments: geometries,
        patterns)
    func asyncLLSendsEachRankItsRowsInOneWriteAndAWord(
        _ geometry: Geometry, _ pattern: RoutingPattern
    ) async throws {
        for queuePairs in [1, 3] {
            let cost = try await Self.cost(
                .asyncLL, geometry, tokens: [66, 0, 130, 64], pattern: pattern,
                queuePairs: queuePairs)
            for (rank, counts) in cost.statistics.enumerated() {
                let most = 2 * cost.traffic.sources[rank].remoteRanks * queuePairs
                #expect(counts.dispatch.workRequests <= most, "rank \(rank)")
                #expect(counts.combine.workRequests <= most, "rank \(rank)")
            }
            Self.expectRows(cost)
            Self.expectCompletions(cost)
            #expect(cost.total.dispatch.phases == 1)
            #expect(cost.total.combine.phases == 1)
        }
    }

    /// The baseline: a write for each token and rank, and a word for each rank and queue.
    @Test(
        .enabled(if: kernels.contains(.interNode)), .timeLimit(.minutes(2)), arguments: geometries,
        patterns)
    func interNodeSendsARowForEachTokenAndRank(
        _ geometry: Geometry, _ pattern: RoutingPattern
    ) async throws {
        let cost = try await Self.cost(
            .interNode, geometry, tokens: [66, 0, 130, 64], pattern: pattern)
        for (rank, counts) in cost.statistics.enumerated() {
            let source = cost.traffic.sources[rank]
            #expect(
                counts.dispatch.workRequests <= source.remoteRows + source.remoteRanks,
                "rank \(rank)")
        }
        let traffic = cost.traffic
        #expect(
            cost.total.combine.workRequests
                <= traffic.total(\.remoteRows) + traffic.total(\.remoteRanks))
        Self.expectRows(cost)
        Self.expectCompletions(cost)
    }

    @Test(.timeLimit(.minutes(1)), arguments: kernels)
    func oneNodeSendsNothing(_ kernel: KernelType) async throws {
        let cost = try await Self.cost(
            kernel, Geometry(3, of: 3), tokens: [66, 0, 5], pattern: .random)
        for counts in cost.statistics {
            for verb in [counts.dispatch, counts.combine] {
                #expect(verb.total == NetworkStatistics.Counts())
            }
        }
    }

    // -------------------------------------------------------------------------------------------
    // Bounds

    /// At most one for 16 requests and one for each post; at least one where anything was sent.
    ///
    /// Of both verbs together: a post may carry writes of both, and counts for the first one's.
    private static func expectCompletions(_ cost: Cost) {
        for (rank, counts) in cost.statistics.enumerated() {
            let both = counts.dispatch.total + counts.combine.total
            #expect(both.completions <= both.workRequests / 16 + both.posts, "rank \(rank)")
            #expect(both.workRequests == 0 || both.completions > 0, "rank \(rank)")
        }
    }

    /// Between the least that the routing asks for and 1.03 of it.
    private static func expectPayload(_ verb: NetworkStatistics.Verb, atLeast least: Int) {
        #expect(verb.payloadByteCount >= least)
        #expect(
            Double(verb.payloadByteCount) <= 1.03 * Double(least),
            "\(Double(verb.payloadByteCount) / Double(least)) of the lower bound")
    }

    /// The same for kernels that send a packet to each rank.
    private static func expectRows(_ cost: Cost) {
        let rows = cost.traffic.total(\.remoteRows)
        expectPayload(cost.total.dispatch, atLeast: rows * cost.packet.dispatch)
        expectPayload(cost.total.combine, atLeast: rows * cost.packet.combine)
    }
}

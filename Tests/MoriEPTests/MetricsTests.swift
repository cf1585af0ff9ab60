import CoreMetrics
import InMemoryLogging
import Logging
import MetricsTestKit
import MoriOracle
import MoriTestSupport
import Testing

@testable import MoriEP

extension WorldTests.MetricsTests {
    /// What one rank counted under a name, over all labels but those given.
    private static func total(
        _ metrics: TestMetrics, _ name: String, rank: Int, _ labels: [String: String] = [:]
    ) -> Int {
        let wanted = labels.merging(["rank": "\(rank)"]) { $1 }
        return metrics.counters(label: name)
            .filter { counter in
                wanted.allSatisfy { key, value in
                    counter.dimensions.contains { $0.0 == key && $0.1 == value }
                }
            }
            .reduce(0) { $0 + Int($1.totalValue) }
    }

    private static func durations(
        _ metrics: TestMetrics, _ name: String, rank: Int, half: String
    ) -> [Int64] {
        metrics.timers(label: name)
            .filter { timer in
                timer.dimensions.contains { $0.0 == "rank" && $0.1 == "\(rank)" }
                    && timer.dimensions.contains { $0.0 == "half" && $0.1 == half }
            }
            .flatMap(\.values)
    }

    private static func routes(_ seed: UInt64, _ pattern: RoutingPattern) -> Routes {
        Routes(
            Workload(
                worldSize: 4, tokens: [5, 0, 70, 7], hidden: 34, topK: 3, expertsPerRank: 3,
                scaleDim: 2, pattern: pattern, seed: seed))
    }

    private static func config(_ kernel: KernelType, slots: Int = 1) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 34, scaleDim: 2, maxInputTokensPerRank: 70,
            expertsPerRank: 3, expertsPerToken: 3, kernelType: kernel, devicesPerNode: 2,
            slots: slots)
    }

    /// Runs `body` on every rank of a world that counts, and closes it.
    private static func withMetrics(
        _ metrics: TestMetrics, ranks: Int = 4,
        _ body: @escaping @Sendable (SymmetricMemory) async throws -> Void
    ) async throws {
        let worlds = try await SymmetricMemory.local(
            worldSize: ranks, device: TestDevice.selected(), roundTimeout: Patience.healthy,
            metrics: metrics)
        let results = await onEveryRank(of: worlds) { world in
            try await body(world)
            try await world.close()
        }
        for result in results { try result.get() }
    }

    /// Tokens, rows and bytes are what the oracle's routing says, on every kernel; each round is one
    /// value of every histogram.
    @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
    func countsAreThoseOfTheOraclesRouting(_ kernel: KernelType) async throws {
        let rounds = [
            Self.routes(31, .random), Self.routes(32, .outOfRange), Self.routes(33, .duplicates),
        ]
        let metrics = TestMetrics()
        try await Self.withMetrics(metrics) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for routes in rounds {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            }
            try await op.close()
        }
        // bf16 row, weights, ids, scales; and what comes back: bf16 row, weights.
        let dispatched = 2 * 34 + 4 * 3 + 4 * 3 + 4 * 2
        let combined = 2 * 34 + 4 * 3
        for rank in 0..<4 {
            func count(_ name: String, _ labels: [String: String] = [:]) -> Int {
                Self.total(
                    metrics, name, rank: rank, labels.merging(["kernel": "\(kernel)"]) { $1 })
            }
            let own = rounds.flatMap { $0.destinations[rank] }
            let sent = own.reduce(0) { $0 + $1.count }
            let received = rounds.reduce(0) { $0 + $1.sources(receivedBy: rank).count }
            #expect(count("moriep.tokens") == own.count)
            for peer in 0..<4 {
                #expect(
                    count("moriep.rows.sent", ["peer": "\(peer)"])
                        == own.count { $0.contains(peer) })
            }
            #expect(count("moriep.rows.received") == received)
            #expect(count("moriep.rows.dropped") == 0)
            #expect(count("moriep.rounds", ["verb": "dispatch"]) == rounds.count)
            #expect(count("moriep.rounds", ["verb": "combine"]) == rounds.count)
            #expect(count("moriep.bytes.sent", ["verb": "dispatch"]) == sent * dispatched)
            #expect(count("moriep.bytes.received", ["verb": "dispatch"]) == received * dispatched)
            #expect(count("moriep.bytes.sent", ["verb": "combine"]) == received * combined)
            #expect(count("moriep.bytes.received", ["verb": "combine"]) == sent * combined)
            let perRound = metrics.recorders(label: "moriep.round.received_rows")
                .filter { $0.dimensions.contains { $0.0 == "rank" && $0.1 == "\(rank)" } }
                .flatMap(\.values)
            #expect(perRound == rounds.map { Double($0.sources(receivedBy: rank).count) })
            for verb in ["dispatch", "combine"] {
                let times = Self.durations(
                    metrics, "moriep.\(verb).duration", rank: rank, half: "both")
                #expect(times.count == rounds.count)
                #expect(times.allSatisfy { $0 > 0 && $0 < 60_000_000_000 }, "\(times)")
            }
        }
    }

    /// Requests and bytes are those of `networkStatistics()`, peer by peer.
    @Test(
        .enabled(if: InterNodeSupport.isBuilt), .timeLimit(.minutes(2)),
        arguments: InterNodeSupport.kernels)
    func theNetworksCountsAreItsStatistics(_ kernel: KernelType) async throws {
        let routes = Self.routes(41, .random)
        let metrics = TestMetrics()
        let found = Locked<[Int: NetworkStatistics]>([:])
        try await Self.withMetrics(metrics) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for _ in 0..<3 {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            }
            // A rank without tokens has read nothing of its last combine.
            try await stream.completion()
            let statistics = await op.networkStatistics()
            found.withLock { $0[world.rank] = statistics }
            try await op.close()
        }
        let all = found.withLock { $0 }
        #expect(all.values.contains { $0.dispatch.workRequests > 0 })
        for (rank, statistics) in all {
            for (verb, counts) in [
                ("dispatch", statistics.dispatch), ("combine", statistics.combine),
            ] {
                for (peer, count) in counts.byPeer {
                    func counted(_ name: String) -> Int {
                        Self.total(
                            metrics, "moriep.network.\(name)", rank: rank,
                            ["verb": verb, "peer": "\(peer)"])
                    }
                    #expect(counted("requests") == count.workRequests)
                    #expect(counted("posts") == count.posts)
                    #expect(counted("completions") == count.completions)
                    #expect(counted("payload_bytes") == count.payloadByteCount)
                    #expect(counted("signal_bytes") == count.signalByteCount)
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
    func halvesAreMeasuredApartAndCountOneRound(_ kernel: KernelType) async throws {
        let routes = Self.routes(51, .random)
        let metrics = TestMetrics()
        try await Self.withMetrics(metrics) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
            let pending = try op.dispatchSend(inputs.tokens, indices: inputs.indices, on: stream)
            let received = try op.dispatchReceive(pending, on: stream)
            let rows = received.tokens
            let sent = try op.combineSend(rows, of: received, on: stream)
            _ = try op.combineReceive(sent, on: stream)
            try await stream.completion()
            try await op.close()
        }
        for rank in 0..<4 {
            let own = routes.destinations[rank]
            let received = routes.sources(receivedBy: rank).count
            #expect(Self.total(metrics, "moriep.tokens", rank: rank) == own.count)
            #expect(
                Self.total(metrics, "moriep.rows.sent", rank: rank)
                    == own.reduce(0) { $0 + $1.count })
            #expect(Self.total(metrics, "moriep.rows.received", rank: rank) == received)
            #expect(
                Self.total(metrics, "moriep.bytes.sent", rank: rank, ["verb": "combine"])
                    == received * 68)
            for verb in ["dispatch", "combine"] {
                #expect(
                    Self.total(metrics, "moriep.rounds", rank: rank, ["verb": verb]) == 1)
                let name = "moriep.\(verb).duration"
                #expect(Self.durations(metrics, name, rank: rank, half: "send").count == 1)
                #expect(Self.durations(metrics, name, rank: rank, half: "receive").count == 1)
                #expect(Self.durations(metrics, name, rank: rank, half: "both").isEmpty)
            }
        }
    }

    /// Time goes to the rank that a rank waited for: one comes late to a dispatch, another to its combine.
    @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
    func waitsAreCountedByTheRankThatCameLate(_ kernel: KernelType) async throws {
        let routes = Self.routes(71, .random)
        let metrics = TestMetrics()
        try await Self.withMetrics(metrics) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
            try await world.barrier()
            if world.rank == 2 { try await Task.sleep(for: .milliseconds(150)) }
            let received = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            try await stream.completion()
            try await world.barrier()
            if world.rank == 1 { try await Task.sleep(for: .milliseconds(150)) }
            let rows = received.tokens
            _ = try op.combine(rows, of: received, on: stream)
            try await stream.completion()
            try await op.close()
        }
        func waited(_ rank: Int, for peer: Int, _ verb: String) -> Int {
            Self.total(
                metrics, "moriep.waits.nanoseconds", rank: rank,
                ["verb": verb, "peer": "\(peer)", "kernel": "\(kernel)"])
        }
        // Ranks 0 and 1 are a node, and 2 and 3; between nodes a forwarding rank may be waited for instead.
        #expect(waited(3, for: 2, "dispatch") > 100_000_000)
        #expect(waited(0, for: 1, "combine") > 100_000_000)
        #expect(waited(2, for: 2, "dispatch") < 100_000_000)
        #expect(waited(3, for: 1, "dispatch") < 100_000_000)
        #expect(waited(0, for: 3, "combine") < 100_000_000)
    }

    @Test(.timeLimit(.minutes(2)))
    func failuresRefusalsAndRecoveriesAreCounted() async throws {
        let routes = Self.routes(61, .random)
        let metrics = TestMetrics()
        let gaveUp = Arrivals()
        try await Self.withMetrics(metrics) { world in
            let op = try await EPDispatchCombineOp(Self.config(.intraNode), in: world)
            let stream = try DeviceStream(on: world.device)
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            let wide = try DeviceTensor(
                [BFloat16](repeating: BFloat16(1), count: 36), shape: [1, 36], on: stream)
            let ids = try DeviceTensor([Int32](repeating: 0, count: 3), shape: [1, 3], on: stream)
            let refusal = try #require(throws: MoriError.self) {
                _ = try op.dispatch(wide, indices: ids, on: stream)
            }
            #expect(refusal.code == .invalidArgument)
            try await world.barrier()
            try op.setTimeout(.milliseconds(300), on: stream)
            // Rank 2 comes too late.
            if world.rank == 2 { try await gaveUp.wait(for: 3) }
            await #expect(throws: MoriError.self) {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            }
            gaveUp.arrive()
            try await world.recover(activeRanks: [0, 1, 3, 2])
            try op.setTimeout(Patience.healthy, on: stream)
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            try await op.close()
        }
        for rank in 0..<4 {
            let labels = ["verb": "dispatch", "code": "invalidArgument"]
            #expect(Self.total(metrics, "moriep.calls.refused", rank: rank, labels) == 1)
            #expect(Self.total(metrics, "moriep.failures", rank: rank) == 1)
            #expect(Self.total(metrics, "moriep.recoveries", rank: rank) == 1)
            // The void round is none.
            #expect(
                Self.total(metrics, "moriep.rounds", rank: rank, ["verb": "combine"]) == 2)
            let own = routes.destinations[rank]
            #expect(
                Self.total(metrics, "moriep.rows.received", rank: rank)
                    == 2 * routes.sources(receivedBy: rank).count)
            #expect(Self.total(metrics, "moriep.tokens", rank: rank) == 2 * own.count)
        }
        // Who waited for rank 2 says so, or heard that another one gave up because of it.
        let failed = metrics.counters(label: "moriep.waits.failed")
        #expect(failed.contains { $0.dimensions.contains { $0.0 == "peer" && $0.1 == "2" } })
        #expect(
            failed.allSatisfy { $0.totalValue == 1 && $0.dimensions.map(\.0).contains("phase") })
        let times = metrics.timers(label: "moriep.recovery.duration").flatMap(\.values)
        #expect(times.count == 4 && times.allSatisfy { $0 > 0 })
        let active = metrics.recorders(label: "moriep.world.active_ranks")
        #expect(active.allSatisfy { $0.values == [4, 4] })
    }

    @Test(.timeLimit(.minutes(1)))
    func aRoundThatIsCapturedIsNotMeasuredAndRunsAsEver() async throws {
        let metrics = TestMetrics()
        try await Self.withMetrics(metrics, ranks: 1) { world in
            let op = try await EPDispatchCombineOp(
                EPDispatchCombineConfig(
                    elementType: .float32, hiddenDim: 4, maxInputTokensPerRank: 2,
                    expertsPerRank: 1, expertsPerToken: 1), in: world)
            let stream = try DeviceStream(on: world.device)
            let rows = try DeviceTensor((1...8).map { Float($0) }, shape: [2, 4], on: stream)
            let ids = try DeviceTensor([Int32](repeating: 0, count: 2), shape: [2, 1], on: stream)
            let sums = Locked<DeviceTensor?>(nil)
            let graph = try stream.capture { () throws(MoriError) in
                let received = try op.dispatch(rows, indices: ids, on: stream)
                let tokens = received.tokens
                let combined = try op.combine(tokens, of: received, on: stream)
                sums.withLock { $0 = combined.tokens }
            }
            for _ in 0..<3 { try graph.launch(on: stream) }
            let found: [Float]? = try await sums.withLock { $0 }?.elements(on: stream)
            #expect(found == (1...8).map { Float($0) })
            try await op.close()
        }
        #expect(Self.total(metrics, "moriep.rounds", rank: 0) == 0)
        #expect(Self.total(metrics, "moriep.calls.refused", rank: 0) == 0)
    }

    @Test(.timeLimit(.minutes(1)))
    func withoutABackendNothingIsMade() async throws {
        _ = try await withLocalWorld(2) { world in
            #expect(world.metrics == nil)
            let op = try await EPDispatchCombineOp(Self.config(.intraNode), in: world)
            #expect(op.meter == nil)
            try await op.close()
        }
        let worlds = try await SymmetricMemory.local(
            worldSize: 1, device: TestDevice.selected(), metrics: NOOPMetricsHandler.instance)
        #expect(worlds[0].metrics == nil)
        try await worlds[0].close()
    }

    @Test(.timeLimit(.minutes(1)))
    func theFactoryThatHoldsWhereAWorldIsMadeCounts() async throws {
        let metrics = TestMetrics()
        try await withMetricsFactory(metrics) {
            let worlds = try await SymmetricMemory.local(
                worldSize: 1, device: TestDevice.selected())
            try await worlds[0].close()
        }
        #expect(metrics.recorders(label: "moriep.world.active_ranks").count == 1)
    }

    /// Libraries speak at debug and below; what they say can be searched by its fields.
    @Test(.timeLimit(.minutes(1)))
    func aHealthyWorldSaysNothingAboveDebug() async throws {
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in handler }
        logger.logLevel = .trace
        let worlds = try await SymmetricMemory.local(
            worldSize: 2, device: TestDevice.selected(), logger: logger)
        let results = await onEveryRank(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config(.intraNode), in: world)
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
        let entries = handler.entries
        #expect(entries.allSatisfy { $0.level <= .debug })
        let joined = entries.filter { $0.message == "joined a world" }
        #expect(Set(joined.compactMap { $0.metadata["rank"].map { "\($0)" } }) == ["0", "1"])
    }
}

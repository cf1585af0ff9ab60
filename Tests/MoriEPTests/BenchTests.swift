import FoundationEssentials
import Glibc
import MoriEP
import MoriLauncher
import MoriOracle
import Testing

extension WorldTests {
    /// `bench-dispatch-combine` as a user runs it.
    @Suite struct BenchTests {}
}

extension WorldTests.BenchTests {
    private static let program = "bench-dispatch-combine"
    private static let shape = [
        "--ranks", "3", "--tokens", "7", "--hidden", "130", "--topk", "5", "--experts-per-rank",
        "3",
    ]

    /// The fields of "moriep.bench.v1".
    private struct Result: Decodable {
        struct Phase: Decodable {
            var rooflineGbps: Double
            var p50Us: Double
            var p99Us: Double
            var gbpsPerRank: Double
            var gbpsTotal: Double
            var receivedTokens: Int
        }
        /// What one round asked of the network, all ranks together.
        struct Network: Decodable {
            struct Verb: Decodable {
                var workRequests: Int
                var posts: Int
                var completions: Int
                var payloadBytes: Int
                var signalBytes: Int
                var minimumBytes: Int
                var rdmaTokens: Int
                var rdmaTokensPhysical: Int
                var phases: Int
            }
            var dispatch: Verb
            var combine: Verb
        }
        var schema: String
        var device: String
        var kernel: String
        var world: String
        var ranks: Int
        var nodes: Int
        var tokens: Int
        var hidden: Int
        var topk: Int
        var expertsPerRank: Int
        var dispatchType: String
        var combineType: String
        var verified: Bool
        var combineMode: String
        var dispatch: Phase
        var combine: Phase
        var network: Network?
        /// What the kernels of all ranks moved in one round.
        struct Moved: Decodable {
            struct Verb: Decodable {
                var bytesRead: Int
                var bytesWritten: Int
            }
            var dispatch: Verb
            var combine: Verb
        }
        var moved: Moved?
        var quantizesDispatch: Bool
        var quantization: String
        var otherModes: [Mode]
        var warmups: Int

        struct Mode: Decodable {
            var combineMode: String
            var network: Network?
        }
    }

    /// Runs the benchmark with `--json` and gives the object.
    private func result(of arguments: [String]) async throws -> Result {
        let file = FileManager.default.temporaryDirectory.appending(
            path: "moriep-\(UUID().uuidString).json")
        defer { try? FileManager.default.removeItem(at: file) }
        let ended = try await Programs.run(Self.program, arguments + ["--json", file.path])
        #expect(ended.errors == "")
        try #require(ended.exit.isSuccess)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Result.self, from: Data(contentsOf: file))
    }

    @Test(.timeLimit(.minutes(2)), arguments: ["process", "thread"])
    func anOddShapeIsVerifiedAndReported(world: String) async throws {
        let found = try await result(of: Self.shape + ["--world", world, "--iterations", "3"])
        #expect(found.schema == "moriep.bench.v1")
        #expect(found.device == "host")
        #expect(found.kernel == "intranode")
        #expect(found.world == world)
        #expect([found.ranks, found.nodes, found.tokens, found.hidden] == [3, 1, 7, 130])
        #expect([found.topk, found.expertsPerRank] == [5, 3])
        #expect([found.dispatchType, found.combineType] == ["bf16", "bf16"])
        #expect(found.verified)
        #expect(found.combineMode == "external")
        #expect(found.otherModes.map(\.combineMode) == ["zero-copy"])
        #expect(found.network == nil)
        let workload = Workload(
            worldSize: 3, tokens: [7, 7, 7], hidden: 130, topK: 5, expertsPerRank: 3, seed: 1)
        let oracle = Oracle(workload, rounding: { $0 })
        let rows = (0..<3).map { oracle.sources(receivedBy: $0).count }.reduce(0, +)
        for phase in [found.dispatch, found.combine] {
            #expect(phase.receivedTokens == rows)
            #expect(phase.p50Us > 0 && phase.p50Us <= phase.p99Us)
            #expect(phase.gbpsPerRank > 0 && phase.gbpsTotal > 0 && phase.rooflineGbps > 0)
        }
    }

    @Test(.timeLimit(.minutes(2)))
    func zeroCopyAndTwoTypesAreReportedAsSuch() async throws {
        let found = try await result(
            of: Self.shape + [
                "--zero-copy", "--dispatch-type", "f32", "--combine-type", "bf16", "--iterations",
                "1", "--seed", "7", "--warmup", "1",
            ])
        #expect(found.warmups == 1)
        #expect(found.combineMode == "zero-copy")
        #expect([found.dispatchType, found.combineType] == ["f32", "bf16"])
        #expect(found.verified)
    }

    @Test(
        .timeLimit(.minutes(2)), arguments: ["round-robin", "skewed", "all-to-one", "spread"])
    func everyRoutingIsVerified(routing: String) async throws {
        let found = try await result(
            of: Self.shape + ["--world", "thread", "--routing", routing, "--iterations", "1"])
        #expect(found.verified)
        if routing == "all-to-one" { #expect(found.dispatch.receivedTokens == 21) }
    }

    @Test(.timeLimit(.minutes(2)))
    func noTokensAreARoundToo() async throws {
        let found = try await result(
            of: ["--ranks", "2", "--tokens", "0", "--hidden", "64", "--iterations", "1"])
        #expect(found.verified)
        #expect(found.dispatch.receivedTokens == 0)
        #expect(found.dispatch.gbpsTotal == 0)
    }

    @Test(.timeLimit(.minutes(2)))
    func routingComesFromAFile() async throws {
        let file = FileManager.default.temporaryDirectory.appending(
            path: "moriep-\(UUID().uuidString).json")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("[[0, 1, 2, 3], [3, -1, 0, 0]]".utf8).write(to: file)
        let shape = [
            "--ranks", "2", "--tokens", "2", "--hidden", "16", "--topk", "2",
            "--experts-per-rank", "2", "--iterations", "1", "--routing", file.path,
        ]
        // Tokens go to ranks {0}, {1}, {1} and {0}.
        let found = try await result(of: shape)
        #expect(found.dispatch.receivedTokens == 4)
        let ended = try await Programs.run(Self.program, shape + ["--tokens", "3"])
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.errors.contains("legal is 2 ranks of 6 ids"))
    }

    @Test(.timeLimit(.minutes(2)))
    func theBenchmarkJoinsALaunchersWorld() async throws {
        let program = try Programs.path(Self.program)
        let ended = try await Programs.run(
            "mori-ep",
            ["launch", "-n", "2", "--no-prefix", "--", program, "--tokens", "5", "--hidden", "64"])
        #expect(ended.exit.isSuccess)
        #expect(ended.output.contains("2 ranks (processes)"))
        #expect(ended.output.split(separator: "\n").count { $0.hasPrefix("dispatch") } == 1)
    }

    /// The issue's own run with fewer tokens: three nodes, of which the last is not full.
    @Test(
        .enabled(if: InterNodeSupport.isBuilt), .timeLimit(.minutes(2)),
        arguments: InterNodeSupport.kernels, ["process", "thread"])
    func kernelsBetweenNodesAreVerifiedAndCounted(
        _ kernel: KernelType, world: String
    ) async throws {
        let found = try await result(
            of: [
                "--kernel", "\(kernel)", "--ranks", "5", "--gpus-per-node", "2", "--tokens", "70",
                "--hidden", "256", "--topk", "4", "--experts-per-rank", "3", "--world", world,
                "--queue-pairs", "2", "--iterations", "2",
            ])
        #expect(found.verified)
        #expect(found.kernel == "\(kernel)")
        #expect([found.ranks, found.nodes] == [5, 3])
        // The loops of kernels that send packets trap where they are not what the tokens ask for.
        #expect(found.dispatch.rooflineGbps > 0 && found.combine.rooflineGbps > 0)
        let traffic = NetworkTraffic(
            Workload(
                worldSize: 5, tokens: Array(repeating: 70, count: 5), hidden: 256, topK: 4,
                expertsPerRank: 3, seed: 1),
            nodes: Nodes(worldSize: 5, devicesPerNode: 2))
        let rows = PacketByteCount(row: 512, topK: 4, carriesWeights: true).dispatch
        let network = try #require(found.network)
        #expect(
            network.dispatch.minimumBytes == traffic.byteLowerBound(packetByteCount: rows))
        #expect(
            network.combine.minimumBytes == traffic.byteLowerBound(packetByteCount: 512))
        for verb in [network.dispatch, network.combine] {
            #expect(verb.rdmaTokens == traffic.total(\.logicalTokens))
            #expect(verb.rdmaTokensPhysical == traffic.total(\.physicalTokens))
            #expect(verb.payloadBytes >= verb.minimumBytes)
            #expect(verb.signalBytes > 0 && verb.signalBytes % 8 == 0)
        }
        // A post may carry writes of both verbs, and counts for the first one's.
        let completions = network.dispatch.completions + network.combine.completions
        let requests = network.dispatch.workRequests + network.combine.workRequests
        let posts = network.dispatch.posts + network.combine.posts
        #expect(completions > 0)
        #expect(completions <= requests / 16 + posts)
        guard [.interNodeV1, .interNodeV1LL].contains(kernel) else {
            #expect(
                found.otherModes.map(\.combineMode) == (kernel == .intraNode ? ["zero-copy"] : []))
            return
        }
        #expect(network.dispatch.workRequests == traffic.total(\.requests))
        for verb in [network.dispatch, network.combine] {
            #expect(verb.workRequests <= traffic.total(\.requestBound))
            #expect(Double(verb.payloadBytes) <= 1.03 * Double(verb.minimumBytes))
            #expect(verb.phases == 1)
        }
        #expect(found.otherModes.count == 1 && found.otherModes[0].network != nil)
    }

    /// bf16 tokens that travel as fp8, and bf16 rows that come back in fewer bits.
    @Test(
        .timeLimit(.minutes(2)), arguments: [KernelType.intraNode, .interNodeV1, .asyncLL],
        CombineQuantization.allCases)
    func quantizedRoundsAreVerified(
        _ kernel: KernelType, _ quantization: CombineQuantization
    ) async throws {
        let found = try await result(
            of: [
                "--kernel", "\(kernel)", "--ranks", "4", "--gpus-per-node",
                kernel == .intraNode ? "4" : "2", "--tokens", "9", "--hidden", "200", "--topk",
                "3", "--experts-per-rank", "3", "--world", "thread", "--iterations", "2",
                "--quantize-dispatch", "--dispatch-type", "fp8_e4m3", "--quantization",
                "\(quantization)", "--quantization-block", "64",
            ])
        #expect(found.verified)
        #expect([found.dispatchType, found.combineType] == ["fp8_e4m3", "bf16"])
        #expect(found.quantizesDispatch)
        #expect(found.quantization == "\(quantization)")
        #expect(found.dispatch.rooflineGbps == 0)
        guard let network = found.network else { return }
        // 200 elements of a byte, 4 scales, 3 weights, 3 ids and the source.
        #expect(network.dispatch.minimumBytes % (200 + 16 + 12 + 12 + 4) == 0)
        let rows = [
            CombineQuantization.none: 400, .fp8DirectCast: 200, .fp8Blockwise: 216,
            .fp4Blockwise: 116,
        ]
        #expect(network.combine.minimumBytes % (rows[quantization] ?? 0) == 0)
        for verb in [network.dispatch, network.combine] {
            #expect(verb.minimumBytes > 0 && verb.payloadBytes >= verb.minimumBytes)
        }
    }

    /// Each token's row, weights and ids are read once; and stored, with the source, once a rank.
    @Test(.timeLimit(.minutes(2)))
    func whatTheKernelsMoveIsCounted() async throws {
        let found = try await result(of: Self.shape + ["--iterations", "1", "--zero-copy"])
        let moved = try #require(found.moved)
        // 130 bf16, 5 weights, 5 ids.
        #expect(moved.dispatch.bytesRead == 21 * (260 + 20 + 20))
        #expect(moved.dispatch.bytesWritten >= found.dispatch.receivedTokens * (260 + 20 + 20))
        #expect(moved.combine.bytesRead == found.combine.receivedTokens * 260)
        #expect(moved.combine.bytesWritten == 21 * 260)
    }

    /// As under torchrun on two machines: each process knows how many there are on its own.
    @Test(
        .enabled(if: InterNodeSupport.isBuilt), .timeLimit(.minutes(2)),
        arguments: InterNodeSupport.kernels)
    func aLaunchersNodesAreTheBenchmarks(_ kernel: KernelType) async throws {
        let ended = try await Programs.run(
            "mori-ep",
            [
                "launch", "-n", "4", "--no-prefix", "--", "sh", "-c",
                #"LOCAL_WORLD_SIZE=2 LOCAL_RANK=$((RANK % 2)) exec "$0" "$@""#,
                try Programs.path(Self.program), "--kernel", "\(kernel)", "--tokens", "5",
                "--hidden", "64",
            ])
        #expect(ended.exit.isSuccess, "\(ended.errors)")
        #expect(ended.output.contains("4 ranks (processes), 2 nodes of 2"), "\(ended.output)")
        for words in ["verified", "XGMI/peer", "RDMA", "logical", "physical"] {
            #expect(ended.output.contains(words), "\(ended.output)")
        }
    }

    /// A kernel that this version does not run is refused before anything is started.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: KernelType.allCases.filter {
            $0 != .intraNode && !InterNodeSupport.kernels.contains($0)
        })
    func aKernelThatIsNotThereIsRefused(_ kernel: KernelType) async throws {
        let ended = try await Programs.run(Self.program, ["--kernel", "\(kernel)"])
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.errors.contains("which this version does not run"), "\(ended.errors)")
    }

    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            (["--dispatch-type", "fp8"], "legal are bf16, f16, f32, fp8_e4m3, fp8_e4m3fnuz"),
            (
                ["--kernel", "inter"],
                "intranode, internode, internode-v1, internode-v1ll, async-ll"
            ),
            (["--quantization", "fp8"], "legal are none, fp8_direct_cast, fp8_blockwise"),
            (["--quantize-dispatch"], "bf16 tokens can be sent as fp8_e4m3"),
            (["--quantization-block", "100"], "legal are 32, 64, 128 and 256"),
            (["--ranks", "0"], "'0' is invalid for '--ranks <ranks>': legal is 1 to 256"),
            (["--gpus-per-node", "257"], "'--gpus-per-node <gpus-per-node>': legal is 1 to 256"),
            (["--queue-pairs", "0"], "legal is 1 or more"),
            (["--warmup=-1"], "legal is 0 or more"),
            (["--queue-pairs", "65"], "queuePairsPerPeer is 65; legal is 1 to 64, nearest 64"),
            (["--topk", "500"], "expertsPerToken is 500; legal is 1 to 256, nearest 256"),
            (["--gpus-per-node", "4"], "legal is --gpus-per-node 8 or more"),
            (["--routing", "nowhere"], "all-to-one, random, round-robin, skewed, spread"),
            (["--timeout", "0"], "legal is 0.001 to 1000000 seconds"),
            (["--json", "/no/such/folder/out.json"], "/no/such/folder, which cannot be written"),
        ])
    func aBadOptionSaysWhatIsLegal(arguments: [String], words: String) async throws {
        let ended = try await Programs.run(Self.program, arguments)
        #expect(!ended.exit.isSuccess)
        #expect(ended.output == "")
        #expect(ended.errors.contains(words), "\(ended.errors)")
    }

    // -------------------------------------------------------------------------------------------
    // Kills

    /// Starts a benchmark of three ranks that would not end for hours, and calls `body` once its
    /// ranks are at work.
    private func endlessBench(
        _ kernel: KernelType = .intraNode, _ body: @Sendable ([Processes.Found]) throws -> Void
    ) async throws -> Programs.Ended {
        let mark = UUID().uuidString
        let arguments =
            Self.shape + [
                "--kernel", "\(kernel)", "--gpus-per-node", kernel == .intraNode ? "3" : "2",
                "--iterations", "10000000", "--no-verify", "--timeout", "60",
            ]
        async let ended = Programs.run(Self.program, arguments, mark: mark)
        let isRunning = try await Processes.wait {
            let ranks = Processes.marked(mark).filter { $0.rank != nil }
            return ranks.count == 3 && ranks.allSatisfy { Processes.isInWorld($0.id) }
        }
        #expect(isRunning)
        try await Task.sleep(for: .milliseconds(300))
        try body(Processes.marked(mark))
        let result = try await ended
        let isGone = try await Processes.wait { Processes.marked(mark).isEmpty }
        #expect(isGone)
        return result
    }

    /// On one node, and on two, where the killed one forwards what comes for its neighbour.
    @Test(.timeLimit(.minutes(5)), arguments: [KernelType.intraNode, .interNodeV1LL])
    func aRankThatIsKilledEndsTheOthersWithItsName(_ kernel: KernelType) async throws {
        let killed = Locked(ContinuousClock.now)
        let ended = try await endlessBench(kernel) { processes in
            killed.withLock { $0 = .now }
            kill(try #require(processes.first { $0.rank == 1 }).id, SIGKILL)
        }
        #expect(ended.exit.reason == .exited(1))
        #expect(ended.errors.contains("rank 1 was killed by signal 9"), "\(ended.errors)")
        let others = ended.errors.split(separator: "\n").filter { $0.contains("peerLost") }
        #expect(others.count == 1)
        #expect(others.first?.contains("ranks 0, 2: ") == true, "\(ended.errors)")
        #expect(others.first?.contains("rank 1") == true)
        // Within the deadline of the rounds: nobody waits for it, for the connection tells.
        #expect(ContinuousClock.now - killed.withLock { $0 } < .seconds(60))
    }

    @Test(.timeLimit(.minutes(5)))
    func nothingIsLeftOfALauncherThatIsKilled() async throws {
        func sharedFiles() throws -> Set<String> {
            Set(try FileManager.default.contentsOfDirectory(atPath: "/dev/shm"))
        }
        let before = try sharedFiles()
        let ended = try await endlessBench { processes in
            kill(try #require(processes.first { $0.rank == nil }).id, SIGKILL)
        }
        #expect(ended.exit.reason == .signalled(SIGKILL))
        let left = try sharedFiles().subtracting(before)
        #expect(left.isEmpty)
    }
}

import FoundationEssentials
@testable import MoriEP
import MoriLauncher
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.LaunchTests {
    /// Blocks and warps in an environment with MORI_EP_LAUNCH_CONFIG_MODE=AUTO.
    @Suite struct LaunchModeTests {
        private static let config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 70, maxInputTokensPerRank: 16, expertsPerRank: 2,
            expertsPerToken: 2, launch: LaunchConfiguration(blocks: 3, warpsPerBlock: 2))

        /// Runs in AUTO on each of two ranks.
        private func automatically(
            tuning: String?, _ body: @escaping @Sendable (SymmetricMemory) async throws -> Void
        ) async throws {
            var values = ["MORI_EP_LAUNCH_CONFIG_MODE": "AUTO"]
            values["MORI_EP_TUNING_CONFIG"] = tuning
            _ = try await withLocalWorld(
                2, fabric: nil, environment: MoriEnvironment(values), body)
        }

        /// Writes a file of rules for this machine's host device and gives its path to `body`.
        private func withRules(
            _ rules: String, device: String? = nil, architecture: String? = nil,
            _ body: (String) async throws -> Void
        ) async throws {
            let found = try Device(.host).properties()
            func table(_ phase: String) -> String {
                """
                {"device": "\(device ?? found.name)",
                "architecture": "\(architecture ?? found.architecture)",
                "kernel": "intranode", "ep_size": 2, "phase": "\(phase)", "rules": [\(rules)]}
                """
            }
            let text = """
                {"version": "1.0", "origin": "made for this test",
                "tables": [\(table("dispatch")), \(table("combine"))]}
                """
            let file = FileManager.default.temporaryDirectory.appending(
                path: "moriep-rules-\(UUID().uuidString).json")
            try Data(text.utf8).write(to: file)
            defer { try? FileManager.default.removeItem(at: file) }
            try await body(file.path)
        }

        private static func rule(tokens: Int, blocks: Int, warps: Int) -> String {
            """
            {"dtype": "bf16", "num_tokens": \(tokens), "hidden_dim": 70,
            "block_num": \(blocks), "warp_per_block": \(warps)}
            """
        }

        @Test(.timeLimit(.minutes(1)))
        func theGuidesTableDecidesAndOverridesAreIgnored() async throws {
            try await automatically(tuning: nil) { world in
                let op = try await EPDispatchCombineOp(Self.config, in: world)
                let share = try world.device.properties().computeUnits
                for override in [
                    nil, LaunchConfiguration(blocks: 5, warpsPerBlock: 3),
                    LaunchConfiguration(blocks: 1 << 20, warpsPerBlock: 1),
                ] {
                    for forCombine in [false, true] {
                        let found = try op.launchParameters(
                            forCombine: forCombine, override: override)
                        #expect(found.source == .guide)
                        #expect(found.wanted == LaunchPolicy.guide(.intraNode))
                        let launch = found.configuration
                        #expect(launch.blocks >= 1 && launch.warpsPerBlock >= 1)
                        #expect(launch.blocks * launch.warpsPerBlock <= share)
                        #expect(found.description.hasSuffix("of 128x16 by the guide's table"))
                    }
                }
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func aRuleOverridesTheTableByTheNumberOfTokens() async throws {
            let rules = [
                Self.rule(tokens: 4, blocks: 2, warps: 3),
                Self.rule(tokens: 16, blocks: 5, warps: 4),
            ]
            try await withRules(rules.joined(separator: ",")) { path in
                try await automatically(tuning: path) { world in
                    let op = try await EPDispatchCombineOp(Self.config, in: world)
                    let few = try op.launchParameters(forCombine: false, tokenCount: 3)
                    let most = try op.launchParameters(forCombine: true)
                    #expect(few.configuration == LaunchConfiguration(blocks: 2, warpsPerBlock: 3))
                    #expect(most.configuration == LaunchConfiguration(blocks: 5, warpsPerBlock: 4))
                    #expect(few.wanted == few.configuration)
                    // A call is looked up by what it moves, not by what the operator could.
                    let round = DispatchRound(
                        tokenCount: 3, hiddenDim: 70, elementType: .bfloat16,
                        scaleElementType: nil, hasWeights: false)
                    let combine = CombineCall(
                        tokenCount: 3, elementType: .bfloat16, hiddenDim: 70, inputRows: 3,
                        isExternal: true, hasWeights: false)
                    for (verb, workload) in [
                        (OperatorKernels.Verb.dispatch, op.workload(round)),
                        (.combine, op.workload(combine)),
                    ] {
                        let own = LaunchConfiguration(blocks: 7, warpsPerBlock: 1)
                        #expect(
                            try op.launchParameters(for: verb, override: own, workload)
                                == few.configuration)
                    }
                    guard case .rule(path, _, "made for this test") = few.source else {
                        Issue.record("\(few.source)")
                        return
                    }
                    try await op.close()
                }
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func aRuleBeyondWhatIsResidentIsClampedAndTold() async throws {
            try await withRules(Self.rule(tokens: 16, blocks: 60_000, warps: 32)) { path in
                try await automatically(tuning: path) { world in
                    let op = try await EPDispatchCombineOp(Self.config, in: world)
                    let most = try world.device.properties().maxResidentWarps
                    let found = try op.launchParameters(forCombine: false)
                    #expect(
                        found.wanted == LaunchConfiguration(blocks: 60_000, warpsPerBlock: 32))
                    let launch = found.configuration
                    #expect(launch.blocks * launch.warpsPerBlock <= most)
                    #expect(launch.blocks * launch.warpsPerBlock > most / 2)
                    #expect(found.description.contains(" of 60000x32 by "))
                    try await op.close()
                }
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func roundsAreRightUnderRules() async throws {
            let workload = Workload(
                worldSize: 2, tokens: [16, 3], hidden: 70, topK: 2, expertsPerRank: 2, seed: 5)
            let round = RoundCase(workload)
            let routes = Routes(workload)
            let rules = [
                Self.rule(tokens: 4, blocks: 2, warps: 3),
                Self.rule(tokens: 16, blocks: 5, warps: 4),
            ]
            try await withRules(rules.joined(separator: ",")) { path in
                try await automatically(tuning: path) { world in
                    let op = try await EPDispatchCombineOp(round.config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    for _ in 0..<3 {
                        try await checkRound(
                            routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                            on: stream, options: round.options)
                    }
                    try await op.close()
                }
            }
        }

        /// What is refused leaves the world usable.
        private func expectRefusal(
            tuning path: String, _ words: [String],
            sourceLocation: SourceLocation = #_sourceLocation
        ) async throws {
            try await automatically(tuning: path) { world in
                let error = await #expect(throws: MoriError.self, sourceLocation: sourceLocation) {
                    try await EPDispatchCombineOp(Self.config, in: world)
                }
                #expect(error?.code == .invalidConfiguration, sourceLocation: sourceLocation)
                for word in words {
                    #expect(
                        error?.message.contains(word) == true, "\(word) in \(error?.message ?? "")",
                        sourceLocation: sourceLocation)
                }
                try await world.barrier()
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func aMalformedFileIsRefusedWhenTheOperatorIsMade() async throws {
            try await withRules(Self.rule(tokens: 0, blocks: 1, warps: 1)) { path in
                try await expectRefusal(tuning: path, [path, ", line ", "key \"num_tokens\""])
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func aFileForAnotherDeviceIsRefusedWhenTheOperatorIsMade() async throws {
            let rule = Self.rule(tokens: 1, blocks: 1, warps: 1)
            try await withRules(rule, device: "MI300X", architecture: "gfx942") { path in
                try await expectRefusal(
                    tuning: path, [path, "MI300X (gfx942)", "this device is"])
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func ranksDoNotWaitForOneThatCannotReadItsRules() async throws {
            let bench = try Programs.path("bench-dispatch-combine")
            let ended = try await Programs.run(
                "mori-ep",
                [
                    "launch", "-n", "2", "--", "sh", "-c",
                    """
                    test $RANK = 1 && export MORI_EP_TUNING_CONFIG=no-such-rules.json
                    exec "\(bench)" --tokens 4 --hidden 64 --experts-per-rank 2 --topk 2
                    """,
                ], environment: ["MORI_EP_LAUNCH_CONFIG_MODE": "AUTO"])
            #expect(!ended.exit.isSuccess)
            let lines = ended.errors.split(separator: "\n")
            for (rank, words) in [
                (0, "rank 0 has launch rules=usable, rank 1 launch rules=invalidConfiguration"),
                (1, "no-such-rules.json, which cannot be read"),
            ] {
                #expect(
                    lines.contains { $0.hasPrefix("[\(rank)]") && $0.contains(words) },
                    "\(ended.errors)")
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func aFileThatIsNotThereIsRefused() async throws {
            try await expectRefusal(
                tuning: "no-such-rules.json", ["no-such-rules.json", "cannot be read"])
        }
    }
}

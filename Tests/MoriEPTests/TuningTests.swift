@testable import MoriDevice
@testable import MoriEP
import MoriTestSupport
import Testing

/// Tuning rules: how they are found, and what is refused.
@Suite struct TuningTests {
    private static func workload(
        _ type: String = "bf16", tokens: Int = 128, hidden: Int = 7168, topK: Int = 8,
        zeroCopy: Bool = false, quantization: String = "none"
    ) -> LaunchWorkload {
        LaunchWorkload(
            elementType: type, tokenCount: tokens, hiddenDim: hidden, expertsPerToken: topK,
            isZeroCopy: zeroCopy, quantization: quantization)
    }

    /// A rule whose number of blocks tells it from the others.
    private static func rule(
        _ blocks: Int, _ type: String = "bf16", tokens: Int = 128, hidden: Int = 7168,
        topK: Int? = nil, zeroCopy: Bool? = nil, quantization: String? = nil
    ) -> TuningRule {
        TuningRule(
            elementType: type, tokenCount: tokens, hiddenDim: hidden, expertsPerToken: topK,
            isZeroCopy: zeroCopy, quantization: quantization,
            launch: LaunchConfiguration(blocks: blocks, warpsPerBlock: 1), line: 1)
    }

    private static func device(_ name: String, _ architecture: String) -> Device.Properties {
        Device.Properties(
            name: name, architecture: architecture, lanesPerWarp: 64, computeUnits: 304,
            maxWarpsPerBlock: 16, maxResidentWarps: 4864, memoryIsHostMemory: false,
            memoryByteCount: 1 << 37)
    }

    // -------------------------------------------------------------------------------------------
    // Looking up

    @Test(arguments: [(1, 1), (128, 1), (129, 2), (512, 2), (4096, 3), (4097, 3)])
    func theSmallestNumberOfTokensThatIsEnoughWinsElseTheLargest(tokens: Int, blocks: Int) {
        let rules = [
            Self.rule(3, tokens: 4096), Self.rule(1, tokens: 128), Self.rule(2, tokens: 512),
        ]
        #expect(rules.best(for: Self.workload(tokens: tokens))?.launch.blocks == blocks)
    }

    @Test func theElementTypeMustBeTheSame() {
        let rules = [Self.rule(1, "fp4"), Self.rule(2, "fp8"), Self.rule(3, "fp8_e4m3")]
        #expect(rules.best(for: Self.workload("bf16")) == nil)
        #expect(rules.best(for: Self.workload("fp4"))?.launch.blocks == 1)
        #expect(rules.best(for: Self.workload("fp8_e4m3fnuz"))?.launch.blocks == 2)
        #expect(rules.best(for: Self.workload("fp8_e5m2"))?.launch.blocks == 2)
        #expect(rules.best(for: Self.workload("fp8_e4m3"))?.launch.blocks == 3)
    }

    @Test func theSameTopKComesFirstThenRulesWithoutThenAnotherHiddenSize() {
        let exact = Self.rule(1, tokens: 1, topK: 8)
        let without = Self.rule(2)
        let otherTopK = Self.rule(3, topK: 4)
        let otherHidden = Self.rule(4, hidden: 4096, topK: 8)
        let farHidden = Self.rule(5, hidden: 1024, topK: 8)
        let work = Self.workload(tokens: 128)
        let all = [farHidden, otherHidden, otherTopK, without, exact]
        #expect(all.best(for: work) == exact)
        #expect(all.dropLast().best(for: work) == without)
        #expect(all.dropLast(2).best(for: work) == otherHidden)
        #expect([farHidden, otherTopK].best(for: work) == farHidden)
        #expect([otherTopK].best(for: work) == nil)
    }

    @Test func combinesInputAndQuantizationMustBeTheSameWhereARuleNamesThem() {
        let rules = [
            Self.rule(1), Self.rule(2, zeroCopy: true),
            Self.rule(3, zeroCopy: false, quantization: "fp8_direct_cast"),
        ]
        #expect(rules.best(for: Self.workload())?.launch.blocks == 1)
        #expect(rules.best(for: Self.workload(zeroCopy: true))?.launch.blocks == 2)
        #expect(
            rules.best(for: Self.workload(quantization: "fp8_direct_cast"))?.launch.blocks == 3)
        #expect(rules.best(for: Self.workload(quantization: "fp8_blockwise"))?.launch.blocks == 1)
        #expect(rules.dropFirst().best(for: Self.workload()) == nil)
    }

    // -------------------------------------------------------------------------------------------
    // The published rules

    @Test(arguments: [
        ("AMD Instinct MI300X", "gfx942:sramecc+:xnack-", "fp4", 4096, 176, 15),
        ("AMD Instinct MI308X", "gfx942:sramecc+:xnack-", "fp8_e4m3fnuz", 128, 64, 16),
        ("AMD Instinct MI350X", "gfx950:sramecc+:xnack-", "fp8_e4m3", 128, 208, 5),
        ("AMD Instinct MI355X", "gfx950:sramecc+:xnack-", "fp8_e4m3", 4096, 256, 8),
    ])
    func thePublishedRulesAreThere(
        name: String, architecture: String, type: String, tokens: Int, blocks: Int, warps: Int
    ) throws {
        let file = try TuningFile.published.get()
        #expect(file.origin == "published, not measured by us")
        let rules = file.rules(
            for: Self.device(name, architecture), kernelType: .intraNode, worldSize: 8,
            phase: .dispatch)
        let found = try #require(rules.own.best(for: Self.workload(type, tokens: tokens)))
        #expect(found.launch == LaunchConfiguration(blocks: blocks, warpsPerBlock: warps))
        #expect(found.bandwidth != nil)
    }

    @Test func anotherDeviceOfTheArchitectureStepsIn() throws {
        var values = ["MORI_EP_LAUNCH_CONFIG_MODE": "AUTO"]
        func launch(
            _ name: String, _ architecture: String, _ type: String
        ) throws -> (LaunchConfiguration, LaunchParameters.Source) {
            let policy = try LaunchPolicy(
                MoriEnvironment(values), kernelType: .intraNode, worldSize: 8,
                device: Self.device(name, architecture))
            return policy.automatic(.dispatch, Self.workload(type))
        }
        // The MI325X has no rules of its own, and neither has the MI308X for fp4.
        let other = try launch("AMD Instinct MI325X", "gfx942", "fp4")
        #expect(other.0 == LaunchConfiguration(blocks: 256, warpsPerBlock: 4))
        guard case .rule(_, let line, let origin) = other.1 else {
            Issue.record("\(other.1) is no rule")
            return
        }
        #expect(line > 1)
        #expect(origin == "published, not measured by us")
        #expect(try launch("AMD Instinct MI308X", "gfx942", "fp4").0 == other.0)
        let elsewhere = try launch("AMD Instinct MI210", "gfx90a", "fp4")
        #expect(elsewhere.0 == LaunchConfiguration(blocks: 128, warpsPerBlock: 16))
        #expect(elsewhere.1 == .guide)
        values["MORI_EP_TUNING_CONFIG"] = "none"
        #expect(try launch("AMD Instinct MI300X", "gfx942", "fp4").1 == .guide)
    }

    @Test(arguments: [
        (KernelType.intraNode, 128, 0, 16), (.interNode, 128, 0, 16), (.asyncLL, 128, 0, 16),
        (.interNodeV1, 96, 64, 8), (.interNodeV1LL, 256, 128, 8),
    ])
    func theGuidesTableIsTheGuides(type: KernelType, blocks: Int, rdma: Int, warps: Int) {
        #expect(
            LaunchPolicy.guide(type)
                == LaunchConfiguration(blocks: blocks, rdmaBlocks: rdma, warpsPerBlock: warps))
    }

    // -------------------------------------------------------------------------------------------
    // Bad files

    /// A file of one rule, changed.
    private static func text(_ change: (from: String, to: String)) -> String {
        let good = """
            {
              "version": "1.0",
              "origin": "measured in May",
              "tables": [
                {
                  "device": "MI300X", "architecture": "gfx942",
                  "kernel": "intranode", "ep_size": 8,
                  "phase": "combine",
                  "rules": [
                    {
                      "dtype": "bf16", "num_tokens": 128, "hidden_dim": 7168,
                      "topk": 8, "zero_copy": true, "quant_type": "none",
                      "block_num": 64, "rdma_block_num": 0,
                      "warp_per_block": 4,
                      "bandwidth_gbps": 100.5, "latency_us": 30
                    }
                  ]
                }
              ]
            }
            """
        return good.replacing(change.from, with: change.to)
    }

    @Test func aGoodFileIsRead() throws {
        let file = try TuningFile(Array(Self.text(("", "")).utf8), name: "rules.json")
        let table = try #require(file.tables.first)
        #expect(file.origin == "measured in May")
        #expect(table.worldSize == 8)
        let rule = Self.rule(64, topK: 8, zeroCopy: true, quantization: "none")
        var expected = rule
        expected.launch.warpsPerBlock = 4
        expected.bandwidth = 100.5
        expected.latency = 30
        expected.line = 10
        #expect(table.rules == [expected])
    }

    private struct Malformed: Sendable {
        var from: String
        var to: String
        var line: Int
        var key: String
        var words: String

        init(_ from: String, _ to: String, _ line: Int, _ key: String, _ words: String) {
            (self.from, self.to, self.line, self.key, self.words) = (from, to, line, key, words)
        }
    }

    private static let malformed = [
        // Values of the wrong type or range.
        Malformed("\"1.0\"", "\"2.0\"", 2, "version", "found \"2.0\"; legal is \"1.0\""),
        Malformed(
            "\"ep_size\": 8", "\"ep_size\": 0", 7, "ep_size",
            "found 0; legal is a whole number"),
        Malformed(
            "\"intranode\"", "\"intra\"", 7, "kernel",
            "found \"intra\"; legal is \"intranode\""),
        Malformed("\"combine\"", "\"both\"", 8, "phase", "legal is \"dispatch\", \"combine\""),
        Malformed("\"bf16\"", "\"bfloat\"", 11, "dtype", "legal is \"bf16\", \"f16\""),
        Malformed(
            "\"num_tokens\": 128", "\"num_tokens\": \"128\"", 11, "num_tokens",
            "found \"128\""),
        Malformed("\"topk\": 8", "\"topk\": 0.5", 12, "topk", "found 0.5"),
        Malformed("true", "1", 12, "zero_copy", "found 1; legal is true or false"),
        Malformed("\"none\"", "\"fp8\"", 12, "quant_type", "fp8_direct_cast"),
        Malformed(
            "\"rdma_block_num\": 0", "\"rdma_block_num\": 65", 13, "rdma_block_num",
            "0 to 64"),
        Malformed(
            "\"warp_per_block\": 4", "\"warp_per_block\": 33", 14, "warp_per_block",
            "1 to 32"),
        Malformed("100.5", "-1", 15, "bandwidth_gbps", "0 or more"),
        // Keys that are unknown, missing or there twice.
        Malformed(
            "warp_per_block", "warps_per_block", 14, "warps_per_block",
            "did you mean warp_per_block?"),
        Malformed("\"dtype\": \"bf16\",", "", 10, "dtype", "missing"),
        Malformed("\"topk\": 8", "\"topk\": 8, \"topk\": 9", 12, "topk", "given twice"),
        Malformed("\"combine\"", "\"dispatch\"", 12, "zero_copy", "unknown"),
        // No JSON.
        Malformed(
            "\"block_num\": 64,", "\"block_num\": 64", 13, "block_num",
            "expected is a comma or }"),
        Malformed("\"topk\": 8", "\"topk\": ,", 12, "topk", "expected is a value"),
        Malformed("\"topk\": 8", "\"topk\" 8", 12, "topk", "expected is a colon"),
        Malformed(
            "measured in May\"", "measured in May", 3, "origin",
            "a quote that ends the string"),
        Malformed("\"latency_us\": 30", "\"latency_us\": 3-0", 15, "latency_us", "a number"),
    ]

    @Test(arguments: malformed)
    private func aMalformedFileIsRefusedWithLineAndKey(_ file: Malformed) throws {
        let text = Self.text((file.from, file.to))
        let error = try #require(throws: MoriError.self) {
            try TuningFile(Array(text.utf8), name: "rules.json")
        }
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.hasPrefix("rules.json, line \(file.line), key \"\(file.key)\": "))
        #expect(error.message.contains(file.words), "\(error.message)")
    }

    @Test(arguments: [
        "", "[]", "{} x", "{\"version\"", "nul", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ])
    func whatIsNoFileAtAllIsRefused(_ text: String) {
        let error = #expect(throws: MoriError.self) {
            try TuningFile(Array(text.utf8), name: "rules.json")
        }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.message.hasPrefix("rules.json, line 1") == true)
    }

    @Test func jsonsEscapesAreRead() throws {
        let json = try LocatedJSON.parse(
            Array("[\"a\\n\\\"\\u00e4\\ud83d\\ude00\", -1.5e1, null]".utf8), name: "text")
        guard case .array(let elements) = json.value else { return }
        #expect(elements.map(\.words) == ["\"a\n\"ä😀\"", "-15", "null"])
    }

    @Test func aFileForAnotherDeviceIsRefused() throws {
        let file = try TuningFile(Array(Self.text(("", "")).utf8), name: "rules.json")
        try file.check(for: Self.device("AMD Instinct MI308X", "gfx942:xnack-"))
        let error = try #require(throws: MoriError.self) {
            try file.check(for: Self.device("AMD Instinct MI355X", "gfx950"))
        }
        #expect(error.code == .invalidConfiguration)
        for words in ["rules.json", "for MI300X (gfx942)", "AMD Instinct MI355X (gfx950)"] {
            #expect(error.message.contains(words))
        }
    }
}

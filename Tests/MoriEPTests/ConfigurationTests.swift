import MoriEP
import MoriTestSupport
import Testing

/// A field out of its range, and the words that the error must contain.
struct BadField: Sendable, CustomTestStringConvertible {
    let name: String
    let change: @Sendable (inout EPDispatchCombineConfig) -> Void
    let words: [String]

    var testDescription: String { name }

    init(
        _ name: String, _ words: [String],
        _ change: @escaping @Sendable (inout EPDispatchCombineConfig) -> Void
    ) {
        self.name = name
        self.words = words
        self.change = change
    }
}

extension WorldTests.ConfigurationTests {
    static var good: EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 64, maxInputTokensPerRank: 8, expertsPerRank: 4,
            expertsPerToken: 2)
    }

    static let badFields: [BadField] = [
        BadField("hiddenDim", ["hiddenDim is 0", "nearest 1"]) { $0.hiddenDim = 0 },
        BadField("negative hiddenDim", ["hiddenDim is -5", "nearest 1"]) { $0.hiddenDim = -5 },
        BadField("huge hiddenDim", ["hiddenDim is 9223372036854775807", "nearest 1048576"]) {
            $0.hiddenDim = .max
        },
        BadField("scaleDim", ["scaleDim is -1", "nearest 0"]) { $0.scaleDim = -1 },
        BadField("scaleByteSize", ["scaleByteSize is 0", "1 to 8", "nearest 1"]) {
            $0.scaleByteSize = 0
        },
        BadField("large scaleByteSize", ["scaleByteSize is 9", "nearest 8"]) {
            $0.scaleByteSize = 9
        },
        BadField("maxTokenElementByteSize", ["maxTokenElementByteSize is 5", "nearest 4"]) {
            $0.maxTokenElementByteSize = 5
        },
        BadField("maxInputTokensPerRank", ["maxInputTokensPerRank is 0", "nearest 1"]) {
            $0.maxInputTokensPerRank = 0
        },
        BadField(
            "maxTotalReceivedTokens", ["maxTotalReceivedTokens is 0", "1 or more", "nearest 1"]
        ) {
            $0.maxTotalReceivedTokens = 0
        },
        BadField("expertsPerRank", ["expertsPerRank is 0", "nearest 1"]) { $0.expertsPerRank = 0 },
        BadField("expertsPerToken", ["expertsPerToken is 0", "nearest 1"]) {
            $0.expertsPerToken = 0
        },
        BadField("more experts per token than experts", ["expertsPerToken is 9", "nearest 8"]) {
            $0.expertsPerToken = 9
        },
        BadField("expertCount", ["expertCount is 9", "1 to 8", "nearest 8"]) {
            $0.expertCount = 9
        },
        BadField("no experts at all", ["expertCount is 0", "nearest 1"]) { $0.expertCount = 0 },
        BadField("fewer experts than top-k", ["expertsPerToken is 2", "nearest 1"]) {
            $0.expertCount = 1
        },
        BadField("launch.blocks", ["launch.blocks is 0", "nearest 1"]) { $0.launch.blocks = 0 },
        BadField("launch.warpsPerBlock", ["launch.warpsPerBlock is 33", "nearest 32"]) {
            $0.launch.warpsPerBlock = 33
        },
        BadField("launch.rdmaBlocks", ["launch.rdmaBlocks is 81", "0 to 80", "nearest 80"]) {
            $0.launch.rdmaBlocks = 81
        },
        BadField("devicesPerNode", ["devicesPerNode is 0", "nearest 1"]) { $0.devicesPerNode = 0 },
        BadField("queuePairsPerPeer", ["queuePairsPerPeer is 65", "nearest 64"]) {
            $0.queuePairsPerPeer = 65
        },
        BadField("slots", ["slots is 17", "nearest 16"]) { $0.slots = 17 },
        BadField("no slots", ["slots is 0", "nearest 1"]) { $0.slots = 0 },
        BadField("timeout", ["timeout is 0.0 seconds", "more than zero"]) { $0.timeout = .zero },
        BadField("elementType", ["elementType is i32", "bf16, f16, f32"]) {
            $0.elementType = .int32
        },
        BadField("combineElementType", ["combineElementType is u8", "bf16, f16, f32"]) {
            $0.combineElementType = .uint8
        },
        BadField(
            "element larger than its bound", ["elementType is f32", "set it to 4 or more"]
        ) {
            $0.elementType = .float32
            $0.maxTokenElementByteSize = 2
        },
    ]

    /// Before anything is allocated, on every rank, and the world goes on.
    @Test(.timeLimit(.minutes(1)), arguments: badFields)
    func aFieldOutOfRangeIsRefusedWithTheNearestLegalValue(_ field: BadField) async throws {
        var config = Self.good
        field.change(&config)
        let alone = try #require(throws: MoriError.self) {
            try config.validate(worldSize: 2)
        }
        let planned = try #require(throws: MoriError.self) {
            _ = try EPDispatchCombineOp.memoryPlan(for: config, worldSize: 2)
        }
        #expect(alone.code == .invalidConfiguration)
        #expect(planned.message == alone.message)
        for words in field.words { #expect(alone.message.contains(words), "\(alone.message)") }
        _ = try await withLocalWorld(2) { [config] world in
            let error = try await #require(throws: MoriError.self) {
                _ = try await EPDispatchCombineOp(config, in: world)
            }
            #expect(error.message == alone.message)
            let op = try await EPDispatchCombineOp(Self.good, in: world)
            try await op.close()
        }
    }

    @Test func theDefaultsAreTheGuides() throws {
        let config = Self.good
        try config.validate(worldSize: 8)
        #expect(config.launch == LaunchConfiguration(blocks: 80, rdmaBlocks: 0, warpsPerBlock: 8))
        #expect(config.effectiveCombineElementType == .bfloat16)
        #expect(config.combineInput == .external)
        #expect(config.kernelType == .intraNode)
        #expect(config.devicesPerNode == 8)
        #expect(config.queuePairsPerPeer == 1)
        #expect(config.maxReceivedTokens(worldSize: 8) == 64)
        #expect(config.totalExpertCount(worldSize: 8) == 32)
    }

    /// Every field that ranks must share, as rank 1 of 3 has it.
    static let disagreements: [BadField] = [
        BadField("elementType", ["elementType=bf16", "elementType=f32"]) {
            $0.elementType = .float32
        },
        BadField("combineElementType", ["combineElementType=bf16", "combineElementType=f32"]) {
            $0.combineElementType = .float32
        },
        BadField("hiddenDim", ["hiddenDim=64", "hiddenDim=66"]) { $0.hiddenDim = 66 },
        BadField("scaleDim", ["scaleDim=0", "scaleDim=2"]) { $0.scaleDim = 2 },
        BadField("maxInputTokensPerRank", ["PerRank=8", "PerRank=9"]) {
            $0.maxInputTokensPerRank = 9
        },
        BadField("maxTotalReceivedTokens", ["Tokens=nil", "Tokens=5"]) {
            $0.maxTotalReceivedTokens = 5
        },
        BadField("expertsPerRank", ["expertsPerRank=4", "expertsPerRank=5"]) {
            $0.expertsPerRank = 5
        },
        BadField("expertCount", ["expertCount=nil", "expertCount=11"]) { $0.expertCount = 11 },
        BadField("expertsPerToken", ["expertsPerToken=2", "expertsPerToken=3"]) {
            $0.expertsPerToken = 3
        },
        BadField("combineInput", ["combineInput=external", "combineInput=zero-copy"]) {
            $0.combineInput = .registered
        },
        BadField("slots", ["slots=1", "slots=2"]) { $0.slots = 2 },
        // Illegal on one rank alone: the others hear what it has.
        BadField("an illegal field", ["hiddenDim=64", "hiddenDim=-1"]) { $0.hiddenDim = -1 },
    ]

    @Test(.timeLimit(.minutes(1)), arguments: disagreements)
    func ranksThatDisagreeAreBothNamedToEveryone(_ field: BadField) async throws {
        _ = try await withLocalWorld(3) { world in
            var changed = Self.good
            if world.rank == 1 { field.change(&changed) }
            let config = changed
            let error = try await #require(throws: MoriError.self) {
                _ = try await EPDispatchCombineOp(config, in: world)
            }
            #expect(error.code == .ranksDisagree)
            #expect(error.ranks == [0, 1])
            #expect(error.message.contains("rank 0") && error.message.contains("rank 1"))
            for words in field.words {
                #expect(error.message.contains(words), "\(error.message)")
            }
            let op = try await EPDispatchCombineOp(Self.good, in: world)
            try await op.close()
        }
    }

    /// Each rank may launch, and time out, as it likes.
    @Test(.timeLimit(.minutes(1)))
    func launchAndTimeoutMayDiffer() async throws {
        _ = try await withLocalWorld(2) { world in
            var config = Self.good
            config.launch.blocks = 1 + world.rank
            config.timeout = .seconds(5 + world.rank)
            let op = try await EPDispatchCombineOp(config, in: world)
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aHeapThatIsTooSmallSaysWhatToSet() async throws {
        let plan = try EPDispatchCombineOp.memoryPlan(for: Self.good, worldSize: 2)
        let abortWords = 16
        let needed = plan.symmetricByteCount + abortWords
        _ = try await withLocalWorld(2, heapByteLimit: needed - 1) { world in
            for _ in 0..<2 {
                let error = try await #require(throws: MoriError.self) {
                    _ = try await EPDispatchCombineOp(Self.good, in: world)
                }
                #expect(error.code == .outOfMemory)
                #expect(
                    error.message.contains("set MORI_SHMEM_HEAP_SIZE to \(needed) or more"),
                    "\(error.message)")
            }
            var small = Self.good
            small.maxInputTokensPerRank = 1
            let op = try await EPDispatchCombineOp(small, in: world)
            try await op.close()
        }
        _ = try await withLocalWorld(2, heapByteLimit: needed) { world in
            // Given back by close: again and again.
            for _ in 0..<3 {
                let op = try await EPDispatchCombineOp(Self.good, in: world)
                let second = try await #require(throws: MoriError.self) {
                    _ = try await EPDispatchCombineOp(Self.good, in: world)
                }
                #expect(second.code == .outOfMemory)
                #expect(second.message.contains("\(needed + plan.symmetricByteCount) or more"))
                try await op.close()
            }
        }
    }
}

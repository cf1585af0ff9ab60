import MoriEP
import MoriOracle
import MoriTestSupport

/// One configuration out of the whole space, legal or not, and the rounds to run with it.
///
/// Everything follows from the seed.
struct ConfigurationSpace: Sendable, CustomStringConvertible {
    let seed: UInt64
    let worldSize: Int
    var config: EPDispatchCombineConfig
    /// Pairs of rounds; a pair is in flight together where there are slots for it.
    let rounds: [[Round]]

    /// One round of the case.
    struct Round: Sendable {
        /// Of each rank.
        var tokens: [Int]
        var pattern: RoutingPattern
        var seed: UInt64
        /// In sixteenths of the configuration's: the hidden size of this round.
        var hiddenSixteenths: Int
        /// For the tokens; nil: the configuration's.
        var elementType: ElementType?
        /// For the combined rows; nil: the configuration's.
        var combineType: ElementType?
        var input: CombineInput
        var weights: (dispatch: Bool, combine: Bool)
        var scales: Bool
        var isDiscarded: Bool
        var launch: LaunchConfiguration?
    }

    /// Draws a configuration that is legal more often than not.
    init(seed: UInt64) {
        self.seed = seed
        var dice = Dice(seed: seed)
        worldSize = dice.pick([1, 2, 2, 3, 4, 4, 5, 6, 8])
        config = Self.draw(&dice, worldSize: worldSize)
        if dice.chance(25) { Self.spoil(&config, &dice, worldSize: worldSize) }
        let most = min(max(config.maxInputTokensPerRank, 1), 80)
        let (ranks, config) = (worldSize, config)
        rounds = (0..<2).map { _ in
            (0..<(config.slots > 1 && dice.chance(60) ? 2 : 1)).map { _ in
                Self.drawRound(&dice, ranks: ranks, most: most, config)
            }
        }
    }

    var description: String { "seed \(seed), \(worldSize) ranks, \(config), rounds \(rounds)" }

    private static func draw(_ dice: inout Dice, worldSize: Int) -> EPDispatchCombineConfig {
        let types = ElementType.tokenTypes
        var config = EPDispatchCombineConfig(
            elementType: dice.pick(types),
            hiddenDim: dice.pick([1, 2, 3, 8, 16, 17, 34, 64, 97, 130, 256, 514]),
            maxInputTokensPerRank: dice.pick([1, 2, 7, 16, 33, 64, 65, 70, 130]),
            expertsPerRank: dice.number(1...5), expertsPerToken: 1)
        if dice.chance(40) { config.combineElementType = dice.pick(types) }
        let isPacked = [config.elementType, config.effectiveCombineElementType].contains(
            .float4E2M1)
        if isPacked, config.hiddenDim % 2 != 0 { config.hiddenDim += dice.chance(90) ? 1 : 0 }
        config.kernelType = dice.pick(KernelType.allCases)
        config.devicesPerNode = dice.number(1...worldSize)
        config.maxTokenElementByteSize = dice.pick([4, 4, 4, 4, 2])
        if dice.chance(50) {
            config.scaleDim = dice.number(1...6)
            config.scaleByteSize = dice.number(1...8)
        }
        if dice.chance(35) {
            config.maxTotalReceivedTokens = dice.number(
                1...worldSize * config.maxInputTokensPerRank)
            if dice.chance(30) { config.overflow = .fail }
        }
        if dice.chance(20) { config.receiveOrder = .source }
        drawExperts(&dice, &config, worldSize: worldSize)
        config.launch = LaunchConfiguration(
            blocks: dice.pick([1, 2, 3, 5, 80]), warpsPerBlock: dice.pick([1, 2, 4, 8]))
        if dice.chance(20) { config.launch.rdmaBlocks = dice.number(0...config.launch.blocks) }
        config.combineInput = dice.pick(CombineInput.allCases)
        config.queuePairsPerPeer = dice.pick([1, 1, 2, 3, 5])
        config.slots = dice.pick([1, 1, 2, 3])
        drawQuantization(&dice, &config)
        return config
    }

    private static func drawExperts(
        _ dice: inout Dice, _ config: inout EPDispatchCombineConfig, worldSize: Int
    ) {
        let hosted = worldSize * config.expertsPerRank
        if dice.chance(25) {
            // So many at a rank as there is room for, in any order, some of the room unused.
            var places = (0..<hosted).map { $0 % worldSize }
            places.shuffle(using: &dice)
            config.expertRanks = Array(places.prefix(dice.number(1...hosted)))
        } else if dice.chance(25) {
            config.expertCount = dice.number(1...hosted)
        }
        let experts = config.totalExpertCount(worldSize: worldSize)
        config.expertsPerToken = dice.number(1...min(experts, 9))
    }

    private static func drawQuantization(
        _ dice: inout Dice, _ config: inout EPDispatchCombineConfig
    ) {
        config.quantizationBlock = dice.pick([32, 64, 128, 256])
        if dice.chance(20) {
            config.quantization = dice.pick(CombineQuantization.allCases)
            if dice.chance(85) { config.combineElementType = .bfloat16 }
            if config.kernelType == .intraNode && dice.chance(85) {
                config.combineInput = .external
            }
        }
        if dice.chance(15) {
            config.quantizesDispatch = true
            if dice.chance(90) { config.elementType = dice.pick([.float8E4M3, .float8E4M3FNUZ]) }
            config.scaleDim = config.blockCount(of: config.hiddenDim)
            config.scaleByteSize = 4
        }
    }

    /// Numbers at and beyond the ends of what is legal somewhere.
    static let extremes = [
        -1, 0, 1, 2, 3, 9, 17, 33, 65, 1 << 16, 1 << 20, (1 << 20) + 1, (1 << 24) - 1, 1 << 24,
        Int(Int32.max), .max, .min,
    ]

    /// The fields that are numbers.
    static var numbers: [WritableKeyPath<EPDispatchCombineConfig, Int>] {
        [
            \.hiddenDim, \.scaleDim, \.scaleByteSize, \.maxTokenElementByteSize,
            \.maxInputTokensPerRank, \.expertsPerRank, \.expertsPerToken, \.launch.blocks,
            \.launch.rdmaBlocks, \.launch.warpsPerBlock, \.quantizationBlock, \.devicesPerNode,
            \.queuePairsPerPeer, \.slots,
        ]
    }

    /// Gives one or two fields a value that is not legal, or that only one of them all can be.
    private static func spoil(
        _ config: inout EPDispatchCombineConfig, _ dice: inout Dice, worldSize: Int
    ) {
        for _ in 0..<dice.number(1...2) {
            switch dice.number(0...7) {
            case 0: config.elementType = dice.pick(ElementType.allCases)
            case 1: config.combineElementType = dice.pick(ElementType.allCases)
            case 2: config.expertCount = dice.pick(extremes)
            case 3: config.maxTotalReceivedTokens = dice.pick(extremes)
            case 4:
                config.expertRanks = (0..<dice.number(0...9)).map { _ in
                    dice.number(-1...worldSize)
                }
            case 5: config.timeout = dice.pick([.zero, .seconds(-1), .seconds(60)])
            default: config[keyPath: dice.pick(numbers)] = dice.pick(extremes)
            }
        }
    }

    /// Draws a round of a configuration.
    static func drawRound(
        _ dice: inout Dice, ranks: Int, most: Int, _ config: EPDispatchCombineConfig
    ) -> Round {
        let patterns: [RoutingPattern] = [
            .random, .random, .skewed, .allToOne, .spread, .everyOtherDropped, .outOfRange,
            .duplicates, .roundRobin,
        ]
        let isSparse = dice.chance(30)
        let canSwitchInput = config.kernelType != .intraNode || config.quantization == .none
        return Round(
            tokens: (0..<ranks).map { _ in isSparse && dice.chance(60) ? 0 : dice.number(0...most)
            },
            pattern: dice.pick(patterns), seed: dice.next(),
            hiddenSixteenths: dice.pick([16, 16, 16, 8, 1]),
            elementType: dice.chance(15) ? dice.pick(ElementType.tokenTypes) : nil,
            combineType: dice.chance(15) ? dice.pick(ElementType.tokenTypes) : nil,
            input: canSwitchInput ? dice.pick(CombineInput.allCases) : .external,
            weights: (dice.chance(75), dice.chance(75)), scales: dice.chance(80),
            isDiscarded: dice.chance(15),
            launch: dice.chance(40)
                ? LaunchConfiguration(
                    blocks: dice.number(1...4), warpsPerBlock: dice.number(1...3)) : nil)
    }
}

/// Random numbers that follow from a seed.
struct Dice: RandomNumberGenerator {
    private let generator: Generator
    private var count = 0

    init(seed: UInt64) { generator = Generator(seed: seed) }

    mutating func next() -> UInt64 {
        count += 1
        return generator.bits(count, 0, 0)
    }

    /// A number of the range.
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// True so many times in a hundred.
    mutating func chance(_ percent: Int) -> Bool { number(0...99) < percent }

    /// One of the values.
    mutating func pick<Value>(_ values: [Value]) -> Value { values[number(0...values.count - 1)] }
}

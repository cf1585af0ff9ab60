public import MoriEP
public import MoriOracle
public import Testing

/// One operator and the rounds it runs, as the argument of a test. What is printed when it fails
/// is enough to run it again.
public struct RoundCase: Sendable, CustomTestStringConvertible {
    /// What is moved in the first round; later rounds have the next seeds.
    public var workload: Workload
    /// The type of dispatched tokens.
    public var dispatchType = ElementType.bfloat16
    /// The type of combined tokens; nil: the same.
    public var combineType: ElementType?
    /// Bytes of a scale, 1 to 8.
    public var scaleByteSize = 4
    /// The configuration's hidden size, where it is more than the workload's.
    public var hiddenDim: Int?
    /// The configuration's tokens, where they are more than the workload's.
    public var maxTokens: Int?
    /// How each round is run.
    public var options = RoundOptions()
    /// The counts of tokens of the rounds; empty: one round with the workload's.
    public var rounds: [[Int]] = []
    /// Which of the rounds, by number, are discarded instead of combined.
    public var discarded: Set<Int> = []
    /// Which kernels move the tokens.
    public var kernelType = KernelType.intraNode
    /// Ranks of a node, for the kernels between nodes.
    public var devicesPerNode = 8
    /// Queue pairs to each peer, for the same.
    public var queuePairsPerPeer = 1
    /// Rounds that may be in flight.
    public var slots = 1
    /// In which order rows are received.
    public var receiveOrder = ReceiveOrder.unspecified
    /// How a loopback fabric delivers; nil: the fabric that operators choose by themselves.
    package var loopback: LoopbackBehavior?

    /// Describes a case.
    public init(_ workload: Workload, _ change: (inout RoundCase) -> Void = { _ in }) {
        self.workload = workload
        change(&self)
    }

    /// Everything that is not a default.
    public var testDescription: String {
        let workload = workload
        var words = [
            "\(workload.worldSize) ranks", "tokens \(workload.tokens)",
            "hidden \(workload.hidden)",
            "top \(workload.topK) of \(workload.expertCount) experts,"
                + " \(workload.expertsPerRank) per rank",
            "\(workload.pattern)".split(separator: "(").first.map(String.init) ?? "",
            "\(dispatchType) to \(combineType ?? dispatchType)", "\(options.input)",
            "seed \(workload.generator.seed)",
        ]
        if workload.scaleDim > 0 {
            words.append("\(workload.scaleDim) scales of \(scaleByteSize) bytes")
        }
        if let hiddenDim { words.append("hiddenDim \(hiddenDim)") }
        if let maxTokens { words.append("at most \(maxTokens) tokens") }
        if !options.dispatchWeights { words.append("no weights in dispatch") }
        if !options.combineWeights { words.append("no weights in combine") }
        if let launch = options.launch { words.append("launch \(launch)") }
        if !rounds.isEmpty { words.append("rounds \(rounds)") }
        if !discarded.isEmpty { words.append("of which discarded \(discarded.sorted())") }
        if kernelType != .intraNode { words.insert("\(kernelType)", at: 0) }
        if devicesPerNode != 8 { words.append("\(devicesPerNode) ranks per node") }
        if queuePairsPerPeer != 1 { words.append("\(queuePairsPerPeer) queue pairs per peer") }
        if receiveOrder != .unspecified { words.append("received by \(receiveOrder)") }
        if let ranks = workload.expertRanks { words.append("experts at \(ranks)") }
        if slots != 1 { words.append("\(slots) slots") }
        if let loopback { words.append("\(loopback)") }
        return words.joined(separator: ", ")
    }

    /// The operator's configuration.
    public var config: EPDispatchCombineConfig {
        let most = (rounds + [workload.tokens]).flatMap { $0 }.max() ?? 1
        return EPDispatchCombineConfig(
            elementType: dispatchType, combineElementType: combineType,
            hiddenDim: hiddenDim ?? workload.hidden, scaleDim: workload.scaleDim,
            scaleByteSize: scaleByteSize, maxInputTokensPerRank: maxTokens ?? max(most, 1),
            receiveOrder: receiveOrder, expertsPerRank: workload.expertsPerRank,
            expertCount: workload.expertCount, expertRanks: workload.expertRanks,
            expertsPerToken: workload.topK, combineInput: options.input, kernelType: kernelType,
            devicesPerNode: devicesPerNode, queuePairsPerPeer: queuePairsPerPeer, slots: slots)
    }

    /// Runs the rounds in a world of threads and compares everything with the oracle.
    public func run() async throws {
        guard let element = dispatchType.tokenElement,
            let combined = (combineType ?? dispatchType).tokenElement
        else { throw Mismatch("\(dispatchType) to \(combineType ?? dispatchType)") }
        try await run(element, combined)
    }

    private func run<Element: TokenElement, Combined: TokenElement>(
        _ element: Element.Type, _ combined: Combined.Type
    ) async throws {
        let routes = (rounds.isEmpty ? [workload.tokens] : rounds).enumerated().map {
            (number, tokens) in
            var workload = workload
            workload.tokens = tokens
            workload.generator = Generator(seed: workload.generator.seed + UInt64(number))
            return Routes(workload)
        }
        let fabric = loopback.map { LoopbackFabric($0) }
        _ = try await withLocalWorld(workload.worldSize, fabric: fabric) { [self] world in
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            for (number, round) in routes.enumerated() {
                try await checkRound(
                    round, of: element, combining: combined, with: op, on: stream,
                    options: options, isDiscarded: discarded.contains(number))
            }
            try await op.close()
        }
    }
}

extension EPDispatchCombineConfig {
    /// Checks every field by itself.
    ///
    /// - Throws: `invalidConfiguration` with the field, what was found and the nearest legal value.
    public func validate() throws(MoriError) {
        try require("hiddenDim", hiddenDim, in: 1...Self.maxHiddenDim)
        try require("scaleDim", scaleDim, in: 0...Self.maxHiddenDim)
        try require("scaleByteSize", scaleByteSize, in: 1...8)
        try require("maxTokenElementByteSize", maxTokenElementByteSize, in: 1...4)
        try require("maxInputTokensPerRank", maxInputTokensPerRank, in: 1...Self.maxTokens)
        try require("maxTotalReceivedTokens", maxTotalReceivedTokens ?? 1, in: 1...Int.max)
        try require("expertsPerRank", expertsPerRank, in: 1...Self.maxExperts)
        try require("expertsPerToken", expertsPerToken, in: 1...Self.maxExperts)
        try require("launch.blocks", launch.blocks, in: 1...Self.maxBlocks)
        try require("launch.rdmaBlocks", launch.rdmaBlocks, in: 0...launch.blocks)
        try require("launch.warpsPerBlock", launch.warpsPerBlock, in: 1...32)
        try require("devicesPerNode", devicesPerNode, in: 1...SymmetricMemory.maxWorldSize)
        try require("queuePairsPerPeer", queuePairsPerPeer, in: 1...64)
        try require("slots", slots, in: 1...16)
        if let timeout, timeout <= .zero {
            throw MoriError(
                .invalidConfiguration, "timeout is \(timeout); legal is more than zero, or nil")
        }
        try requireTokenType("elementType", elementType)
        try requireTokenType("combineElementType", effectiveCombineElementType)
        try validateQuantization()
        for type in [elementType, effectiveCombineElementType]
        where hiddenDim % type.elementsPerUnit != 0 {
            throw MoriError(
                .invalidConfiguration,
                "hiddenDim is \(hiddenDim) and rows are \(type), which packs"
                    + " \(type.elementsPerUnit) in a byte; legal is a multiple, nearest"
                    + " \(hiddenDim + 1)")
        }
    }

    private func validateQuantization() throws(MoriError) {
        let blocks = [32, 64, 128, 256]
        guard blocks.contains(quantizationBlock) else {
            let asked = min(max(quantizationBlock, 0), 512)
            let nearest = blocks.min { abs($0 - asked) < abs($1 - asked) }
            throw MoriError(
                .invalidConfiguration,
                "quantizationBlock is \(quantizationBlock); legal are 32, 64, 128 and 256, nearest"
                    + " \(nearest ?? 128)")
        }
        if quantizesDispatch {
            guard elementType == .float8E4M3 || elementType == .float8E4M3FNUZ else {
                throw MoriError(
                    .invalidConfiguration,
                    "quantizesDispatch is set and elementType is \(elementType); bf16 tokens can be"
                        + " sent as fp8_e4m3 or fp8_e4m3fnuz")
            }
            let blocks = blockCount(of: hiddenDim)
            guard scaleDim == blocks && scaleByteSize == 4 else {
                throw MoriError(
                    .invalidConfiguration,
                    "quantizesDispatch is set with \(scaleDim) scales of \(scaleByteSize) bytes; legal"
                        + " is scaleDim \(blocks), a scale for each \(quantizationBlock) of"
                        + " \(hiddenDim) elements, and scaleByteSize 4")
            }
        }
        guard quantization != .none else { return }
        guard effectiveCombineElementType == .bfloat16 else {
            throw MoriError(
                .invalidConfiguration,
                "quantization is \(quantization) and combined rows are"
                    + " \(effectiveCombineElementType); only bf16 is quantized: set"
                    + " combineElementType to bfloat16, or quantization to none")
        }
        guard kernelType != .intraNode || combineInput == .external else {
            throw MoriError(
                .invalidConfiguration,
                "quantization is \(quantization) and combineInput registered: intranode's peers read"
                    + " that buffer in place, so nothing is sent that could be quantized; set"
                    + " combineInput to external, or quantization to none")
        }
    }

    /// Checks the fields together with the size of the world.
    ///
    /// - Throws: `invalidConfiguration`; `unsupported` for a kernel type that this world cannot run.
    public func validate(worldSize: Int) throws(MoriError) {
        try validate()
        let hosted = worldSize * expertsPerRank
        try require("expertCount", totalExpertCount(worldSize: worldSize), in: 1...hosted)
        try validateExpertRanks(worldSize: worldSize)
        try require(
            "expertsPerToken", expertsPerToken, in: 1...totalExpertCount(worldSize: worldSize))
        // Signal words count rows in 24 bits; received rows are numbered in 32.
        try require("maxInputTokensPerRank", maxInputTokensPerRank, in: 1...((1 << 24) - 1))
        let rows = worldSize * maxInputTokensPerRank
        guard rows <= Int(Int32.max) else {
            throw MoriError(
                .invalidConfiguration,
                "maxInputTokensPerRank is \(maxInputTokensPerRank) in a world of \(worldSize):"
                    + " \(rows) source positions do not fit into 32 bits; legal is up to"
                    + " \(Int(Int32.max) / worldSize)")
        }
        if receiveOrder == .source && kernelType.forwards {
            throw MoriError(
                .unsupported,
                "receiveOrder is source and kernelType \(kernelType), whose nodes receive as their"
                    + " chunks come; legal are intranode, internode and async-ll")
        }
        if kernelType != .intraNode { try validateNodes(worldSize: worldSize) }
    }

    /// Every expert at a rank that exists, and no rank with more than it has room for.
    private func validateExpertRanks(worldSize: Int) throws(MoriError) {
        guard let expertRanks else { return }
        if let expertCount, expertCount != expertRanks.count {
            throw MoriError(
                .invalidConfiguration,
                "expertRanks names the ranks of \(expertRanks.count) experts and expertCount is"
                    + " \(expertCount); leave one of them nil")
        }
        var hosted = Array(repeating: 0, count: worldSize)
        for (expert, rank) in expertRanks.enumerated() {
            guard hosted.indices.contains(rank) else {
                throw MoriError(
                    .invalidConfiguration,
                    "expertRanks puts expert \(expert) at rank \(rank); legal is 0 to"
                        + " \(worldSize - 1)")
            }
            hosted[rank] += 1
            guard hosted[rank] <= expertsPerRank else {
                throw MoriError(
                    .invalidConfiguration,
                    "expertRanks puts more than \(expertsPerRank) experts at rank \(rank);"
                        + " expertsPerRank must be the most that any rank hosts")
            }
        }
    }

    /// What the kernels between nodes ask for.
    private func validateNodes(worldSize: Int) throws(MoriError) {
        guard devicesPerNode <= worldSize else {
            throw MoriError(
                .invalidConfiguration,
                "devicesPerNode is \(devicesPerNode) in a world of \(worldSize); legal is 1 to"
                    + " \(min(worldSize, Self.maxNodeRanks)), nearest \(worldSize)")
        }
        try require("devicesPerNode", devicesPerNode, in: 1...Self.maxNodeRanks)
        let nodes = (worldSize + devicesPerNode - 1) / devicesPerNode
        guard nodes <= Self.maxNodes else {
            throw MoriError(
                .invalidConfiguration,
                "devicesPerNode is \(devicesPerNode), which makes \(nodes) nodes of \(worldSize)"
                    + " ranks; legal is up to \(Self.maxNodes) nodes, nearest devicesPerNode"
                    + " \((worldSize + Self.maxNodes - 1) / Self.maxNodes)")
        }
        // A chunk word counts chunks in 16 bits.
        let most = OperatorShape.chunkTokens << 16
        try require("maxInputTokensPerRank", maxInputTokensPerRank, in: 1...(most - 1))
        // A descriptor has 31 bits for the bytes of one write.
        let packet =
            max(dispatchRowByteCount + 4 * expertsPerToken, combineRowByteCount)
            + scaleRowByteCount + 4 * expertsPerToken + 32
        let rows = kernelType == .asyncLL ? maxInputTokensPerRank : OperatorShape.chunkTokens
        guard packet <= Int(Int32.max) / rows else {
            throw MoriError(
                .invalidConfiguration,
                "\(rows) packets of \(packet) bytes are more than one write can take, 2 GiB; legal is"
                    + " a smaller hiddenDim, or for asyncLL fewer tokens, up to"
                    + " \(Int(Int32.max) / packet)")
        }
    }

    /// MORIEP_MAX_NODE_RANKS and MORIEP_MAX_NODES: sets of them are one word.
    private static let maxNodeRanks = 64
    private static let maxNodes = 64

    private static let maxHiddenDim = 1 << 20
    private static let maxTokens = 1 << 24
    private static let maxExperts = 1 << 20
    private static let maxBlocks = 1 << 16

    private func require(
        _ field: String, _ value: Int, in legal: ClosedRange<Int>
    ) throws(MoriError) {
        guard legal.contains(value) else {
            let nearest = min(max(value, legal.lowerBound), legal.upperBound)
            let range =
                legal.upperBound == Int.max
                ? "\(legal.lowerBound) or more" : "\(legal.lowerBound) to \(legal.upperBound)"
            throw MoriError(
                .invalidConfiguration,
                "\(field) is \(value); legal is \(range), nearest \(nearest)")
        }
    }

    private func requireTokenType(_ field: String, _ type: ElementType) throws(MoriError) {
        guard type.isTokenType else {
            let legal = ElementType.tokenTypes.map(\.description).joined(separator: ", ")
            throw MoriError(
                .invalidConfiguration, "\(field) is \(type); legal for tokens are \(legal)")
        }
        guard type.byteCount <= maxTokenElementByteSize else {
            throw MoriError(
                .invalidConfiguration,
                "\(field) is \(type), \(type.byteCount) bytes; maxTokenElementByteSize is"
                    + " \(maxTokenElementByteSize): set it to \(type.byteCount) or more")
        }
    }

    /// The settings that ranks must have in common, as pairs for the check at construction.
    var agreement: [(name: String, value: String)] {
        [
            ("elementType", "\(elementType)"),
            ("combineElementType", "\(effectiveCombineElementType)"),
            ("hiddenDim", "\(hiddenDim)"),
            ("scaleDim", "\(scaleDim)"),
            ("scaleByteSize", "\(scaleByteSize)"),
            ("maxTokenElementByteSize", "\(maxTokenElementByteSize)"),
            ("maxInputTokensPerRank", "\(maxInputTokensPerRank)"),
            ("maxTotalReceivedTokens", maxTotalReceivedTokens.map(String.init) ?? "nil"),
            ("overflow", "\(overflow)"),
            ("receiveOrder", "\(receiveOrder)"),
            ("expertsPerRank", "\(expertsPerRank)"),
            (
                "expertRanks",
                expertRanks.map { $0.map(String.init).joined(separator: " ") } ?? "nil"
            ),
            ("expertCount", expertCount.map(String.init) ?? "nil"),
            ("expertsPerToken", "\(expertsPerToken)"),
            ("combineInput", "\(combineInput)"),
            ("quantization", "\(quantization)"),
            ("quantizesDispatch", "\(quantizesDispatch)"),
            ("quantizationBlock", "\(quantizationBlock)"),
            ("kernelType", "\(kernelType)"),
            ("devicesPerNode", "\(devicesPerNode)"),
            ("queuePairsPerPeer", "\(queuePairsPerPeer)"),
            ("slots", "\(slots)"),
        ]
    }
}

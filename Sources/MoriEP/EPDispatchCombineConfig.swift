/// What an operator is made for; the same on every rank.
///
/// The Python fields `rank` and `world_size` are the world's here. Fields that size buffers are
/// upper bounds: a call may have fewer tokens, a smaller hidden size or a smaller element type.
///
/// The corresponding Python name is `EpDispatchCombineConfig`.
public struct EPDispatchCombineConfig: Hashable, Sendable {
    /// The element type of dispatched tokens.
    ///
    /// The corresponding Python name is `data_type`.
    public var elementType: ElementType
    /// The element type of combined tokens; nil: the same as dispatched.
    public var combineElementType: ElementType?
    /// Elements of a token, 1 or more; even for fp4, which packs two.
    ///
    /// The corresponding Python name is `hidden_dim`.
    public var hiddenDim: Int
    /// Scales of a token; 0: none.
    ///
    /// The corresponding Python name is `scale_dim`.
    public var scaleDim: Int
    /// Bytes of one scale, 1 to 8.
    ///
    /// The corresponding Python name is `scale_type_size`.
    public var scaleByteSize: Int
    /// Bytes of the largest element type that is used, 1 to 4; bounds the two types above.
    ///
    /// The corresponding Python name is `max_token_type_size`.
    public var maxTokenElementByteSize: Int
    /// Input tokens of a rank in one round, at most; 1 or more.
    ///
    /// The corresponding Python name is `max_num_inp_token_per_rank`.
    public var maxInputTokensPerRank: Int
    /// Rows that a rank can receive in one round; nil: all that can come.
    ///
    /// What goes beyond is never written; see `overflow`.
    ///
    /// The corresponding Python name is `max_total_recv_tokens`.
    public var maxTotalReceivedTokens: Int?
    /// What happens when more rows come than `maxTotalReceivedTokens`.
    public var overflow: ReceiveOverflow
    /// In which order rows are received.
    public var receiveOrder: ReceiveOrder
    /// Experts that each rank hosts, 1 or more: expert e is at rank e / expertsPerRank, unless
    /// `expertRanks` says otherwise.
    ///
    /// The corresponding Python name is `num_experts_per_rank`.
    public var expertsPerRank: Int
    /// Experts of all ranks, where the last ranks host fewer; nil: expertsPerRank on every rank.
    public var expertCount: Int?
    /// The rank of each expert, by expert, no rank having more than expertsPerRank; nil: as above.
    ///
    /// For experts that were moved, and for numbers that ranks do not divide.
    public var expertRanks: [Int]?
    /// Experts that each token is sent to: top-k, 1 to the number of experts.
    ///
    /// The corresponding Python name is `num_experts_per_token`.
    public var expertsPerToken: Int
    /// Blocks and warps, where the device can hold them at once; fewer where it cannot.
    ///
    /// The corresponding Python names are `block_num`, `rdma_block_num` and `warp_num_per_block`.
    public var launch: LaunchConfiguration
    /// Where combine finds its input, unless the call says otherwise.
    ///
    /// The corresponding Python name is `use_external_inp_buf`.
    public var combineInput: CombineInput
    /// What combine sends in place of bf16 rows.
    ///
    /// The corresponding Python name is `quant_type`.
    public var quantization: CombineQuantization
    /// Whether dispatch takes bf16 tokens and quantizes them on their way to `elementType`, which is
    /// fp8_e4m3 or fp8_e4m3fnuz, with an fp32 scale a block.
    ///
    /// Scales are then `scaleDim` of 4 bytes, one for each block of `hiddenDim`. Tokens that are of
    /// that type already go as they are, with the caller's scales.
    ///
    /// The original has no such setting: its callers cast before they dispatch.
    public var quantizesDispatch: Bool
    /// Elements that share a scale: 32, 64, 128 or 256.
    ///
    /// The last block of a row may be shorter.
    public var quantizationBlock: Int
    /// Which kernels move the tokens.
    ///
    /// The corresponding Python name is `kernel_type`.
    public var kernelType: KernelType
    /// Ranks of a node, for the inter-node kernels.
    ///
    /// The corresponding Python name is `gpu_per_node`.
    public var devicesPerNode: Int
    /// RDMA queue pairs to each peer, for the inter-node kernels.
    ///
    /// The corresponding Python name is `num_qp_per_pe`.
    public var queuePairsPerPeer: Int
    /// Rounds in flight, 1 or more; each has buffers of its own.
    public var slots: Int
    /// The deadline of a round's waits; nil: the world's.
    public var timeout: Duration?

    /// Creates a configuration; the defaults are the guide's.
    public init(
        elementType: ElementType,
        combineElementType: ElementType? = nil,
        hiddenDim: Int,
        scaleDim: Int = 0,
        scaleByteSize: Int = 4,
        maxTokenElementByteSize: Int = 4,
        maxInputTokensPerRank: Int,
        maxTotalReceivedTokens: Int? = nil,
        overflow: ReceiveOverflow = .drop,
        receiveOrder: ReceiveOrder = .unspecified,
        expertsPerRank: Int,
        expertCount: Int? = nil,
        expertRanks: [Int]? = nil,
        expertsPerToken: Int,
        launch: LaunchConfiguration = LaunchConfiguration(),
        combineInput: CombineInput = .external,
        quantization: CombineQuantization = .none,
        quantizesDispatch: Bool = false,
        quantizationBlock: Int = 128,
        kernelType: KernelType = .intraNode,
        devicesPerNode: Int = 8,
        queuePairsPerPeer: Int = 1,
        slots: Int = 1,
        timeout: Duration? = nil
    ) {
        self.elementType = elementType
        self.combineElementType = combineElementType
        self.hiddenDim = hiddenDim
        self.scaleDim = scaleDim
        self.scaleByteSize = scaleByteSize
        self.maxTokenElementByteSize = maxTokenElementByteSize
        self.maxInputTokensPerRank = maxInputTokensPerRank
        self.maxTotalReceivedTokens = maxTotalReceivedTokens
        self.overflow = overflow
        self.receiveOrder = receiveOrder
        self.expertsPerRank = expertsPerRank
        self.expertCount = expertCount
        self.expertRanks = expertRanks
        self.expertsPerToken = expertsPerToken
        self.launch = launch
        self.combineInput = combineInput
        self.quantization = quantization
        self.quantizesDispatch = quantizesDispatch
        self.quantizationBlock = quantizationBlock
        self.kernelType = kernelType
        self.devicesPerNode = devicesPerNode
        self.queuePairsPerPeer = queuePairsPerPeer
        self.slots = slots
        self.timeout = timeout
    }

    /// The element type that combine uses unless its input says otherwise.
    public var effectiveCombineElementType: ElementType { combineElementType ?? elementType }

    /// Bytes of one dispatched row, at most.
    public var dispatchRowByteCount: Int { elementType.byteCount(of: hiddenDim) }

    /// Bytes of one combined row, at most.
    public var combineRowByteCount: Int {
        effectiveCombineElementType.byteCount(of: hiddenDim)
    }

    /// Scales of a row of so many elements, where they are made here.
    public func blockCount(of hiddenDim: Int) -> Int {
        hiddenDim / quantizationBlock + (hiddenDim % quantizationBlock > 0 ? 1 : 0)
    }

    /// The ways of combining that the kernel does differently, the usual one first.
    ///
    /// InterNode and AsyncLL copy every row on its way, wherever the experts wrote it.
    package var differentCombineInputs: [CombineInput] {
        switch kernelType {
        // What peers read in place cannot be quantized.
        case .intraNode where quantization != .none: [.external]
        case .intraNode, .interNodeV1, .interNodeV1LL: [.external, .registered]
        case .interNode, .asyncLL: [.external]
        }
    }

    /// Bytes of one token's scales.
    public var scaleRowByteCount: Int { scaleDim * scaleByteSize }

    /// Columns of a scales tensor of a type: one for each scale, of u8 one for each of their bytes;
    /// nil: no scales can be of that type.
    func scaleColumns(of type: ElementType) -> Int? {
        if type.bitCount == scaleByteSize * 8 { return scaleDim }
        return type == .uint8 ? scaleRowByteCount : nil
    }

    /// Rows of the receive buffers in a world of this size.
    ///
    /// The corresponding Python name is `max_num_tokens_to_recv`.
    public func maxReceivedTokens(worldSize: Int) -> Int {
        let all = worldSize * maxInputTokensPerRank
        return min(maxTotalReceivedTokens ?? all, all)
    }

    /// Experts of all ranks in a world of this size.
    public func totalExpertCount(worldSize: Int) -> Int {
        expertCount ?? expertRanks?.count ?? worldSize * expertsPerRank
    }

    /// The rank that hosts an expert.
    func rank(ofExpert expert: Int) -> Int { expertRanks?[expert] ?? expert / expertsPerRank }
}

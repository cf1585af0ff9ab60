// The configuration's Python names, unavailable, with the Swift ones: see Renamed.swift.

extension EPDispatchCombineConfig {
    /// Renamed to
    /// `init(elementType:hiddenDim:maxInputTokensPerRank:expertsPerRank:expertsPerToken:)`.
    @available(
        *, unavailable,
        renamed: "init(elementType:hiddenDim:maxInputTokensPerRank:expertsPerRank:expertsPerToken:)"
    )
    public init(
        data_type: ElementType, rank: Int = 0, world_size: Int = 0, hidden_dim: Int = 0,
        scale_dim: Int = 0, scale_type_size: Int = 0, max_token_type_size: Int = 0,
        max_num_inp_token_per_rank: Int = 0, num_experts_per_rank: Int = 0,
        num_experts_per_token: Int = 0, warp_num_per_block: Int = 8, block_num: Int = 80,
        use_external_inp_buf: Bool = true, kernel_type: KernelType = .intraNode,
        gpu_per_node: Int = 8, rdma_block_num: Int = 0, num_qp_per_pe: Int = 1,
        quant_type: String = "none", max_total_recv_tokens: Int = 0
    ) { onlyRenamed() }
    /// Renamed to `elementType`.
    @available(*, unavailable, renamed: "elementType")
    public var data_type: ElementType {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// The world has it: SymmetricMemory.rank.
    @available(*, unavailable, message: "the world has it: SymmetricMemory.rank")
    public var rank: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// The world has it: SymmetricMemory.worldSize.
    @available(*, unavailable, message: "the world has it: SymmetricMemory.worldSize")
    public var world_size: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `hiddenDim`.
    @available(*, unavailable, renamed: "hiddenDim")
    public var hidden_dim: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `scaleDim`.
    @available(*, unavailable, renamed: "scaleDim")
    public var scale_dim: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `scaleByteSize`.
    @available(*, unavailable, renamed: "scaleByteSize")
    public var scale_type_size: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `maxTokenElementByteSize`.
    @available(*, unavailable, renamed: "maxTokenElementByteSize")
    public var max_token_type_size: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `maxInputTokensPerRank`.
    @available(*, unavailable, renamed: "maxInputTokensPerRank")
    public var max_num_inp_token_per_rank: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `maxTotalReceivedTokens`.
    @available(*, unavailable, renamed: "maxTotalReceivedTokens")
    public var max_total_recv_tokens: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `expertsPerRank`.
    @available(*, unavailable, renamed: "expertsPerRank")
    public var num_experts_per_rank: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `expertsPerToken`.
    @available(*, unavailable, renamed: "expertsPerToken")
    public var num_experts_per_token: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `launch.warpsPerBlock`.
    @available(*, unavailable, renamed: "launch.warpsPerBlock")
    public var warp_num_per_block: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `launch.blocks`.
    @available(*, unavailable, renamed: "launch.blocks")
    public var block_num: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `launch.rdmaBlocks`.
    @available(*, unavailable, renamed: "launch.rdmaBlocks")
    public var rdma_block_num: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Set combineInput to .external (True) or .registered (False).
    @available(
        *, unavailable,
        message: "set combineInput to .external (True) or .registered (False)"
    )
    public var use_external_inp_buf: Bool {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `kernelType`.
    @available(*, unavailable, renamed: "kernelType")
    public var kernel_type: KernelType {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `devicesPerNode`.
    @available(*, unavailable, renamed: "devicesPerNode")
    public var gpu_per_node: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `queuePairsPerPeer`.
    @available(*, unavailable, renamed: "queuePairsPerPeer")
    public var num_qp_per_pe: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `maxReceivedTokens(worldSize:)`.
    @available(*, unavailable, renamed: "maxReceivedTokens(worldSize:)")
    public func max_num_tokens_to_recv() -> Int { onlyRenamed() }
}

extension LaunchConfiguration {
    /// Renamed to `init(blocks:rdmaBlocks:warpsPerBlock:)`.
    @available(*, unavailable, renamed: "init(blocks:rdmaBlocks:warpsPerBlock:)")
    public init(block_num: Int, rdma_block_num: Int, warp_per_block: Int) { onlyRenamed() }
    /// Renamed to `init(blocks:warpsPerBlock:)`.
    @available(*, unavailable, renamed: "init(blocks:warpsPerBlock:)")
    public init(block_num: Int, warp_per_block: Int) { onlyRenamed() }
    /// Renamed to `blocks`.
    @available(*, unavailable, renamed: "blocks")
    public var block_num: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `rdmaBlocks`.
    @available(*, unavailable, renamed: "rdmaBlocks")
    public var rdma_block_num: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `warpsPerBlock`.
    @available(*, unavailable, renamed: "warpsPerBlock")
    public var warp_per_block: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
    /// Renamed to `warpsPerBlock`.
    @available(*, unavailable, renamed: "warpsPerBlock")
    public var warp_num_per_block: Int {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
}

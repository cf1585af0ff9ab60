// Code typed from the guide gets a fix-it: the Python names, unavailable, with the Swift ones.
// Excluded from the documentation.

/// Renamed to `EPDispatchCombineConfig`.
@available(*, unavailable, renamed: "EPDispatchCombineConfig")
public typealias EpDispatchCombineConfig = EPDispatchCombineConfig

/// Renamed to `EPDispatchCombineOp`.
@available(*, unavailable, renamed: "EPDispatchCombineOp")
public typealias EpDispatchCombineOp = EPDispatchCombineOp

/// Renamed to `KernelType`.
@available(*, unavailable, renamed: "KernelType")
public typealias EpDispatchCombineKernelType = KernelType

extension KernelType {
    /// Renamed to `intraNode`.
    @available(*, unavailable, renamed: "intraNode")
    public static var IntraNode: KernelType { .intraNode }
    /// Renamed to `interNode`.
    @available(*, unavailable, renamed: "interNode")
    public static var InterNode: KernelType { .interNode }
    /// Renamed to `interNodeV1`.
    @available(*, unavailable, renamed: "interNodeV1")
    public static var InterNodeV1: KernelType { .interNodeV1 }
    /// Renamed to `interNodeV1LL`.
    @available(*, unavailable, renamed: "interNodeV1LL")
    public static var InterNodeV1LL: KernelType { .interNodeV1LL }
    /// Renamed to `asyncLL`.
    @available(*, unavailable, renamed: "asyncLL")
    public static var AsyncLL: KernelType { .asyncLL }
}

extension EPDispatchCombineConfig {
    /// Renamed to `elementType`.
    @available(*, unavailable, renamed: "elementType")
    public var data_type: ElementType { elementType }
    /// The world has it: `SymmetricMemory.rank`.
    @available(*, unavailable, message: "the world has it: SymmetricMemory.rank")
    public var rank: Int { 0 }
    /// The world has it: `SymmetricMemory.worldSize`.
    @available(*, unavailable, message: "the world has it: SymmetricMemory.worldSize")
    public var world_size: Int { 0 }
    /// Renamed to `hiddenDim`.
    @available(*, unavailable, renamed: "hiddenDim")
    public var hidden_dim: Int { hiddenDim }
    /// Renamed to `scaleDim`.
    @available(*, unavailable, renamed: "scaleDim")
    public var scale_dim: Int { scaleDim }
    /// Renamed to `scaleByteSize`.
    @available(*, unavailable, renamed: "scaleByteSize")
    public var scale_type_size: Int { scaleByteSize }
    /// Renamed to `maxTokenElementByteSize`.
    @available(*, unavailable, renamed: "maxTokenElementByteSize")
    public var max_token_type_size: Int { maxTokenElementByteSize }
    /// Renamed to `maxInputTokensPerRank`.
    @available(*, unavailable, renamed: "maxInputTokensPerRank")
    public var max_num_inp_token_per_rank: Int { maxInputTokensPerRank }
    /// Renamed to `expertsPerRank`.
    @available(*, unavailable, renamed: "expertsPerRank")
    public var num_experts_per_rank: Int { expertsPerRank }
    /// Renamed to `expertsPerToken`.
    @available(*, unavailable, renamed: "expertsPerToken")
    public var num_experts_per_token: Int { expertsPerToken }
    /// Renamed to `launch.warpsPerBlock`.
    @available(*, unavailable, renamed: "launch.warpsPerBlock")
    public var warp_num_per_block: Int { launch.warpsPerBlock }
    /// Renamed to `launch.blocks`.
    @available(*, unavailable, renamed: "launch.blocks")
    public var block_num: Int { launch.blocks }
    /// Renamed to `combineInput`.
    @available(*, unavailable, renamed: "combineInput")
    public var use_external_inp_buf: Bool { combineInput == .external }
    /// Renamed to `kernelType`.
    @available(*, unavailable, renamed: "kernelType")
    public var kernel_type: KernelType { kernelType }
    /// Renamed to `devicesPerNode`.
    @available(*, unavailable, renamed: "devicesPerNode")
    public var gpu_per_node: Int { devicesPerNode }
    /// Renamed to `launch.rdmaBlocks`.
    @available(*, unavailable, renamed: "launch.rdmaBlocks")
    public var rdma_block_num: Int { launch.rdmaBlocks }
    /// Renamed to `queuePairsPerPeer`.
    @available(*, unavailable, renamed: "queuePairsPerPeer")
    public var num_qp_per_pe: Int { queuePairsPerPeer }
}

extension EPDispatchCombineOp {
    /// Renamed to `registeredCombineInput(of:hiddenDim:slot:)`.
    @available(*, unavailable, renamed: "registeredCombineInput(of:hiddenDim:)")
    public func get_registered_combine_input_buffer(_ elementType: ElementType) {}
    /// Renamed to `sourceTokenPositions(of:on:)`.
    @available(*, unavailable, renamed: "sourceTokenPositions(of:on:)")
    public func get_dispatch_src_token_pos() -> [TokenPosition] { [] }
}

extension SymmetricMemory {
    /// Renamed to `rank`.
    @available(*, unavailable, renamed: "rank")
    public var shmem_mype: Int { rank }
    /// Renamed to `worldSize`.
    @available(*, unavailable, renamed: "worldSize")
    public var shmem_npes: Int { worldSize }
    /// Renamed to `close()`.
    @available(*, unavailable, renamed: "close()")
    public func shmem_finalize() {}
    /// Renamed to `barrier()`.
    @available(*, unavailable, renamed: "barrier()")
    public func shmem_barrier_all() {}
}

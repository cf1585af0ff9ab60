// Python names of what this version does not have yet, with the names that it will have. See
// Renamed.swift.

extension EPDispatchCombineOp {
    /// Not yet; it will be dispatchStandardMoE(_:weights:scales:indices:on:).
    @available(
        *, unavailable,
        message: "not yet; it will be dispatchStandardMoE(_:weights:scales:indices:on:)"
    )
    public func dispatch_standard_moe(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ scales: DeviceTensor?,
        _ indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Not yet; it will be combineStandardMoE(_:of:on:).
    @available(*, unavailable, message: "not yet; it will be combineStandardMoE(_:of:on:)")
    public func combine_standard_moe(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1,
        call_reset: Bool = false
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Not yet; it will be convertToStandardMoE(_:on:).
    @available(*, unavailable, message: "not yet; it will be convertToStandardMoE(_:on:)")
    public func convert_dispatch_output(
        _ dispatch_out_x: DeviceTensor, _ dispatch_out_topk_idx: DeviceTensor,
        block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Not yet; it will be convertFromStandardMoE(_:on:).
    @available(*, unavailable, message: "not yet; it will be convertFromStandardMoE(_:on:)")
    public func convert_combine_input(
        _ packed_recv_x: DeviceTensor, _ packed_recv_src_info: DeviceTensor,
        _ packed_recv_layout_range: DeviceTensor, block_num: Int = -1, warp_per_block: Int = -1
    ) -> DeviceTensor { onlyRenamed() }
    /// Not yet; it will be localExpertCount.
    @available(*, unavailable, message: "not yet; it will be localExpertCount")
    public var local_expert_count: DeviceTensor { onlyRenamed() }
}

extension EPDispatchCombineConfig {
    /// Not yet; it will be quantization.
    @available(*, unavailable, message: "not yet; it will be quantization")
    public var quant_type: String {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
}

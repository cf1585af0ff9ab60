// Python names of the standard MoE layout and of quantization. See Renamed.swift.

extension EPDispatchCombineOp {
    /// Renamed to `dispatchStandardMoE(_:weights:scales:indices:into:launch:timeout:on:)`.
    @available(
        *, unavailable,
        renamed: "dispatchStandardMoE(_:weights:scales:indices:into:launch:timeout:on:)"
    )
    public func dispatch_standard_moe(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ scales: DeviceTensor?,
        _ indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combineStandardMoE(_:of:launch:timeout:on:)`.
    @available(*, unavailable, renamed: "combineStandardMoE(_:of:launch:timeout:on:)")
    public func combine_standard_moe(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1,
        call_reset: Bool = false
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `convertToStandardMoE(_:into:on:)`.
    @available(*, unavailable, renamed: "convertToStandardMoE(_:into:on:)")
    public func convert_dispatch_output(
        _ dispatch_out_x: DeviceTensor, _ dispatch_out_topk_idx: DeviceTensor,
        block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `convertFromStandardMoE(_:of:layout:on:)`.
    @available(*, unavailable, renamed: "convertFromStandardMoE(_:of:layout:on:)")
    public func convert_combine_input(
        _ packed_recv_x: DeviceTensor, _ packed_recv_src_info: DeviceTensor,
        _ packed_recv_layout_range: DeviceTensor, block_num: Int = -1, warp_per_block: Int = -1
    ) -> DeviceTensor { onlyRenamed() }
    /// Renamed to `localExpertCount(of:on:)`.
    @available(*, unavailable, renamed: "localExpertCount(of:on:)")
    public var local_expert_count: DeviceTensor { onlyRenamed() }
}

extension EPDispatchCombineConfig {
    /// Renamed to `quantization`.
    @available(*, unavailable, renamed: "quantization")
    public var quant_type: String {
        get { onlyRenamed() }
        set { onlyRenamed() }
    }
}

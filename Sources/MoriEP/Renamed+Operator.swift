// The operator's Python names, unavailable, with the Swift ones: see Renamed.swift.

extension EPDispatchCombineOp {
    /// Renamed to `dispatch(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatch(_:weights:scales:indices:launch:on:)")
    public func dispatch(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ scales: DeviceTensor?,
        _ indices: DeviceTensor, block_num: Int = -1, rdma_block_num: Int = -1,
        warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `dispatch(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatch(_:weights:scales:indices:launch:on:)")
    public func dispatch(
        input: DeviceTensor, weights: DeviceTensor?, scales: DeviceTensor?,
        indices: DeviceTensor, block_num: Int = -1, rdma_block_num: Int = -1,
        warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `dispatch(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatch(_:weights:scales:indices:launch:on:)")
    public func dispatch(
        _ input: DeviceTensor, weights: DeviceTensor?, scales: DeviceTensor?,
        indices: DeviceTensor, block_num: Int = -1, rdma_block_num: Int = -1,
        warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combine(_:of:weights:input:launch:on:)`.
    @available(*, unavailable, renamed: "combine(_:of:weights:input:launch:on:)")
    public func combine(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1,
        use_external_inp_buf: Int = -1, call_reset: Bool = false
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combine(_:of:weights:input:launch:on:)`.
    @available(*, unavailable, renamed: "combine(_:of:weights:input:launch:on:)")
    public func combine(
        input: DeviceTensor, weights: DeviceTensor?, indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1,
        use_external_inp_buf: Int = -1, call_reset: Bool = false
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combine(_:of:weights:input:launch:on:)`.
    @available(*, unavailable, renamed: "combine(_:of:weights:input:launch:on:)")
    public func combine(
        _ input: DeviceTensor, weights: DeviceTensor?, indices: DeviceTensor,
        block_num: Int = -1, rdma_block_num: Int = -1, warp_per_block: Int = -1,
        use_external_inp_buf: Int = -1, call_reset: Bool = false
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
}

// Split phases.
extension EPDispatchCombineOp {
    /// Renamed to `dispatchSend(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatchSend(_:weights:scales:indices:launch:on:)")
    public func dispatch_send(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ scales: DeviceTensor?,
        _ indices: DeviceTensor, block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `dispatchSend(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatchSend(_:weights:scales:indices:launch:on:)")
    public func dispatch_send(
        input: DeviceTensor, weights: DeviceTensor?, scales: DeviceTensor?,
        indices: DeviceTensor, block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `dispatchSend(_:weights:scales:indices:launch:on:)`.
    @available(*, unavailable, renamed: "dispatchSend(_:weights:scales:indices:launch:on:)")
    public func dispatch_send(
        _ input: DeviceTensor, weights: DeviceTensor?, scales: DeviceTensor?,
        indices: DeviceTensor, block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `dispatchReceive(_:launch:on:)`.
    @available(*, unavailable, renamed: "dispatchReceive(_:launch:on:)")
    public func dispatch_recv(
        block_num: Int = -1, warp_per_block: Int = -1
    ) { onlyRenamed() }
    /// Renamed to `combineSend(_:of:weights:launch:on:)`.
    @available(*, unavailable, renamed: "combineSend(_:of:weights:launch:on:)")
    public func combine_send(
        _ input: DeviceTensor, _ weights: DeviceTensor?, _ indices: DeviceTensor,
        block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combineSend(_:of:weights:launch:on:)`.
    @available(*, unavailable, renamed: "combineSend(_:of:weights:launch:on:)")
    public func combine_send(
        input: DeviceTensor, weights: DeviceTensor?, indices: DeviceTensor,
        block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combineSend(_:of:weights:launch:on:)`.
    @available(*, unavailable, renamed: "combineSend(_:of:weights:launch:on:)")
    public func combine_send(
        _ input: DeviceTensor, weights: DeviceTensor?, indices: DeviceTensor,
        block_num: Int = -1, warp_per_block: Int = -1
    ) -> (DeviceTensor, DeviceTensor) { onlyRenamed() }
    /// Renamed to `combineReceive(_:launch:on:)`.
    @available(*, unavailable, renamed: "combineReceive(_:launch:on:)")
    public func combine_recv(
        block_num: Int = -1, warp_per_block: Int = -1
    ) { onlyRenamed() }
}

// What an operator tells of itself.
extension EPDispatchCombineOp {
    /// Renamed to `sourceTokenPositions(of:on:)`.
    @available(*, unavailable, renamed: "sourceTokenPositions(of:on:)")
    public func get_dispatch_src_token_pos() -> [TokenPosition] { onlyRenamed() }
    /// Renamed to `registeredCombineInput(of:hiddenDim:)`.
    @available(*, unavailable, renamed: "registeredCombineInput(of:hiddenDim:)")
    public func get_registered_combine_input_buffer(
        _ dtype: ElementType, hidden_dim: Int = -1
    ) -> DeviceTensor { onlyRenamed() }
    /// Renamed to `maxReceivedTokens`.
    @available(*, unavailable, renamed: "maxReceivedTokens")
    public func max_num_tokens_to_recv() -> Int { onlyRenamed() }
    /// Renamed to `launchParameters(forCombine:override:)`.
    @available(*, unavailable, renamed: "launchParameters(forCombine:override:)")
    public func get_launch_config(
        is_dispatch: Bool, block_num: Int = -1, warp_per_block: Int = -1
    ) -> LaunchConfiguration { onlyRenamed() }
}

extension DispatchOutput {
    /// Renamed to `tokens`.
    @available(*, unavailable, renamed: "tokens")
    public var dispatch_output: DeviceTensor { onlyRenamed() }
    /// Renamed to `weights`.
    @available(*, unavailable, renamed: "weights")
    public var dispatch_weights: DeviceTensor { onlyRenamed() }
    /// Renamed to `scales`.
    @available(*, unavailable, renamed: "scales")
    public var dispatch_scales: DeviceTensor { onlyRenamed() }
    /// Renamed to `indices`.
    @available(*, unavailable, renamed: "indices")
    public var dispatch_indices: DeviceTensor { onlyRenamed() }
    /// Renamed to `receivedTokenCount`.
    @available(*, unavailable, renamed: "receivedTokenCount")
    public var recv_num_token: DeviceTensor { onlyRenamed() }
    /// Renamed to `receivedTokenCount`.
    @available(*, unavailable, renamed: "receivedTokenCount")
    public var total_recv: DeviceTensor { onlyRenamed() }
}

extension CombineOutput {
    /// Renamed to `tokens`.
    @available(*, unavailable, renamed: "tokens")
    public var combine_output: DeviceTensor { onlyRenamed() }
    /// Renamed to `weights`.
    @available(*, unavailable, renamed: "weights")
    public var combine_weights: DeviceTensor { onlyRenamed() }
}

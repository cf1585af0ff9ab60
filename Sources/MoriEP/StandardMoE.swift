// The layout in which grouped matrix multiplications want received rows: by expert.

/// Received rows grouped by expert.
///
/// A row with several experts on this rank stands once at each of them. Rows of an expert are in the
/// order in which they were received, whatever the grid; with a fixed order of reception
/// (`receiveOrder: .source`, InterNode, AsyncLL) that is source rank, then token.
///
/// The tensors are the caller's own: they stay valid as long as somebody holds them, through combine
/// and later rounds too, unless they are given to another conversion.
public struct StandardMoELayout: Sendable {
    /// Rows, [expertsPerRank, capacity, hidden]; undefined beyond an expert's count.
    ///
    /// The corresponding Python name is `packed_recv_x`.
    public let tokens: DeviceTensor
    /// Rows of each expert, i32 [expertsPerRank].
    ///
    /// The corresponding Python name is `packed_recv_count`.
    public let counts: DeviceTensor
    /// Where each row came from, i32 [expertsPerRank, capacity], as `TokenPosition.rawValue`.
    ///
    /// The corresponding Python name is `packed_recv_src_info`.
    public let sources: DeviceTensor
    /// Their scales, [expertsPerRank, capacity, columns as in dispatch]; nil when dispatch had none.
    public let scales: DeviceTensor?
    /// Rows of each expert that found no room, i32 [expertsPerRank]; 0 with the default capacity and
    /// distinct experts of each token.
    public let overflow: DeviceTensor

    /// Rows that each expert has room for.
    public var capacity: Int { tokens.shape[1] }
}

/// What a dispatch in the standard layout gave: the round, and its rows by expert.
///
/// Combined exactly once. The round of one that is dropped is given back by
/// `EPDispatchCombineOp.reclaim()`.
public struct StandardMoEOutput: ~Copyable, Sendable {
    /// The rows by expert.
    public let layout: StandardMoELayout
    /// The round as dispatch gave it.
    public let received: DispatchOutput
}

extension EPDispatchCombineOp {
    /// Allocates a layout, to be used for several rounds.
    ///
    /// - Parameters:
    ///   - elementType: Of the rows; nil: the configuration's.
    ///   - hiddenDim: Elements of a row; nil: the configuration's.
    ///   - capacity: Rows of each expert; nil: as many as a rank can receive.
    ///   - scaleElementType: Of the scales; nil: none.
    /// - Returns: The layout; its content is undefined.
    /// - Throws: `invalidArgument` for a capacity below 1; `outOfMemory`.
    public func makeStandardMoELayout(
        of elementType: ElementType? = nil, hiddenDim: Int? = nil, capacity: Int? = nil,
        scaleElementType: ElementType? = nil
    ) throws(MoriError) -> StandardMoELayout {
        try checkUsable()
        let capacity = capacity ?? maxReceivedTokens
        let experts = config.expertsPerRank
        guard capacity >= 1,
            experts.multipliedReportingOverflow(by: capacity).partialValue
                <= Int(Int32.max)
        else {
            throw MoriError(
                .invalidArgument,
                "a capacity of \(capacity) rows for each of \(experts) experts; legal is 1 to"
                    + " \(Int(Int32.max) / experts)")
        }
        let device = world.device
        var scales: DeviceTensor?
        if let scaleElementType {
            scales = try DeviceTensor(
                shape: [experts, capacity, try scaleColumns(of: scaleElementType)],
                elementType: scaleElementType, on: device)
        }
        return StandardMoELayout(
            tokens: try DeviceTensor(
                shape: [experts, capacity, hiddenDim ?? config.hiddenDim],
                elementType: elementType ?? config.elementType, on: device),
            counts: try DeviceTensor(shape: [experts], elementType: .int32, on: device),
            sources: try DeviceTensor(
                shape: [experts, capacity], elementType: .int32, on: device),
            scales: scales,
            overflow: try DeviceTensor(shape: [experts], elementType: .int32, on: device))
    }

    /// Dispatches, and groups what this rank received by expert.
    ///
    /// Takes what `dispatch` takes; weights are needed, because combine multiplies by them.
    ///
    /// - Parameters:
    ///   - tokens: As of `dispatch`.
    ///   - weights: f32 [n, top-k].
    ///   - scales: As of `dispatch`; grouped like the rows.
    ///   - indices: As of `dispatch`.
    ///   - layout: Where the rows go; nil: one is allocated, [expertsPerRank, maxReceivedTokens,
    ///     hidden].
    ///   - launch: Blocks and warps of the dispatch; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes.
    /// - Returns: The rows by expert, and the round that combine takes.
    /// - Throws: as `dispatch`; `invalidArgument` for a layout of another shape or type.
    ///
    /// The corresponding Python name is `dispatch_standard_moe`.
    public func dispatchStandardMoE(
        _ tokens: DeviceTensor, weights: DeviceTensor, scales: DeviceTensor? = nil,
        indices: DeviceTensor, into layout: StandardMoELayout? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> StandardMoEOutput {
        // Before anything is launched: what can be refused is refused here.
        try checkRows("tokens", tokens)
        let target: StandardMoELayout
        if let layout {
            target = layout
        } else {
            target = try makeStandardMoELayout(
                of: tokens.elementType, hiddenDim: tokens.shape[1],
                scaleElementType: scales?.elementType)
        }
        try check(
            target, elementType: tokens.elementType, hiddenDim: tokens.shape[1],
            scaleElementType: scales?.elementType)
        let received = try dispatch(
            tokens, weights: weights, scales: scales, indices: indices, launch: launch,
            timeout: timeout, on: stream)
        try pack(received, into: target, on: stream)
        return StandardMoEOutput(layout: target, received: received)
    }

    /// Sums the experts' output of each received row, weighted, and combines the sums.
    ///
    /// Within a rank: fp32, in the order of the token's ids, each product rounded by itself, one
    /// rounding of the sum; then as `combine`. The result is the layer's output.
    ///
    /// - Parameters:
    ///   - expertOutput: [expertsPerRank, capacity, hidden], row by row what the experts made of
    ///     `layout.tokens`; any token type and hidden size that fits the configuration's combine row.
    ///   - output: What `dispatchStandardMoE` gave. Consumed; when this call throws, `reclaim()` gives
    ///     its round back.
    ///   - launch: Blocks and warps of the combine; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes; another one than dispatch's is ordered after it.
    /// - Returns: This rank's sums.
    /// - Throws: as `combine`.
    ///
    /// The corresponding Python name is `combine_standard_moe`.
    public func combineStandardMoE(
        _ expertOutput: DeviceTensor, of output: consuming StandardMoEOutput,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> CombineOutput {
        let sums = try convertFromStandardMoE(
            expertOutput, of: output.received, layout: output.layout, on: stream)
        return try combine(
            sums, of: output.received, input: .registered, launch: launch, timeout: timeout,
            on: stream)
    }

    /// Groups what a round received by expert.
    ///
    /// - Parameters:
    ///   - received: What dispatch gave.
    ///   - layout: Where the rows go; nil: one is allocated.
    ///   - stream: Where the work goes; another one than dispatch's is ordered after it.
    /// - Returns: The rows by expert.
    /// - Throws: `invalidArgument` for a layout of another shape or type; `outOfMemory`, `aborted`,
    ///   `closed`.
    ///
    /// The corresponding Python name is `convert_dispatch_output`.
    public func convertToStandardMoE(
        _ received: borrowing DispatchOutput, into layout: StandardMoELayout? = nil,
        on stream: DeviceStream
    ) throws(MoriError) -> StandardMoELayout {
        let round = received.lease.round
        let target: StandardMoELayout
        if let layout {
            target = layout
        } else {
            target = try makeStandardMoELayout(
                of: round.elementType, hiddenDim: round.hiddenDim,
                scaleElementType: round.scaleElementType)
        }
        try check(
            target, elementType: round.elementType, hiddenDim: round.hiddenDim,
            scaleElementType: round.scaleElementType)
        try pack(received, into: target, on: stream)
        return target
    }

    /// Sums the experts' output of each received row, weighted, into the registered buffer.
    ///
    /// - Parameters:
    ///   - expertOutput: [expertsPerRank, capacity, hidden].
    ///   - received: The round, dispatched with weights.
    ///   - layout: What `convertToStandardMoE` made of it.
    ///   - stream: Where the work goes.
    /// - Returns: The registered buffer, to be given to `combine` with `input: .registered`.
    /// - Throws: `invalidArgument` with what is legal; `aborted`, `closed`.
    ///
    /// The corresponding Python name is `convert_combine_input`.
    public func convertFromStandardMoE(
        _ expertOutput: DeviceTensor, of received: borrowing DispatchOutput,
        layout: StandardMoELayout, on stream: DeviceStream
    ) throws(MoriError) -> DeviceTensor {
        let trace = try activeTrace()
        try check(received)
        try check("expertOutput", expertOutput)
        let expected = [config.expertsPerRank, layout.capacity]
        guard expertOutput.shape.count == 3, Array(expertOutput.shape.prefix(2)) == expected else {
            throw MoriError(
                .invalidArgument,
                "expertOutput is \(expertOutput); legal is [\(expected[0]), \(expected[1]),"
                    + " hidden]: experts of this rank, and the layout's capacity")
        }
        guard let weights = received.weights else {
            throw MoriError(
                .invalidArgument,
                "this round was dispatched without weights, which the sum over experts needs; pass"
                    + " `weights` to dispatch")
        }
        let hidden = expertOutput.shape[2]
        let sums = try registeredCombineInput(
            of: expertOutput.elementType, hiddenDim: hidden, slot: received.lease.slot)
        try order(stream)
        try kernels.received(
            .sumExperts,
            OperatorKernels.ReceivedTensors(
                weights: weights, layout: layout, packed: expertOutput, output: sums),
            elementType: expertOutput.elementType,
            rowBytes: expertOutput.elementType.byteCount(of: hidden), scaleBytes: 0,
            slot: received.lease.slot, launch: try receivedLaunch(), isTraced: trace != nil,
            on: stream)
        return sums
    }

    /// How many received rows each expert of this rank has, i32 [expertsPerRank].
    ///
    /// Pairs of a row and an id: an id that a token has twice counts twice. The tensor is the
    /// caller's own.
    ///
    /// - Throws: `outOfMemory`; `invalidArgument` for another operator's output; `aborted`, `closed`.
    ///
    /// The corresponding Python name is `local_expert_count`.
    public func localExpertCount(
        of received: borrowing DispatchOutput, on stream: DeviceStream
    ) throws(MoriError) -> DeviceTensor {
        let trace = try activeTrace()
        try check(received)
        let counts = try DeviceTensor(
            shape: [config.expertsPerRank], elementType: .int32, on: world.device)
        try order(stream)
        try kernels.received(
            .countExperts,
            OperatorKernels.ReceivedTensors(indices: received.indices, counts: counts),
            elementType: .bfloat16, rowBytes: 0, scaleBytes: 0, slot: received.lease.slot,
            launch: try receivedLaunch(), isTraced: trace != nil, on: stream)
        return counts
    }

    private func pack(
        _ received: borrowing DispatchOutput, into layout: StandardMoELayout,
        on stream: DeviceStream
    ) throws(MoriError) {
        let trace = try activeTrace()
        try check(received)
        let round = received.lease.round
        try order(stream)
        try kernels.received(
            .packExperts,
            OperatorKernels.ReceivedTensors(
                tokens: received.tokens, indices: received.indices, scales: received.scales,
                layout: layout),
            elementType: round.elementType,
            rowBytes: round.elementType.byteCount(of: round.hiddenDim),
            scaleBytes: round.scaleElementType == nil ? 0 : config.scaleRowByteCount,
            slot: received.lease.slot, launch: try receivedLaunch(), isTraced: trace != nil,
            on: stream)
    }

    private func check(
        _ layout: StandardMoELayout, elementType: ElementType, hiddenDim: Int,
        scaleElementType: ElementType?
    ) throws(MoriError) {
        let experts = config.expertsPerRank
        guard layout.tokens.shape.count == 3 else {
            throw MoriError(
                .invalidArgument, "layout.tokens is \(layout.tokens); legal is three dimensions")
        }
        let capacity = layout.capacity
        try check(
            "layout.tokens", layout.tokens, shape: [experts, capacity, hiddenDim],
            elementType: elementType)
        guard layout.scales?.elementType == scaleElementType else {
            throw MoriError(
                .invalidArgument,
                "layout.scales is \(layout.scales.map { "\($0)" } ?? "nil") and the round's scales are"
                    + " \(scaleElementType.map { "\($0)" } ?? "nil"); make the layout with that"
                    + " scaleElementType")
        }
        if let scales = layout.scales {
            let columns = try scaleColumns(of: scales.elementType)
            try check(
                "layout.scales", scales, shape: [experts, capacity, columns],
                elementType: scales.elementType)
        }
    }
}

extension EPDispatchCombineOp {
    /// Sends each token once to every rank that hosts one of its experts, and receives this rank's.
    ///
    /// Every rank calls it in every round, with 0 tokens too. Does not block, does not synchronize,
    /// and may be captured in a graph: tensors are read when the work runs.
    ///
    /// - Parameters:
    ///   - tokens: [n, hidden], n from 0 to `maxInputTokensPerRank`, hidden at most `hiddenDim`, of
    ///     a type that fits the configuration's row; bf16 where `quantizesDispatch` casts it.
    ///   - weights: f32 [n, top-k], carried along; nil: none. All ranks alike.
    ///   - scales: [n, scaleDim] of any type of `scaleByteSize` bytes, or their bytes: u8
    ///     [n, scaleDim * scaleByteSize]; carried along; nil: none. All ranks alike.
    ///   - indices: i32 [n, top-k], expert ids. Ids that no rank hosts, negative ones among them,
    ///     are dropped; several experts on one rank make one copy.
    ///   - validTokenCount: i32 [1] on the device, 0 to n: how many of the n tokens count, read
    ///     when the work runs; nil: all.
    ///   - record: Takes note of where the tokens go, to be replayed; nil: nothing does. Not together
    ///     with `validTokenCount`.
    ///   - launch: Blocks and warps of this call; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes.
    /// - Returns: What this rank received. Combine or discard it before the next dispatch.
    /// - Throws: `invalidArgument` with what is legal, before anything is launched, the operator
    ///   staying usable; `abandoned`, `capacityExceeded`, `aborted`, `closed`.
    ///
    /// The corresponding Python name is `dispatch`.
    public func dispatch(
        _ tokens: DeviceTensor, weights: DeviceTensor? = nil, scales: DeviceTensor? = nil,
        indices: DeviceTensor, validTokenCount: DeviceTensor? = nil,
        recording record: RoutingRecord? = nil, launch: LaunchConfiguration? = nil,
        timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> DispatchOutput {
        if let record {
            try check(record)
            guard validTokenCount == nil else {
                throw MoriError(
                    .invalidArgument,
                    "recording needs a number of tokens that the host knows; pass either"
                        + " `recording` or `validTokenCount`")
            }
        }
        let input = OperatorKernels.DispatchInput(
            tokens: tokens, weights: weights, scales: scales, indices: indices,
            validTokenCount: validTokenCount)
        let (slot, round) = try begin(
            input, half: .both, launch: launch, timeout: timeout, on: stream)
        let output = output(of: round, slot: slot)
        if let record {
            try self.record(record, slot: slot, indices: indices, on: stream)
        }
        return output
    }

    /// Checks a dispatch, takes a slot for it and enqueues it, or its sending half.
    func begin(
        _ input: OperatorKernels.DispatchInput, half: OperatorKernels.Half,
        launch: LaunchConfiguration?, timeout: Duration?, on stream: DeviceStream
    ) throws(MoriError) -> (slot: Int, round: DispatchRound) {
        do throws(MoriError) {
            return try beginUncounted(
                input, half: half, launch: launch, timeout: timeout, on: stream)
        } catch {
            meter?.countRefusal(.dispatch, error)
            throw error
        }
    }

    @inline(__always)
    private func beginUncounted(
        _ input: OperatorKernels.DispatchInput, half: OperatorKernels.Half,
        launch: LaunchConfiguration?, timeout: Duration?, on stream: DeviceStream
    ) throws(MoriError) -> (slot: Int, round: DispatchRound) {
        let traced = try beginCall(half == .send ? "dispatchSend" : "dispatch")
        try check(timeout: timeout)
        let round = try validateDispatch(input)
        let slot = try takeSlot()
        do throws(MoriError) {
            let call = OperatorKernels.Call(
                verb: .dispatch, slot: slot,
                launch: try launchParameters(for: .dispatch, override: launch, workload(round)),
                elementType: round.elementType, hiddenDim: round.hiddenDim, timeout: timeout,
                hasWeights: round.hasWeights, half: half, replays: input.record != nil,
                quantizes: quantizes(input.tokens), isTraced: traced != nil)
            try order(stream)
            let kernels = kernels
            let sample = meter?.begin(on: stream)
            try kernels.dispatch(
                call, input, hasScales: round.scaleElementType != nil,
                tokenCount: round.tokenCount, on: stream)
            meter?.end(
                sample, of: measured(round, half, slot: slot), indices: input.indices,
                with: kernels, on: stream)
        } catch {
            releaseSlot(slot)
            throw error
        }
        traced?.end(slot: slot)
        return (slot, round)
    }

    /// What the meter has to know of a dispatch.
    func measured(
        _ round: DispatchRound, _ half: OperatorKernels.Half, slot: Int
    ) -> OperatorMeter.Call {
        // Tokens, expert ids, and what else the call has.
        var bytes = round.elementType.byteCount(of: round.hiddenDim) + 4 * config.expertsPerToken
        if round.hasWeights { bytes += 4 * config.expertsPerToken }
        if round.scaleElementType != nil { bytes += config.scaleRowByteCount }
        return OperatorMeter.Call(verb: .dispatch, half: half, slot: slot, rowByteCount: bytes)
    }

    /// Whether tokens are quantized on their way.
    private func quantizes(_ tokens: DeviceTensor) -> Bool {
        config.quantizesDispatch && tokens.elementType == .bfloat16
    }

    private func validateDispatch(
        _ input: OperatorKernels.DispatchInput
    ) throws(MoriError) -> DispatchRound {
        let tokens = input.tokens
        try checkRows("tokens", tokens)
        let count = tokens.shape[0]
        let hidden = tokens.shape[1]
        let topK = config.expertsPerToken
        guard count <= config.maxInputTokensPerRank else {
            throw MoriError(
                .invalidArgument,
                "\(count) tokens; this operator takes 0 to \(config.maxInputTokensPerRank)"
                    + " (maxInputTokensPerRank)")
        }
        guard tokens.elementType.isTokenType else {
            throw MoriError(
                .invalidArgument,
                "tokens are \(tokens.elementType); legal are "
                    + ElementType.tokenTypes.map(\.description).joined(separator: ", "))
        }
        try checkWholeBytes("tokens", tokens.elementType, hidden: hidden)
        // What is sent decides; bf16 tokens may be sent in fewer bits.
        let sentType = quantizes(tokens) ? config.elementType : tokens.elementType
        let rowBytes = sentType.byteCount(of: hidden)
        guard hidden > 0 && rowBytes <= config.dispatchRowByteCount else {
            throw MoriError(
                .invalidArgument,
                "tokens have rows of \(hidden) \(tokens.elementType), \(rowBytes) bytes; this"
                    + " operator has room for 1 to \(config.dispatchRowByteCount): hiddenDim"
                    + " \(config.hiddenDim) of \(config.elementType)")
        }
        try check(
            "indices", input.indices, rows: count, columns: topK, elementType: .int32)
        if let weights = input.weights {
            try check(
                "weights", weights, rows: count, columns: topK, elementType: .float32)
        }
        if quantizes(tokens), let scales = input.scales {
            throw MoriError(
                .invalidArgument,
                "scales are \(scales), but tokens are bf16, whose scales dispatch makes; pass none, or"
                    + " tokens of \(config.elementType)")
        }
        if let scales = input.scales {
            guard config.scaleDim > 0 else {
                throw MoriError(
                    .invalidArgument,
                    "scales are \(scales), but scaleDim is 0; set it, or pass no scales")
            }
            let columns = try scaleColumns(of: scales.elementType)
            try check(
                "scales", scales, rows: count, columns: columns, elementType: scales.elementType)
        }
        if let validTokenCount = input.validTokenCount {
            try check("validTokenCount", validTokenCount, shape: [1], elementType: .int32)
        }
        return DispatchRound(
            tokenCount: count, hiddenDim: hidden, elementType: sentType,
            scaleElementType: quantizes(tokens) ? .float32 : input.scales?.elementType,
            hasWeights: input.weights != nil)
    }

    /// Columns of a scales tensor of a type.
    ///
    /// - Throws: `invalidArgument` for a type that no scales can be of.
    func scaleColumns(of type: ElementType) throws(MoriError) -> Int {
        guard let columns = config.scaleColumns(of: type) else {
            throw MoriError(
                .invalidArgument,
                "scales are \(type), \(type.bitCount) bits each; legal is a type of"
                    + " \(config.scaleByteSize) bytes (scaleByteSize), or u8 for all"
                    + " \(config.scaleRowByteCount) bytes of a row")
        }
        return columns
    }

    /// The output of a round that occupies `slot`.
    func output(of round: DispatchRound, slot: Int) -> DispatchOutput {
        let capacity = maxReceivedTokens
        let topK = config.expertsPerToken
        let lease = lease(of: round, slot: slot, stage: .received)
        let kernels = lease.kernels
        return DispatchOutput(
            tokens: kernels.tensor(
                .receivedTokens, slot: slot, shape: [capacity, round.hiddenDim],
                elementType: round.elementType),
            weights: round.hasWeights
                ? kernels.tensor(
                    .receivedWeights, slot: slot, shape: [capacity, topK], elementType: .float32)
                : nil,
            scales: round.scaleElementType.map {
                kernels.tensor(
                    .receivedScales, slot: slot,
                    shape: [capacity, config.scaleColumns(of: $0) ?? config.scaleDim],
                    elementType: $0)
            },
            indices: kernels.tensor(
                .receivedIndices, slot: slot, shape: [capacity, topK], elementType: .int32),
            receivedTokenCount: kernels.tensor(
                .receivedCount, slot: slot, shape: [1], elementType: .int32),
            tokenCount: round.tokenCount, lease: lease)
    }

    /// How many rows a round received, once the work enqueued so far is done.
    ///
    /// - Throws: what the round failed with.
    public func receivedTokenCount(
        of received: borrowing DispatchOutput, on stream: DeviceStream
    ) async throws(MoriError) -> Int {
        try check(received)
        let count: [Int32] = try await received.receivedTokenCount.elements(on: stream)
        return Int(count.first ?? 0)
    }

    /// How many rows found no room in this rank's receive buffers (`maxTotalReceivedTokens`), once
    /// the work enqueued so far is done.
    ///
    /// The ranks that sent them left them out of their sums.
    ///
    /// - Throws: what the round failed with.
    public func droppedTokenCount(
        of received: borrowing DispatchOutput, on stream: DeviceStream
    ) async throws(MoriError) -> Int {
        try check(received)
        let tensor = kernels.tensor(
            .droppedCount, slot: received.lease.slot, shape: [1], elementType: .int32)
        let count: [Int32] = try await tensor.elements(on: stream)
        return Int(count.first ?? 0)
    }

    /// Where each received row came from, once the work enqueued so far is done.
    ///
    /// - Throws: what the round failed with.
    ///
    /// The corresponding Python name is `get_dispatch_src_token_pos`.
    public func sourceTokenPositions(
        of received: borrowing DispatchOutput, on stream: DeviceStream
    ) async throws(MoriError) -> [TokenPosition] {
        let count = try await receivedTokenCount(of: received, on: stream)
        let sources: [Int32] = try await kernels.tensor(
            .receivedSources, slot: received.lease.slot, shape: [count], elementType: .int32
        ).elements(on: stream)
        return sources.map { source in
            let (rank, token) = Int(source).quotientAndRemainder(
                dividingBy: config.maxInputTokensPerRank)
            return TokenPosition(rank: rank, token: token, rawValue: source)
        }
    }
}

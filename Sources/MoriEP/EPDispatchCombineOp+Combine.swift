extension EPDispatchCombineOp {
    /// Brings the experts' output back to the ranks that the tokens came from, and sums it.
    ///
    /// Row i of the output belongs to received row i. Each token's sum runs over the distinct ranks
    /// that it went to, unweighted, in ascending order of ranks, in fp32 with one rounding: the
    /// experts have multiplied by their weights and summed over their own experts before. Every
    /// rank calls it in every round that it dispatched, or discards. Does not block, does not
    /// synchronize, and may be captured in a graph.
    ///
    /// - Parameters:
    ///   - expertOutput: [rows, hidden] with at least as many rows as were received, of any token
    ///     type that fits the configuration's combine row. With `input: .registered` it is
    ///     `registeredCombineInput()`, or a view of it.
    ///   - received: What dispatch gave. Consumed; when this call throws, `reclaim()` gives it back.
    ///   - weights: f32 [rows, top-k] to be summed alike; nil: none. All ranks alike.
    ///   - input: Where the output lies; nil: the configuration's `combineInput`. All ranks alike.
    ///   - launch: Blocks and warps of this call; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - reset: Has no effect: rounds clean up after themselves.
    ///   - stream: Where the work goes; another one than dispatch's is ordered after it.
    /// - Returns: This rank's sums.
    /// - Throws: `invalidArgument` with what is legal, before anything is launched, the operator
    ///   staying usable; `aborted`, `closed`.
    ///
    /// The corresponding Python name is `combine`.
    public func combine(
        _ expertOutput: DeviceTensor, of received: consuming DispatchOutput,
        weights: DeviceTensor? = nil, input: CombineInput? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil, reset: Bool = false,
        on stream: DeviceStream
    ) throws(MoriError) -> CombineOutput {
        let rows = OperatorKernels.CombineRows(output: expertOutput, weights: weights)
        let call = try send(
            rows, of: received, input: input, half: .both, launch: launch, timeout: timeout,
            on: stream)
        received.lease.settle()
        releaseSlot(received.lease.slot)
        return output(of: received.lease, call)
    }

    /// Checks a combine and enqueues it, or its sending half.
    func send(
        _ rows: OperatorKernels.CombineRows, of received: borrowing DispatchOutput,
        input: CombineInput?, half: OperatorKernels.Half, launch: LaunchConfiguration?,
        timeout: Duration?, on stream: DeviceStream
    ) throws(MoriError) -> CombineCall {
        do throws(MoriError) {
            return try sendUncounted(
                rows, of: received, input: input, half: half, launch: launch, timeout: timeout,
                on: stream)
        } catch {
            meter?.countRefusal(.combine, error)
            throw error
        }
    }

    @inline(__always)
    private func sendUncounted(
        _ rows: OperatorKernels.CombineRows, of received: borrowing DispatchOutput,
        input: CombineInput?, half: OperatorKernels.Half, launch: LaunchConfiguration?,
        timeout: Duration?, on stream: DeviceStream
    ) throws(MoriError) -> CombineCall {
        let traced = try beginCall(half == .send ? "combineSend" : "combine")
        try check(received)
        let slot = received.lease.slot
        let input = input ?? config.combineInput
        try check(timeout: timeout)
        try validateCombine(rows.output, weights: rows.weights, input: input, slot: slot)
        let counts = [rows.output, rows.weights].compactMap { $0?.shape.first }
        let combine = CombineCall(
            tokenCount: received.lease.round.tokenCount,
            elementType: rows.output.elementType, hiddenDim: rows.output.shape[1],
            inputRows: counts.min() ?? Int.max, isExternal: input == .external,
            hasWeights: rows.weights != nil)
        try enqueue(
            combine, rows, slot: slot, half: half, launch: launch, timeout: timeout,
            isTraced: traced != nil, on: stream)
        traced?.end(slot: slot)
        return combine
    }

    /// Enqueues a combine that was checked, or half of it.
    func enqueue(
        _ combine: CombineCall, _ rows: OperatorKernels.CombineRows?, slot: Int,
        half: OperatorKernels.Half, launch: LaunchConfiguration?, timeout: Duration?,
        isTraced: Bool, on stream: DeviceStream
    ) throws(MoriError) {
        let call = OperatorKernels.Call(
            verb: .combine, slot: slot,
            launch: try launchParameters(for: .combine, override: launch, workload(combine)),
            elementType: combine.elementType, hiddenDim: combine.hiddenDim, timeout: timeout,
            hasWeights: combine.hasWeights, half: half, isTraced: isTraced)
        try order(stream)
        let kernels = kernels
        let sample = meter?.begin(on: stream)
        try kernels.combine(
            call, rows, inputRows: combine.inputRows, isExternal: combine.isExternal, on: stream)
        meter?.end(sample, of: measured(combine, half, slot: slot), with: kernels, on: stream)
    }

    /// What the meter has to know of a combine.
    private func measured(
        _ combine: CombineCall, _ half: OperatorKernels.Half, slot: Int
    ) -> OperatorMeter.Call {
        var bytes = combine.elementType.byteCount(of: combine.hiddenDim)
        if combine.hasWeights { bytes += 4 * config.expertsPerToken }
        return OperatorMeter.Call(verb: .combine, half: half, slot: slot, rowByteCount: bytes)
    }

    /// The sums of a round.
    func output(of lease: RoundLease, _ combine: CombineCall) -> CombineOutput {
        let kernels = lease.kernels
        return CombineOutput(
            tokens: kernels.tensor(
                .combineOutput, slot: lease.slot,
                shape: [lease.round.tokenCount, combine.hiddenDim],
                elementType: combine.elementType),
            weights: combine.hasWeights
                ? kernels.tensor(
                    .combineOutputWeights, slot: lease.slot,
                    shape: [lease.round.tokenCount, config.expertsPerToken],
                    elementType: .float32) : nil)
    }

    /// Checks that what is to be quantized can be.
    private func checkQuantization(
        of output: DeviceTensor, input: CombineInput
    ) throws(MoriError) {
        guard config.quantization != .none else { return }
        guard output.elementType == .bfloat16 else {
            throw MoriError(
                .invalidArgument,
                "expertOutput is \(output); with quantization \(config.quantization) legal is bf16")
        }
        guard config.kernelType != .intraNode || input == .external else {
            throw MoriError(
                .invalidArgument,
                "input is registered and quantization \(config.quantization): intranode's peers read"
                    + " that buffer in place, so nothing is sent that could be quantized; combine with"
                    + " input: .external")
        }
    }

    private func validateCombine(
        _ output: DeviceTensor, weights: DeviceTensor?, input: CombineInput, slot: Int
    ) throws(MoriError) {
        try checkRows("expertOutput", output)
        try checkCombineRow(elementType: output.elementType, hiddenDim: output.shape[1])
        try checkQuantization(of: output, input: input)
        if let weights {
            try checkRows("weights", weights)
            try check(
                "weights", weights, rows: weights.shape[0], columns: config.expertsPerToken,
                elementType: .float32)
        }
        guard input == .registered else { return }
        let registered = try registeredCombineInput(
            of: output.elementType, hiddenDim: output.shape[1], slot: slot)
        guard output.address == registered.address else {
            throw MoriError(
                .invalidArgument,
                "expertOutput is not the registered buffer; write into"
                    + " registeredCombineInput(), or combine with input: .external")
        }
    }
}

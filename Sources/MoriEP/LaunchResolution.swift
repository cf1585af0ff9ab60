import MoriDevice

extension EPDispatchCombineOp {
    /// The launch parameters in force for a verb, and where they come from.
    ///
    /// With `MORI_EP_LAUNCH_CONFIG_MODE=MANUAL`, the default: a call's own override, else the
    /// configuration's. With `AUTO` both are ignored: the tuning rule that fits best decides, else
    /// the guide's table; docs/tuning.md says how rules are found. Everything but an override is
    /// clamped to what this device can hold at once.
    ///
    /// On the host device the configuration's and the table's are clamped to the rank's share of the
    /// hardware threads: more warps than threads run, but only in each other's way. An override or a
    /// rule may ask for as many warps as the device holds.
    ///
    /// - Parameters:
    ///   - forCombine: Combine's, else dispatch's.
    ///   - tokenCount: Tokens of this rank, for the rules; nil: `maxInputTokensPerRank`.
    ///   - override: What the call would ask for; nil: nothing.
    /// - Returns: What a call is launched with.
    /// - Throws: `capacityExceeded` for an override that cannot be resident, with the largest that
    ///   can; `invalidArgument` for one without blocks or warps.
    ///
    /// The corresponding Python name is `get_launch_config`.
    public func launchParameters(
        forCombine: Bool, tokenCount: Int? = nil, override: LaunchConfiguration? = nil
    ) throws(MoriError) -> LaunchParameters {
        try resolve(
            forCombine ? .combine : .dispatch, override: override,
            workload(for: forCombine ? .combine : .dispatch, tokenCount: tokenCount))
    }

    /// What one call launches, moving `workload`.
    func launchParameters(
        for verb: OperatorKernels.Verb, override: LaunchConfiguration?,
        _ workload: @autoclosure () -> LaunchWorkload
    ) throws(MoriError) -> LaunchConfiguration {
        try resolve(verb, override: override, workload()).configuration
    }

    /// How work on received rows is laid out: as the largest dispatch, where that is resident.
    func receivedLaunch() throws(MoriError) -> LaunchConfiguration {
        try launchParameters(for: .received, override: nil, workload(for: .dispatch))
    }

    /// What a dispatch moves.
    func workload(_ round: DispatchRound) -> LaunchWorkload {
        LaunchWorkload(
            elementType: round.elementType.rawValue, tokenCount: round.tokenCount,
            hiddenDim: round.hiddenDim, expertsPerToken: config.expertsPerToken)
    }

    /// What a combine moves: as many sums as its dispatch had tokens.
    func workload(_ combine: CombineCall) -> LaunchWorkload {
        LaunchWorkload(
            elementType: combine.elementType.rawValue, tokenCount: combine.tokenCount,
            hiddenDim: combine.hiddenDim, expertsPerToken: config.expertsPerToken,
            isZeroCopy: !combine.isExternal, quantization: config.quantization.rawValue)
    }

    /// The largest call of a verb.
    private func workload(
        for verb: OperatorKernels.Verb, tokenCount: Int? = nil
    ) -> LaunchWorkload {
        let isCombine = verb == .combine
        let type = isCombine ? config.effectiveCombineElementType : config.elementType
        return LaunchWorkload(
            elementType: type.rawValue, tokenCount: tokenCount ?? config.maxInputTokensPerRank,
            hiddenDim: config.hiddenDim, expertsPerToken: config.expertsPerToken,
            isZeroCopy: isCombine && config.combineInput == .registered,
            quantization: isCombine ? config.quantization.rawValue : "none")
    }

    private func resolve(
        _ verb: OperatorKernels.Verb, override: LaunchConfiguration?,
        _ workload: @autoclosure () -> LaunchWorkload
    ) throws(MoriError) -> LaunchParameters {
        if launches.isAutomatic {
            let (wanted, source) = launches.automatic(
                verb == .combine ? .combine : .dispatch, workload())
            // Who wrote a rule for the host has tried it; the table was made for GPUs.
            let shares = source == .guide && deviceProperties.memoryIsHostMemory
            return LaunchParameters(
                configuration: shares ? clampedToShare(wanted) : try clamped(wanted, verb),
                wanted: wanted, source: source)
        }
        if let override {
            return LaunchParameters(
                configuration: try checked(override, verb), wanted: override, source: .override)
        }
        let wanted = config.launch
        return LaunchParameters(
            configuration: deviceProperties.memoryIsHostMemory
                ? clampedToShare(wanted) : try clamped(wanted, verb),
            wanted: wanted, source: .configuration)
    }

    /// A call's override, which is taken as it is or refused.
    private func checked(
        _ override: LaunchConfiguration, _ verb: OperatorKernels.Verb
    ) throws(MoriError) -> LaunchConfiguration {
        guard override.blocks > 0 && override.warpsPerBlock > 0 && override.rdmaBlocks >= 0
        else {
            throw MoriError(
                .invalidArgument,
                "a launch of \(override.blocks) blocks, \(override.rdmaBlocks) of them rdma, of"
                    + " \(override.warpsPerBlock) warps; legal are 1 or more blocks and warps")
        }
        let warps = min(override.warpsPerBlock, deviceProperties.maxWarpsPerBlock)
        let most = try kernels.maxResidentBlocks(verb, warpsPerBlock: warps)
        guard override.blocks <= most && override.warpsPerBlock == warps else {
            throw MoriError(
                .capacityExceeded,
                "a launch of \(override) cannot be resident on \(world.device); the largest"
                    + " with \(warps) warps per block is \(most)x\(warps)")
        }
        return override
    }

    /// As much of a launch as is resident at once.
    func clamped(
        _ wanted: LaunchConfiguration, _ verb: OperatorKernels.Verb
    ) throws(MoriError) -> LaunchConfiguration {
        var launch = wanted
        launch.warpsPerBlock = min(wanted.warpsPerBlock, deviceProperties.maxWarpsPerBlock)
        let most = try kernels.maxResidentBlocks(verb, warpsPerBlock: launch.warpsPerBlock)
        launch.blocks = min(wanted.blocks, max(1, most))
        launch.rdmaBlocks = min(wanted.rdmaBlocks, launch.blocks)
        return launch
    }

    /// As much of a launch as the rank's share of the hardware threads.
    func clampedToShare(_ wanted: LaunchConfiguration) -> LaunchConfiguration {
        let share = max(1, deviceProperties.computeUnits / max(1, world.localWorldSize))
        var launch = wanted
        launch.warpsPerBlock = min(
            wanted.warpsPerBlock, deviceProperties.maxWarpsPerBlock, share)
        launch.blocks = min(wanted.blocks, max(1, share / launch.warpsPerBlock))
        launch.rdmaBlocks = min(wanted.rdmaBlocks, launch.blocks)
        return launch
    }
}

extension EPDispatchCombineOp {
    /// The launch parameters in force for a verb: a call's own override, else the configuration's,
    /// clamped to what this device should hold.
    ///
    /// On the host device the configuration's are clamped to the rank's share of the hardware
    /// threads: more warps than threads run, but only in each other's way. An override may ask for
    /// as many warps as the device holds.
    ///
    /// - Throws: `capacityExceeded` for an override that cannot be resident, with the largest that
    ///   can; `invalidArgument` for one without blocks or warps.
    ///
    /// The corresponding Python name is `get_launch_config`.
    public func launchParameters(
        forCombine: Bool, override: LaunchConfiguration? = nil
    ) throws(MoriError) -> LaunchConfiguration {
        try launchParameters(for: forCombine ? .combine : .dispatch, override: override)
    }

    func launchParameters(
        for verb: OperatorKernels.Verb, override: LaunchConfiguration?
    ) throws(MoriError) -> LaunchConfiguration {
        let properties = deviceProperties
        if let override {
            guard override.blocks > 0 && override.warpsPerBlock > 0 && override.rdmaBlocks >= 0
            else {
                throw MoriError(
                    .invalidArgument,
                    "a launch of \(override.blocks) blocks, \(override.rdmaBlocks) of them rdma, of"
                        + " \(override.warpsPerBlock) warps; legal are 1 or more blocks and warps")
            }
            let warps = min(override.warpsPerBlock, properties.maxWarpsPerBlock)
            let most = try kernels.maxResidentBlocks(verb, warpsPerBlock: warps)
            guard override.blocks <= most && override.warpsPerBlock == warps else {
                throw MoriError(
                    .capacityExceeded,
                    "a launch of \(override) cannot be resident on \(world.device); the largest"
                        + " with \(warps) warps per block is \(most)x\(warps)")
            }
            return override
        }
        var launch = config.launch
        launch.warpsPerBlock = min(launch.warpsPerBlock, properties.maxWarpsPerBlock)
        if properties.memoryIsHostMemory {
            let share = max(1, properties.computeUnits / max(1, world.localWorldSize))
            launch.warpsPerBlock = min(launch.warpsPerBlock, share)
            launch.blocks = min(launch.blocks, max(1, share / launch.warpsPerBlock))
        } else {
            let most = try kernels.maxResidentBlocks(verb, warpsPerBlock: launch.warpsPerBlock)
            launch.blocks = min(launch.blocks, max(1, most))
        }
        launch.rdmaBlocks = min(launch.rdmaBlocks, launch.blocks)
        return launch
    }
}

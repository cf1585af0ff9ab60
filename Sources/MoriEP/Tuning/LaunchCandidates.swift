import MoriDevice

extension EPDispatchCombineOp {
    /// What is launched in AUTO mode where no rule fits: the guide's table, clamped.
    package func launchWithoutRules(forCombine: Bool) throws(MoriError) -> LaunchConfiguration {
        let wanted = LaunchPolicy.guide(config.kernelType)
        return deviceProperties.memoryIsHostMemory
            ? clampedToShare(wanted) : try clamped(wanted, forCombine ? .combine : .dispatch)
    }

    /// Launches worth trying for a verb, the one without rules first, none twice, all resident.
    package func launchesWorthTrying(
        forCombine: Bool
    ) throws(MoriError) -> [LaunchConfiguration] {
        var launches = [try launchWithoutRules(forCombine: forCombine)]
        for grid in deviceProperties.memoryIsHostMemory ? hostGrids : Self.deviceGrids
        where grid.warps <= deviceProperties.maxWarpsPerBlock {
            let most = try kernels.maxResidentBlocks(
                forCombine ? .combine : .dispatch, warpsPerBlock: grid.warps)
            guard grid.blocks <= most else { continue }
            for rdmaBlocks in rdmaShares(of: grid.blocks) {
                let launch = LaunchConfiguration(
                    blocks: grid.blocks, rdmaBlocks: rdmaBlocks, warpsPerBlock: grid.warps)
                if !launches.contains(launch) { launches.append(launch) }
            }
        }
        return launches
    }

    private typealias Grid = (blocks: Int, warps: Int)

    /// A warp of the host device is a thread: more than twice the processor's only wait for each other.
    private var hostGrids: [Grid] {
        var grids: [Grid] = []
        var threads = 1
        while threads <= 2 * deviceProperties.computeUnits {
            grids += [(threads, 1), (1, threads)]
            if threads >= 4 { grids.append((threads / 2, 2)) }
            threads *= 2
        }
        return grids
    }

    private static let deviceGrids: [Grid] = [1, 2, 4, 8, 16].flatMap { warps in
        [16, 32, 48, 64, 80, 96, 128, 160, 192, 224, 256, 304].map { ($0, warps) }
    }

    /// How many of the blocks serve the network; one way where the kernel type has no such blocks.
    private func rdmaShares(of blocks: Int) -> [Int] {
        switch config.kernelType {
        case .intraNode, .interNode, .asyncLL: [0]
        case .interNodeV1, .interNodeV1LL: [0, blocks / 2, blocks * 2 / 3]
        }
    }
}

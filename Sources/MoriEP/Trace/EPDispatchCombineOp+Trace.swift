public import MoriDevice
import MoriShmem

// Traces: what a round's kernels, host and network did, for `SymmetricMemory.exportTrace`.

extension EPDispatchCombineOp {
    /// Begins to record phases, signals and waits of this operator's kernels, the calls of its host, and
    /// what its proxy does; `SymmetricMemory.exportTrace` writes them.
    ///
    /// Recorded is what is enqueued after this call, and graphs that are captured after it. Every rank
    /// whose part is to be seen calls it. Another call forgets what was recorded and begins anew; a
    /// recovery of the world ends the recording. While nothing is recorded it costs nothing: a traced
    /// call runs other kernels. On a GPU this compares its clock with the host's, by 16 small launches on a
    /// stream of their own, and blocks until they have answered, 0.2 s at most.
    ///
    /// - Parameters:
    ///   - recordCapacity: Records of 16 bytes that this rank keeps, from 1,024 to 16,777,216; a round takes
    ///     some ten for each warp and rank. What finds no room is counted, and the file says so.
    ///   - stream: Where the recording begins: work enqueued later on it is seen.
    /// - Throws: `invalidArgument`; `unsupported` where the device's library has no traced kernels;
    ///   `capacityExceeded` where the operator's launch is not resident with them, with one that is;
    ///   `outOfMemory`, `aborted`, `closed`.
    ///
    /// The corresponding Python name is `get_debug_time_buf`.
    public func startTrace(
        recordCapacity: Int = 1 << 16, on stream: DeviceStream
    ) throws(MoriError) {
        try checkUsable()
        try checkNotCapturing(stream)
        guard (1 << 10...1 << 24).contains(recordCapacity) else {
            throw MoriError(
                .invalidArgument,
                "recordCapacity is \(recordCapacity); legal are 1,024 to 16,777,216 records")
        }
        guard world.device.canTrace else {
            throw MoriError(
                .unsupported,
                "\(world.device.library.path) was built without the kernels that leave traces; build it"
                    + " without MORI_EP_TRACES=0, by make"
                    + " \(KernelLibrary.target(world.device.kind))")
        }
        try checkLaunchesFitTraced()
        try order(stream)
        let kernels = kernels
        let trace = try OperatorTrace(of: self, kernels: kernels, capacity: recordCapacity)
        try trace.memory.attach(to: kernels, on: stream)
        kernels.keep(trace.memory)
        let former = state.withLock { state in
            defer { state.trace = trace }
            return state.trace
        }
        if let former {
            former.stop()
            world.delist(former)
        }
        trace.startNetwork()
        world.enlist(trace)
    }

    /// Ends the recording; what was recorded stays until it is exported.
    ///
    /// - Parameter stream: Where it ends: work enqueued before on it is seen.
    /// - Throws: `aborted`, `closed`.
    public func stopTrace(on stream: DeviceStream) throws(MoriError) {
        try checkUsable()
        try checkNotCapturing(stream)
        try order(stream)
        try kernels.point(toTrace: 0, on: stream)
        forgetTrace()
    }

    /// Kernels that leave traces may take more registers, and fewer of their blocks fit at once.
    private func checkLaunchesFitTraced() throws(MoriError) {
        for forCombine in [false, true] {
            let launch = try launchParameters(forCombine: forCombine).configuration
            let most = try kernels.maxResidentBlocks(
                forCombine ? .combine : .dispatch, warpsPerBlock: launch.warpsPerBlock,
                isTraced: true)
            guard launch.blocks > most else { continue }
            let fitting =
                most > 0
                ? "fit as \(most)x\(launch.warpsPerBlock) at most; make the operator with such a launch"
                : "do not fit in blocks of \(launch.warpsPerBlock) warps; make the operator with fewer"
            throw MoriError(
                .capacityExceeded,
                "\(forCombine ? "combine" : "dispatch") is launched as \(launch), and kernels that leave"
                    + " traces \(fitting) to trace it")
        }
    }

    private func checkNotCapturing(_ stream: DeviceStream) throws(MoriError) {
        guard try stream.isCapturing() else { return }
        throw MoriError(
            .invalidArgument,
            "the stream is captured, and a trace begins and ends at once; call this before or after the"
                + " capture")
    }

    /// Leaves calls out between others that are recorded, or goes on: what a trace costs is measured so.
    package func pauseTrace(_ isPaused: Bool) {
        state.withLock { state in
            if isPaused, let trace = state.trace {
                state.pausedTrace = trace
                state.trace = nil
            } else if !isPaused, let trace = state.pausedTrace {
                state.trace = trace
                state.pausedTrace = nil
            }
        }
    }

    /// Records nothing more.
    func forgetTrace() {
        let trace = state.withLock { state in
            defer {
                state.trace = nil
                state.pausedTrace = nil
            }
            return state.trace ?? state.pausedTrace
        }
        trace?.stop()
    }
}

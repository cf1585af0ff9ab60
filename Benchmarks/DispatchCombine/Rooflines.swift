import MoriDevice
import MoriEP
import MoriOracle

/// The rooflines of both phases, for the device that the world is on.
struct Rooflines {
    /// The two phases.
    enum Verb: CaseIterable {
        case dispatch
        case combine
    }

    private enum Kind {
        case host(dispatch: RooflineRun, combine: RooflineRun)
        case device(
            dispatch: DeviceRoofline, combine: DeviceRoofline, marks: PhaseMarks,
            clock: EventClock, stream: DeviceStream)
    }

    private let kind: Kind
    /// The loops to choose the better one of.
    let loops: [RooflineLoop]

    /// Lays the loops over the tensors of a round that was run before.
    init<Element, Combined>(
        _ run: RankRun<Element, Combined>, _ mode: RankRun<Element, Combined>.Mode
    ) throws(MoriError) {
        guard let received = mode.received, let combined = mode.combined else {
            throw MoriError(.invalidArgument, "a roofline needs the tensors of a round before it")
        }
        let op = run.op
        let landing = try op.registeredCombineInput(
            of: Combined.elementType, hiddenDim: run.settings.workload.hidden)
        let external = mode.input == .external ? mode.expertOutput : nil
        if try op.world.device.properties().memoryIsHostMemory {
            loops = [.cached, .streaming]
            let dispatchLaunch = try op.launchParameters(forCombine: false).configuration
            let combineLaunch = try op.launchParameters(forCombine: true).configuration
            let threads = (
                dispatch: dispatchLaunch.blocks * dispatchLaunch.warpsPerBlock,
                combine: combineLaunch.blocks * combineLaunch.warpsPerBlock
            )
            let (tokens, rank) = (run.buffers.tokens, run.rank)
            if run.settings.sendsPackets {
                func roofline(like rows: DeviceTensor) throws(MoriError) -> NodeRoofline {
                    try NodeRoofline(
                        run.routes, rank: rank, nodes: run.settings.nodes, like: rows,
                        on: op.world.device)
                }
                kind = .host(
                    dispatch: try roofline(like: tokens).dispatch(
                        tokens: tokens, received: received, threads: threads.dispatch),
                    combine: try roofline(like: combined).combine(
                        external: external, registered: landing, output: combined,
                        threads: threads.combine))
                return
            }
            kind = .host(
                dispatch: .dispatch(
                    run.routes, rank: rank, tokens: tokens, received: received,
                    threads: threads.dispatch),
                combine: .combine(
                    run.routes, rank: rank, external: external, landing: landing,
                    output: combined, maxTokens: op.config.maxInputTokensPerRank,
                    threads: threads.combine))
            return
        }
        loops = [.deviceCopy]
        let own = combined.shape[0]
        let rows = run.routes.receivedCounts[run.rank]
        kind = .device(
            dispatch: DeviceRoofline(
                from: run.buffers.tokens, to: received, rows: rows, unavoidableRows: own + rows),
            combine: DeviceRoofline(
                from: combined, to: landing, rows: rows,
                unavoidableRows: (external == nil ? rows : 3 * rows) + own),
            marks: try PhaseMarks(on: op.world.device), clock: run.clock, stream: run.stream)
    }

    /// Runs one of the loops once.
    func measure(_ verb: Verb, _ loop: RooflineLoop) async throws(MoriError) -> Interval {
        switch kind {
        case .host(let dispatch, let combine):
            return try await (verb == .dispatch ? dispatch : combine).measure(loop)
        case .device(let dispatch, let combine, let marks, let clock, let stream):
            return try await (verb == .dispatch ? dispatch : combine).measure(
                on: stream, marks: marks, clock: clock)
        }
    }
}

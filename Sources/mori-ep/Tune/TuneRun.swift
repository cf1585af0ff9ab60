import MoriDevice
import MoriEP
import MoriShmem

/// One rank's part of a search: the rounds, and what the ranks tell each other about them.
///
/// A call takes as long as the slowest rank needs for it. Every rank is told every rank's times, so all
/// come to the same decisions without a word more.
struct TuneRun {
    private let options: TuneCommand
    private let op: EPDispatchCombineOp
    private let stream: DeviceStream
    private let marks: (DeviceEvent, DeviceEvent)

    private var world: SymmetricMemory { op.world }

    /// Makes the operator; collective.
    init(_ options: TuneCommand, in world: SymmetricMemory) async throws(MoriError) {
        self.options = options
        let config = EPDispatchCombineConfig(
            elementType: options.dispatchType, combineElementType: options.combineType,
            hiddenDim: options.hidden, maxInputTokensPerRank: options.tokens.values.max() ?? 1,
            expertsPerRank: options.expertsPerRank, expertsPerToken: options.topk,
            quantization: options.quantization, kernelType: options.kernel,
            devicesPerNode: options.gpusPerNode ?? world.localWorldSize)
        op = try await EPDispatchCombineOp(config, in: world)
        stream = try DeviceStream(on: world.device)
        marks = (
            try DeviceEvent(on: world.device, timed: true),
            try DeviceEvent(on: world.device, timed: true)
        )
    }

    /// The whole search.
    func run() async throws(MoriError) -> TuneReport {
        let dispatches = try op.launchesWorthTrying(forCombine: false)
        let combines = try op.launchesWorthTrying(forCombine: true)
        var report = TuneReport(
            device: try world.device.properties(), kernel: options.kernel,
            worldSize: world.worldSize, tried: (dispatches.count, combines.count))
        for tokens in options.tokens.values {
            let round = try await Round(self, tokens: tokens)
            let search = LaunchSearch(candidates: dispatches.count, finalRounds: options.rounds)
            let dispatch = try await search.run { (candidate) async throws(MoriError) in
                try await round.run(
                    dispatches[candidate], combines[0], round.modes[0]
                ).dispatch
            }
            report.add(row(.dispatch, tokens, options.dispatchType, dispatches, dispatch))
            for mode in round.modes {
                let search = LaunchSearch(
                    candidates: combines.count, finalRounds: options.rounds)
                let combine = try await search.run { (candidate) async throws(MoriError) in
                    try await round.run(dispatches[0], combines[candidate], mode).combine
                }
                var found = row(
                    .combine, tokens, op.config.effectiveCombineElementType, combines, combine)
                found.isZeroCopy = round.modes.count > 1 ? mode == .registered : nil
                found.quantization = options.quantization
                report.add(found)
            }
        }
        try await op.close()
        return report
    }

    private func row(
        _ phase: TuneReport.Phase, _ tokens: Int, _ type: ElementType,
        _ launches: [LaunchConfiguration], _ finding: LaunchSearch.Finding
    ) -> TuneReport.Row {
        TuneReport.Row(
            phase: phase, elementType: type, tokens: tokens, hidden: options.hidden,
            topk: options.topk, defaultLaunch: launches[0], launch: launches[finding.winner],
            finding: finding)
    }

    /// The rounds of one number of tokens.
    struct Round {
        private let run: TuneRun
        private let tokens: DeviceTensor
        private let indices: DeviceTensor
        private let expertOutput: DeviceTensor
        /// The ways of combining that the kernel does differently.
        let modes: [CombineInput]

        init(_ run: TuneRun, tokens count: Int) async throws(MoriError) {
            self.run = run
            let (op, stream) = (run.op, run.stream)
            let config = op.config
            tokens = try DeviceTensor(
                shape: [count, config.hiddenDim], elementType: config.elementType,
                on: stream.device)
            // Small numbers in every type, so that no sum overflows.
            try tokens.fill(with: 0x11, on: stream)
            indices = try DeviceTensor(
                Self.routing(config, tokens: count, world: op.world, seed: run.options.seed),
                shape: [count, config.expertsPerToken], on: stream)
            modes = config.differentCombineInputs
            // The first round tells how many rows there are; the routing stays.
            let received = try op.dispatch(tokens, indices: indices, on: stream)
            let rows = try await op.receivedTokenCount(of: received, on: stream)
            let registered = try op.registeredCombineInput(
                of: config.effectiveCombineElementType, hiddenDim: config.hiddenDim)
            try registered.prefix(rows).fill(with: 0x11, on: stream)
            expertOutput = try DeviceTensor(
                shape: [rows, config.hiddenDim], elementType: config.effectiveCombineElementType,
                on: stream.device)
            try expertOutput.fill(with: 0x11, on: stream)
            _ = try op.combine(expertOutput, of: received, input: .external, on: stream)
            try await stream.completion()
        }

        /// Distinct experts for each token, from a seed, another one for each rank.
        private static func routing(
            _ config: EPDispatchCombineConfig, tokens: Int, world: SymmetricMemory, seed: UInt64
        ) -> [Int32] {
            var generator = SplitMix(seed: seed &+ UInt64(world.rank) &* 0x9E37_79B9)
            var experts = Array(0..<Int32(config.expertsPerRank * world.worldSize))
            var indices: [Int32] = []
            for _ in 0..<tokens {
                for place in 0..<min(config.expertsPerToken, experts.count) {
                    experts.swapAt(
                        place, Int.random(in: place..<experts.count, using: &generator))
                }
                indices += experts.prefix(config.expertsPerToken)
            }
            return indices
        }

        /// One round with these launches: microseconds of the slowest rank.
        func run(
            _ dispatch: LaunchConfiguration, _ combine: LaunchConfiguration, _ input: CombineInput
        ) async throws(MoriError) -> (dispatch: Double, combine: Double) {
            let (op, stream) = (run.op, run.stream)
            try await op.world.barrier()
            try stream.record(run.marks.0)
            let received = try op.dispatch(
                tokens, indices: indices, launch: dispatch, on: stream)
            try stream.record(run.marks.1)
            try await stream.completion()
            let dispatchTime = try run.marks.1.elapsed(since: run.marks.0)
            let source =
                input == .external
                ? expertOutput
                : try op.registeredCombineInput(
                    of: op.config.effectiveCombineElementType, hiddenDim: op.config.hiddenDim)
            try await op.world.barrier()
            try stream.record(run.marks.0)
            _ = try op.combine(source, of: received, input: input, launch: combine, on: stream)
            try stream.record(run.marks.1)
            try await stream.completion()
            let combineTime = try run.marks.1.elapsed(since: run.marks.0)
            return try await slowest(dispatchTime, combineTime)
        }

        private func slowest(
            _ dispatch: Duration, _ combine: Duration
        ) async throws(MoriError) -> (dispatch: Double, combine: Double) {
            let text = "\(dispatch.nanoseconds) \(combine.nanoseconds)"
            var most = (dispatch: 0.0, combine: 0.0)
            for bytes in try await run.world.allGather(Array(text.utf8)) {
                let times = String(decoding: bytes, as: UTF8.self).split(separator: " ")
                    .compactMap { Double($0) }
                guard times.count == 2 else { continue }
                most.dispatch = max(most.dispatch, times[0] / 1000)
                most.combine = max(most.combine, times[1] / 1000)
            }
            return most
        }
    }
}

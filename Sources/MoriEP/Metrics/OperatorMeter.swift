import CoreMetrics
import MoriDevice
import MoriShmem

/// Counts an operator's rounds, where somebody collects metrics (docs/metrics.md).
///
/// A call enqueues two events and two small copies behind its kernels and goes on; what they say is
/// counted once the stream has come there, on a task of its own and in the stream's order. Calls inside
/// a captured graph are not measured.
final class OperatorMeter: Sendable {
    /// What is measured of one call.
    struct Call: Sendable {
        var verb: OperatorKernels.Verb
        var half: OperatorKernels.Half
        var slot: Int
        /// Bytes of one row with all that it carries along.
        var rowByteCount: Int
    }

    /// A call that the device is done with.
    private struct Finished: Sendable {
        var call: Call
        var sample: RoundSample
        var kernels: OperatorKernels
    }

    private struct State {
        var spare: [RoundSample] = []
        /// In the order in which the device finished them.
        var finished: [Finished] = []
        var isCounting = false
    }

    /// What whoever counts remembers; one at a time.
    private struct Ledger {
        /// Rows that a slot's round in force has sent.
        var sentRows: [Int]
        /// The kernels whose numbers these are; after a recovery they begin anew.
        weak var kernels: OperatorKernels?
        /// What the network was last counted up to.
        var network = NetworkStatistics()
        /// By slot, what its waits for each rank were last counted up to.
        var waits: [Int: [UInt64]] = [:]

        mutating func begin(_ kernels: OperatorKernels) {
            guard self.kernels !== kernels else { return }
            self.kernels = kernels
            network = NetworkStatistics()
            waits = [:]
        }
    }

    private let handles: MeterHandles
    private let routes: ExpertRoutes
    private let worldSize: Int
    private let expertIDCapacity: Int
    private let device: Device
    private let state = Locked(State())
    private let ledger: Locked<Ledger>

    /// Makes the handles; nil where nobody collects metrics.
    init?(_ config: EPDispatchCombineConfig, in world: SymmetricMemory) {
        guard let metrics = world.metrics else { return nil }
        handles = MeterHandles(metrics, config.kernelType, worldSize: world.worldSize)
        routes = ExpertRoutes(config, worldSize: world.worldSize)
        worldSize = world.worldSize
        expertIDCapacity = config.maxInputTokensPerRank * config.expertsPerToken
        device = world.device
        ledger = Locked(Ledger(sentRows: Array(repeating: 0, count: config.slots)))
    }

    // -------------------------------------------------------------------------------------------
    // Around a call

    /// Marks the begin of a call; nil where it cannot be measured, which is no failure of the call.
    func begin(on stream: DeviceStream) -> RoundSample? {
        guard (try? stream.isCapturing()) == false else { return nil }
        let spare = state.withLock { $0.spare.popLast() }
        guard
            let sample = try? spare
                ?? RoundSample(
                    worldSize: worldSize, expertIDCount: expertIDCapacity, on: device),
            (try? sample.begin(on: stream)) != nil
        else { return nil }
        return sample
    }

    /// Marks the end of a call that was enqueued; `indices` are the expert ids that a dispatch sends by.
    func end(
        _ sample: RoundSample?, of call: Call, indices: DeviceTensor? = nil,
        with kernels: OperatorKernels, on stream: DeviceStream
    ) {
        guard let sample,
            (try? sample.finish(slot: call.slot, of: kernels, indices: indices, on: stream)) != nil
        else { return }
        let finished = Finished(call: call, sample: sample, kernels: kernels)
        try? stream.notify { [self] in take(finished) }
    }

    /// Counts a call that threw.
    func countRefusal(_ verb: OperatorKernels.Verb, _ error: MoriError) {
        handles.countRefusal(verb, error.code)
    }

    // -------------------------------------------------------------------------------------------
    // Behind it

    /// On a thread of the runtime, which must not call the runtime back.
    private func take(_ finished: Finished) {
        let begins = state.withLock { state in
            state.finished.append(finished)
            defer { state.isCounting = true }
            return !state.isCounting
        }
        if begins { Task.detached { self.countFinished() } }
    }

    private func countFinished() {
        while let finished = next() {
            count(finished)
            state.withLock { $0.spare.append(finished.sample) }
        }
    }

    private func next() -> Finished? {
        state.withLock { state in
            guard !state.finished.isEmpty else {
                state.isCounting = false
                return nil
            }
            return state.finished.removeFirst()
        }
    }

    /// Suspends until everything that the device has finished is counted, a second at most, and counts
    /// what the network has done since.
    func settle(_ kernels: OperatorKernels) async {
        for _ in 0..<1000 where state.withLock({ $0.isCounting }) {
            try? await Task.sleep(for: .milliseconds(1))
        }
        countNetwork(kernels)
    }

    private func count(_ finished: Finished) {
        let call = finished.call
        let numbers = finished.sample.numbers
        countNetwork(finished.kernels)
        countWaits(finished)
        // The world counts its failure; how far a void round came is nobody's number.
        guard !numbers.isVoid else { return }
        if let duration = try? finished.sample.duration() {
            handles.record(duration, call.verb, call.half)
        }
        switch call.verb {
        case .dispatch:
            if call.half != .receive { countSent(finished, numbers) }
            guard call.half != .send else { return }
            handles.countReceived(numbers, rowByteCount: call.rowByteCount)
        case .combine:
            let sent = ledger.withLock { $0.sentRows[call.slot] }
            if call.half != .receive {
                handles.countBytes(.combine, sent: numbers.receivedCount * call.rowByteCount)
            }
            guard call.half != .send else { return }
            handles.countBytes(.combine, received: sent * call.rowByteCount)
            handles.countRound(.combine)
        case .received: break
        }
    }

    private func countSent(_ finished: Finished, _ numbers: RoundSample.Numbers) {
        let rows = routes.rowsByRank(
            finished.sample.expertIDs(numbers.tokenCount * routes.expertsPerToken),
            without: finished.kernels.generation.maskedRanks)
        let total = rows.reduce(0, +)
        ledger.withLock { $0.sentRows[finished.call.slot] = total }
        handles.countSent(
            tokens: numbers.tokenCount, rowsByRank: rows,
            byteCount: total * finished.call.rowByteCount)
    }

    /// Counts what the proxy has done since it was last counted.
    private func countNetwork(_ kernels: OperatorKernels) {
        ledger.withLock { ledger in
            guard let now = kernels.networkStatistics else { return }
            ledger.begin(kernels)
            handles.countNetwork(now - ledger.network)
            ledger.network = now
        }
    }

    /// Counts how long the slot's warps have waited since it was last counted.
    private func countWaits(_ finished: Finished) {
        let now = finished.sample.waits
        let slot = finished.call.slot
        let before = ledger.withLock { ledger in
            ledger.begin(finished.kernels)
            let before = ledger.waits[slot] ?? Array(repeating: 0, count: now.count)
            ledger.waits[slot] = zip(before, now).map(max)
            return before
        }
        for (peer, (waited, counted)) in zip(now, before).enumerated() where waited > counted {
            // Not more: a later call of another stream may have been counted before this one.
            handles.countWait(finished.call.verb, peer: peer, Int64(clamping: waited - counted))
        }
    }
}

/// Where tokens go by their expert ids, as kernels decide it.
struct ExpertRoutes: Sendable {
    private let config: EPDispatchCombineConfig
    private let worldSize: Int
    private let expertCount: Int

    init(_ config: EPDispatchCombineConfig, worldSize: Int) {
        self.config = config
        self.worldSize = worldSize
        expertCount = config.totalExpertCount(worldSize: worldSize)
    }

    var expertsPerToken: Int { config.expertsPerToken }

    /// Rows that tokens with these expert ids send to each rank: one for each token and distinct rank.
    func rowsByRank(_ expertIDs: [Int32], without masked: Set<Int>) -> [Int] {
        var rows = [Int](repeating: 0, count: worldSize)
        // The token that a rank was last counted for.
        var lastToken = [Int](repeating: -1, count: worldSize)
        for (place, id) in expertIDs.enumerated() where id >= 0 && Int(id) < expertCount {
            let rank = config.rank(ofExpert: Int(id))
            let token = place / expertsPerToken
            guard lastToken[rank] != token, !masked.contains(rank) else { continue }
            lastToken[rank] = token
            rows[rank] += 1
        }
        return rows
    }
}

import MoriDevice
import MoriShmem

/// What one rank records of an operator: its kernels, its host's calls, its proxy.
final class OperatorTrace: TraceSource {
    /// A call of the host.
    struct HostCall: Sendable {
        let trace: OperatorTrace
        let name: StaticString
        let begin: UInt64

        /// The call returns; it was about a slot.
        func end(slot: Int) { trace.note(self, slot: slot, end: TraceEvent.now()) }
    }

    private struct State {
        var calls: [(name: StaticString, slot: Int, begin: UInt64, end: UInt64)] = []
        var lost = 0
        var isRecording = true
    }

    private let rank: Int
    private let name: String
    private let expertRanks: [Int]
    private let capacity: Int
    let memory: TraceMemory
    private let device: Device
    /// How the device's clock was compared with the host's when this began.
    private let begin: DeviceClock.Anchor?
    private let network: NetworkTrace?
    private let state = Locked(State())

    init(
        of op: EPDispatchCombineOp, kernels: OperatorKernels, capacity: Int
    ) throws(MoriError) {
        let config = op.config
        rank = op.world.rank
        name = config.kernelType.description
        let masked = kernels.generation.maskedRanks
        expertRanks = (0..<config.totalExpertCount(worldSize: op.world.worldSize)).map { expert in
            let rank = config.rank(ofExpert: expert)
            return masked.contains(rank) ? -1 : rank
        }
        self.capacity = capacity
        device = op.world.device
        memory = try TraceMemory(
            capacity: capacity, expertCount: expertRanks.count, slotCount: config.slots,
            on: op.world.device)
        begin = try Self.compareClock(of: device, memory, patience: .milliseconds(200))
        network = kernels.networkTrace
    }

    /// Compares the clocks; nil where there is one only, or the device is too busy to tell its time.
    private static func compareClock(
        of device: Device, _ memory: TraceMemory, patience: Duration
    ) throws(MoriError) -> DeviceClock.Anchor? {
        guard device.kind != .host else { return nil }
        return try DeviceClock.compare(
            on: device, using: memory.clockWord, patience: patience)
    }

    /// How times of the kernels' records become the host's; nil: they are.
    private func clock() throws(MoriError) -> DeviceClock? {
        guard device.kind != .host else { return nil }
        // The work that is to be seen is done, so the device has time to answer.
        let end = try Self.compareClock(of: device, memory, patience: .seconds(1))
        guard let clock = DeviceClock(begin: begin, end: end) else {
            throw MoriError(
                .timedOut,
                "\(device) did not tell its time within 1 s, and without it no record can be placed;"
                    + " await the stream's completion before the export")
        }
        return clock
    }

    /// Begins to record what the proxy does.
    func startNetwork() { network?.start(capacity: capacity) }

    /// A call of the host begins.
    func call(_ name: StaticString) -> HostCall {
        HostCall(trace: self, name: name, begin: TraceEvent.now())
    }

    private func note(_ call: HostCall, slot: Int, end: UInt64) {
        state.withLock { state in
            guard state.calls.count < capacity else {
                state.lost += 1
                return
            }
            state.calls.append((call.name, slot, call.begin, end))
        }
    }

    var isRecording: Bool { state.withLock { $0.isRecording } }

    /// Records nothing more.
    func stop() {
        state.withLock { $0.isRecording = false }
        network?.stop()
    }

    func collect(number: Int) async throws(MoriError) -> CollectedTrace {
        var content = try await memory.read()
        let clock = try clock()
        if let clock {
            for place in content.records.indices {
                content.records[place].time = clock.hostTime(of: content.records[place].time)
            }
        }
        let first = number * TraceEvent.tracksOfOperator
        var trace = CollectedTrace(name: name)
        var timeline = WarpTimeline(rank: rank, number: number)
        timeline.add(content.records)
        trace.events = timeline.events
        trace.tracks = timeline.tracks
        trace.mended = timeline.mended
        trace.clock = clock
        trace.expertRanks = expertRanks
        trace.chosen = content.chosen
        addCalls(to: &trace, first: first)
        if let network {
            trace.events += network.events(first: first)
            trace.tracks.append(.init(number: first + TraceEvent.proxyTrack, name: "proxy"))
            trace.tracks.append(.init(number: first + TraceEvent.networkTrack, name: "network"))
        }
        trace.lost = content.lost + state.withLock { $0.lost } + (network?.lost ?? 0)
        return trace
    }

    /// The host's calls; those of several threads at once get several tracks.
    private func addCalls(to trace: inout CollectedTrace, first: Int) {
        var ends: [UInt64] = []
        for call in state.withLock({ $0.calls }).sorted(by: { $0.begin < $1.begin }) {
            let lane = ends.firstIndex { $0 <= call.begin } ?? ends.count
            let track = first + (lane == 0 ? TraceEvent.hostTrack : 3 + min(lane, 90))
            if lane == ends.count {
                ends.append(0)
                trace.tracks.append(.init(number: track, name: "host"))
            }
            ends[lane] = call.end
            trace.events.append(
                TraceEvent(
                    .slice(end: call.end), track: track, name: "\(call.name)", category: .host,
                    time: call.begin, details: [("slot", call.slot)]))
        }
    }
}

import CoreMetrics
import MoriDevice
import MoriShmem

/// The metrics of one operator, by name; docs/metrics.md says of each when it moves.
struct MeterHandles: Sendable {
    typealias Verb = OperatorKernels.Verb

    /// What the network did for one verb towards one peer.
    private struct Network: Sendable {
        var requests: Counter
        var posts: Counter
        var completions: Counter
        var payloadBytes: Counter
        var signalBytes: Counter
    }

    private let factory: any MetricsFactory
    private let dimensions: [(String, String)]
    private let tokens: Counter
    private let rowsSent: [Counter]
    private let rowsReceived: Counter
    private let rowsDropped: Counter
    private let rowsPerRound: Recorder
    private let rounds: [Verb: Counter]
    private let bytesSent: [Verb: Counter]
    private let bytesReceived: [Verb: Counter]
    private let durations: [Verb: [OperatorKernels.Half: Timer]]
    /// Made when a peer is first written to, or waited for: most ranks of a large world are not.
    private let network = Locked<[Int: Network]>([:])
    private let waits = Locked<[Int: Counter]>([:])

    init(_ metrics: WorldMetrics, _ kernel: KernelType, worldSize: Int) {
        let factory = metrics.factory
        let dimensions = metrics.dimensions + [("kernel", "\(kernel)")]
        func counter(_ name: String, _ labels: [(String, String)] = []) -> Counter {
            Counter(label: "moriep.\(name)", dimensions: dimensions + labels, factory: factory)
        }
        func byVerb<Handle>(_ make: (Verb) -> Handle) -> [Verb: Handle] {
            Dictionary(uniqueKeysWithValues: [Verb.dispatch, .combine].map { ($0, make($0)) })
        }
        self.factory = factory
        self.dimensions = dimensions
        tokens = counter("tokens")
        rowsSent = (0..<worldSize).map { counter("rows.sent", [("peer", "\($0)")]) }
        rowsReceived = counter("rows.received")
        rowsDropped = counter("rows.dropped")
        rowsPerRound = Recorder(
            label: "moriep.round.received_rows", dimensions: dimensions, aggregate: true,
            factory: factory)
        rounds = byVerb { counter("rounds", [("verb", $0.label)]) }
        bytesSent = byVerb { counter("bytes.sent", [("verb", $0.label)]) }
        bytesReceived = byVerb { counter("bytes.received", [("verb", $0.label)]) }
        durations = byVerb { verb in
            let halves: [OperatorKernels.Half] = [.both, .send, .receive]
            return Dictionary(
                uniqueKeysWithValues: halves.map { half in
                    let labels = dimensions + [("half", half.label)]
                    let timer = Timer(
                        label: "moriep.\(verb.label).duration", dimensions: labels,
                        factory: factory)
                    return (half, timer)
                })
        }
    }

    func record(_ duration: Duration, _ verb: Verb, _ half: OperatorKernels.Half) {
        durations[verb]?[half]?.recordNanoseconds(duration.nanoseconds)
    }

    func countSent(tokens count: Int, rowsByRank: [Int], byteCount: Int) {
        tokens.increment(by: count)
        for (counter, rows) in zip(rowsSent, rowsByRank) where rows > 0 {
            counter.increment(by: rows)
        }
        countBytes(.dispatch, sent: byteCount)
    }

    func countReceived(_ numbers: RoundSample.Numbers, rowByteCount: Int) {
        rowsReceived.increment(by: numbers.receivedCount)
        rowsDropped.increment(by: numbers.droppedCount)
        rowsPerRound.record(numbers.receivedCount)
        countBytes(.dispatch, received: numbers.receivedCount * rowByteCount)
        countRound(.dispatch)
    }

    func countRound(_ verb: Verb) { rounds[verb]?.increment() }

    func countBytes(_ verb: Verb, sent: Int = 0, received: Int = 0) {
        if sent > 0 { bytesSent[verb]?.increment(by: sent) }
        if received > 0 { bytesReceived[verb]?.increment(by: received) }
    }

    /// By code, so it is made when it is known: what is thrown is not often thrown.
    func countRefusal(_ verb: Verb, _ code: MoriError.Code) {
        Counter(
            label: "moriep.calls.refused",
            dimensions: dimensions + [("verb", verb.label), ("code", "\(code)")],
            factory: factory
        ).increment()
    }

    func countNetwork(_ difference: NetworkStatistics) {
        for (verb, counts) in [
            (Verb.dispatch, difference.dispatch), (.combine, difference.combine),
        ] {
            for (peer, count) in counts.byPeer where count != NetworkStatistics.Counts() {
                let handles = network(verb, peer)
                handles.requests.increment(by: count.workRequests)
                handles.posts.increment(by: count.posts)
                handles.completions.increment(by: count.completions)
                handles.payloadBytes.increment(by: count.payloadByteCount)
                handles.signalBytes.increment(by: count.signalByteCount)
            }
        }
    }

    /// Nanoseconds that warps have waited for a rank.
    func countWait(_ verb: Verb, peer: Int, _ nanoseconds: Int64) {
        let counter = waits.withLock { known in
            let key = key(verb, peer)
            if let counter = known[key] { return counter }
            let counter = Counter(
                label: "moriep.waits.nanoseconds",
                dimensions: dimensions + [("verb", verb.label), ("peer", "\(peer)")],
                factory: factory)
            known[key] = counter
            return counter
        }
        counter.increment(by: nanoseconds)
    }

    private func key(_ verb: Verb, _ peer: Int) -> Int { 2 * peer + (verb == .dispatch ? 0 : 1) }

    private func network(_ verb: Verb, _ peer: Int) -> Network {
        network.withLock { known in
            let key = key(verb, peer)
            if let handles = known[key] { return handles }
            func counter(_ name: String) -> Counter {
                Counter(
                    label: "moriep.network.\(name)",
                    dimensions: dimensions + [("verb", verb.label), ("peer", "\(peer)")],
                    factory: factory)
            }
            let handles = Network(
                requests: counter("requests"), posts: counter("posts"),
                completions: counter("completions"), payloadBytes: counter("payload_bytes"),
                signalBytes: counter("signal_bytes"))
            known[key] = handles
            return handles
        }
    }
}

extension OperatorKernels.Verb {
    /// "dispatch" or "combine".
    fileprivate var label: String { self == .dispatch ? "dispatch" : "combine" }
}

extension OperatorKernels.Half {
    /// "both", "send" or "receive".
    fileprivate var label: String {
        switch self {
        case .both: "both"
        case .send: "send"
        case .receive: "receive"
        }
    }
}

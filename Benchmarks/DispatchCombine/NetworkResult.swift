import MoriEP
import MoriOracle

/// What one round asks of the network, all ranks together.
struct NetworkResult: Sendable, Codable {
    var dispatch: NetworkVerbResult
    var combine: NetworkVerbResult

    /// Sums up what the ranks counted in the same round; nil when they did not.
    init?(_ ranks: [NetworkStatistics], settings: BenchSettings, routes: Routes) {
        guard !ranks.isEmpty else { return nil }
        let counts = ranks.reduce(NetworkStatistics(), +)
        let config = settings.config
        let hidden = settings.workload.hidden
        // As the rounds are run: weights in dispatch, none in combine.
        let dispatched = PacketByteCount(
            row: config.elementType.byteCount(of: hidden), topK: config.expertsPerToken,
            carriesWeights: true,
            scales: BenchWire.dispatch(config).map { 4 * $0.scaleCount(of: hidden) } ?? 0)
        let combined = PacketByteCount(
            row: BenchWire.combine(config)?.byteCount(of: hidden)
                ?? config.effectiveCombineElementType.byteCount(of: hidden),
            topK: config.expertsPerToken, carriesWeights: false)
        dispatch = NetworkVerbResult(
            counts.dispatch.total, packetByteCount: dispatched.dispatch, routes.traffic)
        combine = NetworkVerbResult(
            counts.combine.total, packetByteCount: combined.combine, routes.traffic)
    }
}

/// The network's part in one verb.
struct NetworkVerbResult: Sendable, Codable {
    var workRequests: Int
    var posts: Int
    var completions: Int
    var payloadBytes: Int
    var signalBytes: Int
    /// One packet for each token and other node that hosts one of its experts, from the routing
    /// alone.
    var minimumBytes: Int
    /// (token, node) pairs with the own node, which is what upstream counts: "logical".
    var rdmaTokens: Int
    /// The same without the own node: what leaves it.
    var rdmaTokensPhysical: Int
    /// Writes of which each waited for a word that came over the network.
    var phases: Int

    init(
        _ counts: NetworkStatistics.Counts, packetByteCount: Int, _ traffic: NetworkTraffic
    ) {
        workRequests = counts.workRequests
        posts = counts.posts
        completions = counts.completions
        payloadBytes = counts.payloadByteCount
        signalBytes = counts.signalByteCount
        minimumBytes = traffic.byteLowerBound(packetByteCount: packetByteCount)
        rdmaTokens = traffic.total(\.logicalTokens)
        rdmaTokensPhysical = traffic.total(\.physicalTokens)
        phases = counts.phases
    }
}

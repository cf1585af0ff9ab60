import FoundationEssentials
import MoriDevice
import MoriEP
import MoriOracle

/// One phase's numbers over all ranks and rounds.
struct PhaseResult: Sendable, Codable {
    /// Rows that all ranks received together.
    var receivedTokens: Int
    var receivedTokensByRank: [Int]
    /// The latency of a round, the longest over the ranks: percentiles over the rounds.
    var p50Us: Double
    var p99Us: Double
    var maxUs: Double
    var gbpsPerRank: Double
    var gbpsTotal: Double
    /// What the better of the roofline's loops gives, counted like `gbpsTotal`.
    var rooflineGbps: Double
    var rooflineLoop: RooflineLoop?
    /// `gbpsTotal` by `rooflineGbps`.
    var rooflineRatio: Double
}

/// The numbers of one way of combining.
struct ModeResult: Sendable, Codable {
    var combineMode: CombineInput
    var dispatch: PhaseResult
    var combine: PhaseResult
    /// What one round asks of the network; nil where the kernels have none.
    var network: NetworkResult?
    /// What the kernels of all ranks moved in one round; nil where the device does not count.
    var moved: MovedBytes?
    /// How many times as long as others the traced rounds took: the median over pairs, then over ranks;
    /// nil where none was.
    var traceCost: Double?
    /// Rounds before the timed ones.
    var warmups: Int

    init(
        _ input: CombineInput, _ ranks: [RankSamples], settings: BenchSettings, routes: Routes
    ) {
        let row = settings.config.elementType.byteCount(of: settings.workload.hidden)
        let received = ranks.map { $0.dispatch.bytes / row }
        let commonClock = ranks[0].commonClock
        combineMode = input
        warmups = ranks[0].warmups
        dispatch = PhaseResult(
            ranks.map(\.dispatch), receivedTokens: received, commonClock: commonClock)
        combine = PhaseResult(
            ranks.map(\.combine), receivedTokens: received, commonClock: commonClock)
        network = NetworkResult(ranks.compactMap(\.network), settings: settings, routes: routes)
        moved = MovedBytes(sumOf: ranks.compactMap(\.moved))
        let costs = ranks.compactMap(\.traceCost).sorted()
        traceCost = costs.isEmpty ? nil : costs[costs.count / 2]
    }
}

/// What the run took place on, and what it took.
struct RunFacts: Sendable, Codable {
    var schema = "moriep.bench.v1"
    var device: String
    var deviceName: String
    var verified: Bool
    /// The parameters in force.
    var dispatchLaunch: String
    var combineLaunch: String
    /// What one rank's operator allocates.
    var operatorBytesPerRank: Int
    /// The most that all ranks had in memory together, pages that they share counted once.
    var peakMemoryBytes: Int
    /// The other combine modes, where several were measured.
    var otherModes: [ModeResult]
}

/// Everything that the benchmark found out: what it prints, and what it writes as JSON.
///
/// In JSON the fields of its parts lie side by side in one object.
struct BenchResult: Sendable, Codable {
    let shape: BenchShape
    let mode: ModeResult
    let facts: RunFacts

    init(
        _ settings: BenchSettings, modes: [ModeResult], op: EPDispatchCombineOp, peakBytes: Int
    ) throws(MoriError) {
        shape = settings.shape
        mode = modes[0]
        facts = RunFacts(
            device: op.world.device.kind.description,
            deviceName: try op.world.device.properties().name, verified: settings.verifies,
            dispatchLaunch: try op.launchParameters(forCombine: false).configuration.description,
            combineLaunch: try op.launchParameters(forCombine: true).configuration.description,
            operatorBytesPerRank: op.memoryPlan.byteCount, peakMemoryBytes: peakBytes,
            otherModes: Array(modes.dropFirst()))
    }

    init(from decoder: any Decoder) throws {
        shape = try BenchShape(from: decoder)
        mode = try ModeResult(from: decoder)
        facts = try RunFacts(from: decoder)
    }

    func encode(to encoder: any Encoder) throws {
        try shape.encode(to: encoder)
        try mode.encode(to: encoder)
        try facts.encode(to: encoder)
    }

    /// Writes the object with the keys of "moriep.bench.v1", in snake case.
    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            let data = try encoder.encode(self) + Data("\n".utf8)
            try FilePlace(path).replace(with: Array(data), what: "the results")
        } catch {
            throw BenchFailure("the results could not be written to \(path): \(error)")
        }
    }
}

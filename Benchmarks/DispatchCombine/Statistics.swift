import Histogram
import MoriEP

/// One rank's samples of one phase; one of each for every timed round.
struct PhaseSamples: Sendable, Codable {
    /// Bytes of the rows that this rank received, by which every bandwidth is counted.
    var bytes: Int
    /// When the phase ran.
    var phase: [Interval] = []
    /// When the roofline's loops ran.
    var loops: [RooflineLoop: [Interval]] = [:]

    init(bytes: Int) { self.bytes = bytes }
}

/// One rank's samples.
struct RankSamples: Sendable, Codable {
    var dispatch: PhaseSamples
    var combine: PhaseSamples
    /// Whether all ranks are on one machine, so that their clocks are one.
    var commonClock: Bool
    /// Rounds before the timed ones.
    var warmups = 0
    /// What it asked of the network in one round; nil where the kernels have none.
    var network: NetworkStatistics?
    /// What its kernels moved in one round; nil where the device does not count.
    var moved: MovedBytes?
    /// How many times as long as others the traced rounds took; nil where none was.
    var traceCost: Double?

    /// Adds a roofline's sample.
    mutating func add(_ interval: Interval, _ verb: Rooflines.Verb, _ loop: RooflineLoop) {
        switch verb {
        case .dispatch: dispatch.loops[loop, default: []].append(interval)
        case .combine: combine.loops[loop, default: []].append(interval)
        }
    }
}

extension Interval: Codable {
    init(from decoder: any Decoder) throws {
        var values = try decoder.unkeyedContainer()
        self.init(began: try values.decode(Int64.self), ended: try values.decode(Int64.self))
    }

    func encode(to encoder: any Encoder) throws {
        var values = encoder.unkeyedContainer()
        try values.encode(began)
        try values.encode(ended)
    }
}

extension PhaseResult {
    /// Sums up every rank's samples of a phase.
    ///
    /// * The latency of a round is the longest of the ranks' own times, each from its own mark
    ///   before the phase to its own mark after it.
    /// * `gbpsPerRank` is the mean over the ranks of received bytes by that time: the guide's.
    /// * `gbpsTotal` is all ranks' received bytes by the wall time of the phase, from the earliest
    ///   begin to the latest end; the roofline is counted alike, from the same bytes.
    /// Of each the median over the rounds.
    init(_ ranks: [PhaseSamples], receivedTokens: [Int], commonClock: Bool) {
        let rounds = ranks[0].phase.indices
        let longest = rounds.map { round in ranks.map { $0.phase[round].nanoseconds }.max() ?? 0 }
        var latencies = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
        for latency in longest { _ = latencies.record(UInt64(max(1, latency))) }
        let bytes = ranks.map(\.bytes).reduce(0, +)
        let perRank = rounds.map { round in
            let rates = ranks.map { gigabytes($0.bytes, in: Double($0.phase[round].nanoseconds)) }
            return rates.reduce(0, +) / Double(rates.count)
        }
        let wall = Self.medianWall(ranks.map(\.phase), commonClock)
        let loops = Dictionary(
            uniqueKeysWithValues: ranks[0].loops.keys.map { loop in
                (loop, Self.medianWall(ranks.map { $0.loops[loop] ?? [] }, commonClock))
            })
        let best = loops.min { $0.value < $1.value }
        self.receivedTokens = receivedTokens.reduce(0, +)
        self.receivedTokensByRank = receivedTokens
        p50Us = Double(latencies.valueAtPercentile(50)) / 1000
        p99Us = Double(latencies.valueAtPercentile(99)) / 1000
        maxUs = Double(longest.max() ?? 0) / 1000
        gbpsPerRank = median(perRank)
        gbpsTotal = gigabytes(bytes, in: wall)
        rooflineGbps = gigabytes(bytes, in: best?.value ?? 0)
        rooflineLoop = best?.key
        rooflineRatio = rooflineGbps > 0 ? gbpsTotal / rooflineGbps : 0
    }

    /// The median over the rounds of the time from the earliest begin to the latest end.
    private static func medianWall(_ ranks: [[Interval]], _ commonClock: Bool) -> Double {
        let walls = (ranks.first ?? []).indices.map { round -> Double in
            let intervals = ranks.map { $0[round] }
            let longest = intervals.map(\.nanoseconds).max() ?? 0
            // On several machines the clocks differ: there the longest time stands for the wall's.
            guard commonClock else { return Double(longest) }
            let began = intervals.map(\.began).min() ?? 0
            return Double((intervals.map(\.ended).max() ?? 0) - began)
        }
        return median(walls)
    }
}

/// Bytes a nanosecond, which is GB/s.
private func gigabytes(_ bytes: Int, in nanoseconds: Double) -> Double {
    nanoseconds > 0 ? Double(bytes) / nanoseconds : 0
}

/// The middle value, or the mean of the two; 0 of none.
private func median(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return 0 }
    let sorted = values.sorted()
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
}

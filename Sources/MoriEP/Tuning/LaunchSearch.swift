/// Finds the fastest of several launches by measuring, without believing a single measurement.
///
/// Rounds of halves: every candidate is measured a few times, taking turns so that a slow moment of the
/// machine hits all of them; the faster half goes on and is measured twice as often. What is left at the
/// end meets the default in a final of its own, and takes its place only when it is faster by more than
/// the two vary.
package struct LaunchSearch: Sendable {
    /// What a search found.
    package struct Finding: Equatable, Sendable {
        /// The candidate's number; 0: the default stays.
        package var winner: Int
        /// Median of the default in the final.
        package var defaultTime: Double
        /// Median of the winner in the final.
        package var time: Double
        /// How far the final's measurements lie from their medians, the larger median of both.
        package var noise: Double
        /// Measurements in all.
        package var measurements: Int
    }

    /// Candidates, the default first; 1 or more.
    let candidates: Int
    /// Measurements of each of the two in the final, 3 or more.
    let finalRounds: Int

    /// Describes a search; `finalRounds` below 3 are 3.
    package init(candidates: Int, finalRounds: Int) {
        self.candidates = max(1, candidates)
        self.finalRounds = max(3, finalRounds)
    }

    /// Runs the search.
    ///
    /// - Parameter measure: The time of one call with a candidate's launch. Ranks that search together
    ///   must be told the same times, and then come to the same end.
    /// - Returns: What won, the default or another one.
    /// - Throws: What `measure` throws.
    package func run<Failure: Error>(
        _ measure: (Int) async throws(Failure) -> Double
    ) async throws(Failure) -> Finding {
        var survivors = Array(0..<candidates)
        var turns = 3
        var count = 0
        while survivors.count > 1 {
            var times = [Int: [Double]]()
            for _ in 0..<turns {
                for candidate in survivors {
                    times[candidate, default: []].append(try await measure(candidate))
                    count += 1
                }
            }
            survivors.sort { Self.median(times[$0] ?? []) < Self.median(times[$1] ?? []) }
            survivors = Array(survivors.prefix(survivors.count / 2))
            turns *= 2
        }
        let best = survivors[0]
        var times: (own: [Double], best: [Double]) = ([], [])
        for turn in 0..<finalRounds {
            // First in turns, too: who comes second finds warm caches.
            let order = turn % 2 == 0 ? [0, best] : [best, 0]
            for candidate in order.prefix(best == 0 ? 1 : 2) {
                let time = try await measure(candidate)
                count += 1
                if candidate == 0 { times.own.append(time) } else { times.best.append(time) }
            }
        }
        let ownTime = Self.median(times.own)
        var finding = Finding(
            winner: 0, defaultTime: ownTime, time: ownTime, noise: Self.spread(times.own),
            measurements: count)
        guard best != 0 else { return finding }
        finding.noise = max(finding.noise, Self.spread(times.best))
        let bestTime = Self.median(times.best)
        if bestTime < ownTime - finding.noise {
            finding.winner = best
            finding.time = bestTime
        }
        return finding
    }

    private static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return .infinity }
        let middle = sorted.count / 2
        return sorted.count % 2 == 1
            ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// The median distance from the median.
    private static func spread(_ values: [Double]) -> Double {
        let middle = median(values)
        return values.isEmpty ? 0 : median(values.map { abs($0 - middle) })
    }
}

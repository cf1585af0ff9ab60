import MoriDevice

/// Why there is no result, in lines for the user.
struct BenchFailure: Error, Hashable, Sendable {
    let lines: [String]

    init(_ line: String) { lines = [line] }
    init(lines: [String]) { self.lines = lines }
}

/// One rank's failure, as it tells it to whoever started it.
struct RankFailure: Error, Hashable, Sendable, Codable {
    var rank: Int
    /// What ranks that failed for the same reason have in common.
    var reason: String
    var message: String
    /// Whether another rank's failure is only passed on.
    var isSecondHand = false

    init(rank: Int, reason: String, message: String) {
        self.rank = rank
        self.reason = reason
        self.message = message
    }

    init(_ error: any Error, rank: Int) {
        if let error = error as? RankFailure {
            self = error
            self.rank = rank
        } else if let error = error as? MoriError {
            // Each rank tells it from its own side; who is to blame is the same.
            let reason = error.ranks.isEmpty ? "\(error.code)" : "ranks \(error.ranks)"
            self.init(rank: rank, reason: reason, message: error.description)
            isSecondHand = error.code == .aborted
        } else {
            self.init(rank: rank, reason: "\(error)", message: "\(error)")
        }
    }

    /// One line for each reason, with the ranks that gave it: "ranks 0, 1, 3: ...".
    static func lines(_ failures: [RankFailure]) -> [String] {
        var reasons: [String] = []
        for failure in failures where !reasons.contains(failure.reason) {
            reasons.append(failure.reason)
        }
        return reasons.compactMap { reason in
            let alike = failures.filter { $0.reason == reason }
            guard let first = alike.first(where: { !$0.isSecondHand }) ?? alike.first else {
                return nil
            }
            let ranks = alike.map { "\($0.rank)" }.joined(separator: ", ")
            return "\(alike.count == 1 ? "rank" : "ranks") \(ranks): \(first.message)"
        }
    }
}

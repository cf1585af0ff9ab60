/// What a round must give, in plain Swift, straight from the definitions.
///
/// Dispatch: a token is received once by each rank that hosts one of its experts. Combine: the sum
/// over those ranks of what their experts made of it, in fp32, in the kernels' published order.
public struct Oracle: Sendable {
    /// What is moved.
    public let workload: Workload
    /// Rounds a fp32 value to the token type and back: what a tensor of that type can hold.
    public let round: @Sendable (Float) -> Float
    /// The same for the type that is combined.
    public let combineRound: @Sendable (Float) -> Float
    /// The order in which the kernels add up.
    public let sums: SumOrder

    /// Creates the oracle of a workload in an element type, or in one for dispatch and another one
    /// for combine.
    public init(
        _ workload: Workload, rounding round: @escaping @Sendable (Float) -> Float,
        combineRounding combineRound: (@Sendable (Float) -> Float)? = nil,
        sums: SumOrder = .ranks
    ) {
        self.workload = workload
        self.round = round
        self.combineRound = combineRound ?? round
        self.sums = sums
    }

    /// The distinct ranks that a token goes to, ascending.
    public func destinations(rank: Int, token: Int) -> [Int] {
        let ranks = workload.expertRow(rank: rank, token: token).compactMap(host)
        return Set(ranks).sorted()
    }

    /// The rank that hosts an expert; nil for an id that no rank hosts.
    public func host(ofExpert expert: Int32) -> Int? {
        guard expert >= 0 && expert < workload.expertCount else { return nil }
        let rank = workload.expertRanks?[Int(expert)] ?? Int(expert) / workload.expertsPerRank
        return workload.lostRanks.contains(rank) ? nil : rank
    }

    /// The experts of a rank, in the order of their ids.
    public func experts(of rank: Int) -> [Int32] {
        (0..<Int32(workload.expertCount)).filter { host(ofExpert: $0) == rank }
    }

    /// Where the rows that a rank receives come from, in order of source rank, then token.
    public func sources(receivedBy receiver: Int) -> [(rank: Int, token: Int)] {
        var sources: [(rank: Int, token: Int)] = []
        for rank in 0..<workload.worldSize {
            for token in 0..<workload.tokens[rank]
            where destinations(rank: rank, token: token).contains(receiver) {
                sources.append((rank, token))
            }
        }
        return sources
    }

    /// What an expert does with a token: multiplies by a number of its own. Never 1, different
    /// between neighbours, with both signs.
    public func expertFactor(_ expert: Int32) -> Float {
        let magnitude = 0.375 + 0.25 * Float(Int(expert) % 11)
        return expert % 2 == 0 ? magnitude : -magnitude
    }

    /// What the experts of one rank together make of a token: the factor on each element. Different
    /// on every rank, so that a row that came from the wrong one cannot pass.
    public func rankFactor(_ receiver: Int, experts: [Int32], weights: [Float]) -> Float {
        var sum: Float = 0
        for (expert, weight) in zip(experts, weights) where host(ofExpert: expert) == receiver {
            sum += weight * expertFactor(expert)
        }
        return sum * (1 + 0.0625 * Float(receiver % 16)) + 0.5
    }

    /// One element of the experts' output for a token at a rank.
    @inline(__always)
    public func expertOutput(_ element: Float, factor: Float) -> Float {
        combineRound(element * factor)
    }

    /// The combined row of a token.
    ///
    /// - Parameter destinations: The ranks whose rows came, ascending; nil: all that it went to.
    public func combinedRow(rank: Int, token: Int, from destinations: [Int]? = nil) -> [Float] {
        let experts = workload.expertRow(rank: rank, token: token)
        let weights = workload.weightRow(rank: rank, token: token)
        let ranks = destinations ?? self.destinations(rank: rank, token: token)
        let factors = ranks.map { rankFactor($0, experts: experts, weights: weights) }
        let parts = sums.parts(of: ranks)
        var terms = factors
        var row = workload.tokenRow(rank: rank, token: token)
        // A plain loop: tests run it without optimization, where closures cost ten times as much.
        var column = 0
        while column < row.count {
            let element = round(row[column])
            var place = 0
            while place < factors.count {
                terms[place] = expertOutput(element, factor: factors[place])
                place += 1
            }
            row[column] = sums.sum(terms, parts: parts, rounding: combineRound)
            column += 1
        }
        return row
    }

    /// The combined weights of a token, when every rank gives back the weights that it received.
    ///
    /// fp32 in the same order as the rows; there is nothing to round.
    ///
    /// - Parameter destinations: The ranks whose rows came; nil: all that it went to.
    public func combinedWeights(rank: Int, token: Int, from destinations: [Int]? = nil) -> [Float] {
        let ranks = destinations ?? self.destinations(rank: rank, token: token)
        let parts = sums.parts(of: ranks)
        return workload.weightRow(rank: rank, token: token).map { weight in
            sums.sum(Array(repeating: weight, count: ranks.count), parts: parts) { $0 }
        }
    }
}

/// Rounds to bfloat16 by the definition: the nearest of the two neighbours, the even one on ties.
/// Written with comparisons of distances, unlike the kernels' additions to bits.
public func roundToBFloat16(_ value: Float) -> Float {
    guard value.isFinite else { return value }
    let below = Float(bitPattern: value.bitPattern & 0xFFFF_0000)
    let next = Float(bitPattern: (value.bitPattern & 0xFFFF_0000) &+ 0x1_0000)
    let distanceBelow = (Double(value) - Double(below)).magnitude
    let distanceNext =
        (next.isFinite ? Double(next) - Double(value) : 0x1p128 - Double(value.magnitude)).magnitude
    if distanceBelow < distanceNext { return below }
    if distanceNext < distanceBelow { return next }
    return (below.bitPattern >> 16) & 1 == 0 ? below : next
}

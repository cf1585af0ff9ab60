/// The tree in which combine adds up what came back for a token: it decides the bits.
///
/// Every sum is in fp32 and begins with +0.
public enum SumOrder: Hashable, Sendable {
    /// All ranks, ascending, rounded once: IntraNode, InterNode, AsyncLL.
    case ranks
    /// The ranks of each node, ascending, rounded to the type that is combined, the own node's too;
    /// then these sums over the nodes, ascending, rounded: InterNodeV1, InterNodeV1LL.
    case nodes(Nodes)

    /// The parts of ascending ranks whose sums are made by themselves, as ranges of their places.
    public func parts(of ranks: [Int]) -> [Range<Int>] {
        guard case .nodes(let nodes) = self else { return [ranks.indices] }
        var parts: [Range<Int>] = []
        for place in ranks.indices {
            if let last = parts.last,
                nodes.node(of: ranks[place]) == nodes.node(of: ranks[last.lowerBound])
            {
                parts[parts.count - 1] = last.lowerBound..<place + 1
            } else {
                parts.append(place..<place + 1)
            }
        }
        return parts
    }

    /// Whether the sum of each part is rounded before it is added to the others'.
    public var roundsParts: Bool {
        if case .nodes = self { true } else { false }
    }

    /// Adds up one term of each rank.
    ///
    /// - Parameters:
    ///   - terms: What came from each rank, in the order of the ranks.
    ///   - parts: `parts(of:)` of the ranks, which many sums have in common.
    ///   - round: To the type that is combined; weights have none.
    @inline(__always)
    public func sum(
        _ terms: [Float], parts: [Range<Int>], rounding round: (Float) -> Float
    ) -> Float {
        let roundsParts = roundsParts
        var total: Float = 0
        for part in parts {
            var sum: Float = 0
            var place = part.lowerBound
            while place < part.upperBound {
                sum += terms[place]
                place += 1
            }
            total = roundsParts ? total + round(sum) : sum
        }
        return round(total)
    }

    /// Adds up one term of each rank, given with its ascending rank.
    public func sum(
        _ terms: [(rank: Int, value: Float)], rounding round: (Float) -> Float
    ) -> Float {
        sum(terms.map(\.value), parts: parts(of: terms.map(\.rank)), rounding: round)
    }
}

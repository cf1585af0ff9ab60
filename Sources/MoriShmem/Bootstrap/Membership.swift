/// Which ranks of a world meet: all, or those that are left after a failure.
struct Membership: Hashable, Sendable {
    /// The ranks, ascending; nil: all.
    let ranks: [Int]?

    /// All ranks.
    static let everyone = Membership(ranks: nil)

    /// Whether a rank belongs to it.
    func contains(_ rank: Int) -> Bool { ranks?.contains(rank) ?? true }

    /// The rank that serves the store: the smallest.
    var leader: Int { ranks?.first ?? 0 }

    /// The same for the same ranks, 0 for all: what a rank says when it comes, so that ranks which want
    /// to meet others are told at once instead of waiting for them (FNV-1a).
    var digest: UInt64 {
        guard let ranks else { return 0 }
        return ranks.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1 + 1)) &* 0x100_0000_01B3 }
    }
}

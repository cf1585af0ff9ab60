/// How tokens choose their experts.
public enum RoutingPattern: Hashable, Sendable {
    /// Distinct experts, uniformly.
    case random
    /// Expert (rank * n * k + token * k + j) modulo all.
    case roundRobin
    /// Distinct experts, the first ones more often.
    case skewed
    /// Every slot is expert 0.
    case allToOne
    /// Slot j is the first expert of rank j: every token goes to min(k, ranks) ranks.
    case spread
    /// As `random`, and every slot with an odd number is -1.
    case everyOtherDropped
    /// As `random`, and ids outside of all experts in between, negative and too large.
    case outOfRange
    /// As `random`, with every expert twice, where k allows.
    case duplicates
    /// Read from elsewhere: i32 [rank][token * k + j].
    case given([[Int32]])
}

/// Everything that a round moves, computed from a seed: no code is shared with the kernels.
public struct Workload: Hashable, Sendable {
    /// Ranks.
    public var worldSize: Int
    /// Tokens of each rank.
    public var tokens: [Int]
    /// Elements of a token.
    public var hidden: Int
    /// Experts of a token.
    public var topK: Int
    /// Experts at each rank.
    public var expertsPerRank: Int
    /// Experts of all ranks.
    public var expertCount: Int
    /// The rank of each expert; nil: expert e is at rank e / expertsPerRank.
    public var expertRanks: [Int]?
    /// Ranks that are gone: they have no tokens, and their experts are nobody's.
    public var lostRanks: Set<Int> = []
    /// Scales of a token, f32.
    public var scaleDim: Int
    /// How tokens choose their experts.
    public var pattern: RoutingPattern
    /// The numbers.
    public var generator: Generator

    /// Describes a round.
    public init(
        worldSize: Int, tokens: [Int], hidden: Int, topK: Int, expertsPerRank: Int,
        expertCount: Int? = nil, expertRanks: [Int]? = nil, scaleDim: Int = 0,
        pattern: RoutingPattern = .random,
        seed: UInt64
    ) {
        self.worldSize = worldSize
        self.tokens = tokens
        self.hidden = hidden
        self.topK = topK
        self.expertsPerRank = expertsPerRank
        self.expertCount = expertCount ?? expertRanks?.count ?? worldSize * expertsPerRank
        self.expertRanks = expertRanks
        self.scaleDim = scaleDim
        self.pattern = pattern
        self.generator = Generator(seed: seed)
    }

    /// The same without some ranks.
    public func without(_ lost: Set<Int>) -> Workload {
        var workload = self
        workload.lostRanks = lost
        for rank in lost { workload.tokens[rank] = 0 }
        return workload
    }

    // The first coordinate of a number says what it is for.
    private enum Purpose { static let token = 1, weight = 2, scale = 3, expert = 4 }

    /// The fp32 value of each element of a token, a multiple of 1/64 between -2 and 2: exact in
    /// bf16 only after rounding, so that rounding is exercised.
    public func tokenRow(rank: Int, token: Int) -> [Float] {
        let base = generator.bits(Purpose.token, rank, token)
        // A plain loop: tests run it without optimization, where closures cost ten times as much.
        return unsafe [Float](unsafeUninitializedCapacity: hidden) { row, count in
            var column = 0
            while column < hidden {
                unsafe row[column] = Self.element(base: base, column: column)
                column += 1
            }
            count = hidden
        }
    }

    /// One element; a cheap mix of the row's number, so that large rounds can be checked whole.
    @inline(__always)
    public static func element(base: UInt64, column: Int) -> Float {
        var x =
            UInt32(truncatingIfNeeded: base) &+ UInt32(truncatingIfNeeded: column) &* 0x9E37_79B1
        x = (x ^ x >> 15) &* 0x85EB_CA77
        x ^= x >> 13 ^ UInt32(truncatingIfNeeded: base >> 32)
        return Float(Int32(x >> 16) - 32768) * 0x1p-14
    }

    /// The number on which all elements of a token depend.
    public func rowBase(rank: Int, token: Int) -> UInt64 {
        generator.bits(Purpose.token, rank, token)
    }

    /// The weights of a token's experts.
    public func weightRow(rank: Int, token: Int) -> [Float] {
        (0..<topK).map { generator.unit(Purpose.weight, rank, token, $0) }
    }

    /// The scales of a token.
    public func scaleRow(rank: Int, token: Int) -> [Float] {
        (0..<scaleDim).map { generator.unit(Purpose.scale, rank, token, $0) }
    }

    /// The experts of a token.
    public func expertRow(rank: Int, token: Int) -> [Int32] {
        switch pattern {
        case .random:
            return distinct(rank, token) { self.generator.index(below: $0, $1, $2, $3, $4) }
        case .skewed:
            return distinct(rank, token) { count, a, b, c, d in
                let u = self.generator.unit(a, b, c, d)
                return min(count - 1, Int(u * u * u * Float(count)))
            }
        case .roundRobin:
            let n = tokens[rank]
            return (0..<topK).map { Int32((rank * n * topK + token * topK + $0) % expertCount) }
        case .allToOne: return Array(repeating: 0, count: topK)
        case .spread:
            return (0..<topK).map { Int32(($0 % worldSize) * expertsPerRank % expertCount) }
        case .everyOtherDropped:
            var row = distinct(rank, token) { self.generator.index(below: $0, $1, $2, $3, $4) }
            for j in row.indices where j % 2 == 1 { row[j] = -1 }
            return row
        case .outOfRange:
            var row = distinct(rank, token) { self.generator.index(below: $0, $1, $2, $3, $4) }
            let strangers: [Int32] = [-1, Int32(expertCount), .max, .min]
            for j in row.indices where (token + j) % 3 == 0 { row[j] = strangers[(token + j) % 4] }
            return row
        case .duplicates:
            let row = distinct(rank, token) { self.generator.index(below: $0, $1, $2, $3, $4) }
            return row.indices.map { row[$0 / 2] }
        case .given(let table): return Array(table[rank][token * topK..<(token + 1) * topK])
        }
    }

    /// `topK` distinct experts, drawn without replacement.
    private func distinct(
        _ rank: Int, _ token: Int, draw: (Int, Int, Int, Int, Int) -> Int
    ) -> [Int32] {
        var chosen: [Int] = []
        var ascending: [Int] = []
        for j in 0..<topK {
            var expert = draw(expertCount - j, Purpose.expert, rank, token, j)
            // The expert-th of those not chosen yet.
            var place = 0
            while place < ascending.count && ascending[place] <= expert {
                expert += 1
                place += 1
            }
            chosen.append(expert)
            ascending.insert(expert, at: place)
        }
        return chosen.map(Int32.init)
    }
}

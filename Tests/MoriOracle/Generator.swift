/// Numbers that anyone can compute from their place: no rank needs another's data to check it.
public struct Generator: Hashable, Sendable {
    /// What all numbers depend on; printed by every test.
    public let seed: UInt64

    /// Creates a generator.
    public init(seed: UInt64) { self.seed = seed }

    /// 64 well mixed bits for a place (splitmix64's finalizer over the folded coordinates).
    public func bits(_ a: Int, _ b: Int, _ c: Int, _ d: Int = 0) -> UInt64 {
        var x = seed &+ 0x9E37_79B9_7F4A_7C15
        for coordinate in [a, b, c, d] {
            x = Self.mix(x ^ UInt64(bitPattern: Int64(coordinate)) &* 0xD6E8_FEB8_6659_FD93)
        }
        return x
    }

    /// A number from 0 up to, not including, 1, with 24 bits.
    public func unit(_ a: Int, _ b: Int, _ c: Int, _ d: Int = 0) -> Float {
        Float(bits(a, b, c, d) >> 40) * 0x1p-24
    }

    /// A number in `0..<count`.
    public func index(below count: Int, _ a: Int, _ b: Int, _ c: Int, _ d: Int = 0) -> Int {
        Int(bits(a, b, c, d) % UInt64(count))
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var x = value
        x = (x ^ x >> 30) &* 0xBF58_476D_1CE4_E5B9
        x = (x ^ x >> 27) &* 0x94D0_49BB_1331_11EB
        return x ^ x >> 31
    }
}

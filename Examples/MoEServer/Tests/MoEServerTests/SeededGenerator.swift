import Foundation

/// Random numbers that can be drawn again: they begin where `TEST_SEED` says, else anywhere, and say where.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(for test: String) {
        if let text = ProcessInfo.processInfo.environment["TEST_SEED"] {
            guard let seed = UInt64(text) else {
                fatalError("TEST_SEED is \(text); legal are 0 to \(UInt64.max)")
            }
            state = seed
        } else {
            state = .random(in: .min ... .max)
        }
        print("\(test): again with TEST_SEED=\(state)")
    }

    /// SplitMix64's next number.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }
}

import Foundation

/// Chooses the next token of one sequence; the same logits and seed give the same tokens.
package struct Sampler: Sendable {
    /// 0: always the likeliest.
    private let temperature: Float
    private var state: UInt64

    package init(temperature: Float, seed: UInt64) {
        self.temperature = temperature
        state = seed
    }

    package mutating func choose(_ logits: [Float]) -> UInt8 {
        var likeliest = 0
        for token in logits.indices where logits[token] > logits[likeliest] { likeliest = token }
        guard temperature > 0 else { return UInt8(likeliest) }
        let powers = logits.map { exp(Double(($0 - logits[likeliest]) / temperature)) }
        var left = uniform() * powers.reduce(0, +)
        for (token, power) in powers.enumerated() {
            left -= power
            if left < 0 { return UInt8(token) }
        }
        return UInt8(likeliest)
    }

    /// SplitMix64's next number, in 0..<1.
    private mutating func uniform() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        bits ^= bits >> 31
        return Double(bits >> 11) * 0x1p-53
    }
}

import Foundation
import MoriEP

/// One rank's tokens, and what must come back for them.
struct TestData {
    var tokenCount: Int
    /// Standard normal, [tokens, hidden].
    var tokens: [BFloat16]
    /// Uniform in 0..<1, [tokens, top-k].
    var weights: [Float]
    /// Distinct experts of each token, [tokens, top-k].
    var indices: [Int32]

    private let config: EPDispatchCombineConfig

    init(tokenCount: Int, _ config: EPDispatchCombineConfig, worldSize: Int) {
        self.tokenCount = tokenCount
        self.config = config
        tokens = (0..<tokenCount * config.hiddenDim).map { _ in
            // Box and Muller: two uniform numbers make a normal one.
            let radius = (-2 * log(Float.random(in: Float.leastNormalMagnitude..<1))).squareRoot()
            return BFloat16(radius * cos(2 * .pi * Float.random(in: 0..<1)))
        }
        weights = (0..<tokenCount * config.expertsPerToken).map { _ in Float.random(in: 0..<1) }
        let experts = Array(0..<Int32(config.expertsPerRank * worldSize))
        indices = (0..<tokenCount).flatMap { _ in
            experts.shuffled().prefix(config.expertsPerToken)
        }
    }

    /// What the sums of a wrong round are.
    struct WrongSum: Error, CustomStringConvertible {
        var description: String
    }

    /// Checks the sums of experts that change nothing: each token comes back once from every
    /// distinct rank that it went to.
    func verify(_ sums: [BFloat16], _ weightSums: [Float]) throws {
        let (hidden, topK) = (config.hiddenDim, config.expertsPerToken)
        guard sums.count == tokens.count && weightSums.count == weights.count else {
            throw WrongSum(description: "\(sums.count) and \(weightSums.count) elements came back")
        }
        for token in 0..<tokenCount {
            let experts = indices[token * topK..<(token + 1) * topK]
            let ranks = Set(experts.map { Int($0) / config.expertsPerRank }).count
            for index in token * hidden..<(token + 1) * hidden {
                // The product is exact in fp32, and rounded once, as the sum is.
                let expected = BFloat16(tokens[index].float * Float(ranks))
                guard sums[index] == expected else {
                    throw WrongSum(
                        description: "token \(token): \(sums[index].float), not \(expected.float)")
                }
            }
            for index in token * topK..<(token + 1) * topK {
                let expected = weights[index] * Float(ranks)
                guard abs(weightSums[index] - expected) <= 1e-5 * expected else {
                    throw WrongSum(
                        description:
                            "weight of token \(token): \(weightSums[index]), not \(expected)")
                }
            }
        }
    }
}

import Foundation

/// Whether a step reads prompts or continues sequences; the ranks move their rows by other kernels.
package enum Phase: Sendable {
    case prefill
    case decode
}

/// Rows that are on their way to the experts.
package struct RoutedRows {
    package let layer: Int
    package let phase: Phase
    /// Rows, which may be 0: a rank without tokens still takes part.
    package let count: Int
    /// [count, hidden].
    package let tokens: [Float]
    /// The experts of each row, [count, top-k], likeliest first.
    package let experts: [Int32]
    /// Their weights, [count, top-k]; those of a row add up to 1.
    package let weights: [Float]
}

/// The routed experts of all layers, wherever they are.
package protocol Mixture: AnyObject {
    /// Sums the weighted output of each row's experts.
    ///
    /// - Parameters:
    ///   - rows: What goes to the experts.
    ///   - sums: [rows, hidden]; overwritten.
    ///   - meanwhile: What needs no other rank: called once, while rows are on their way.
    /// - Throws: what ended the ranks' rounds.
    func apply(_ rows: RoutedRows, into sums: inout [Float], meanwhile: () -> Void) throws
}

/// The learned choice of experts.
package enum ExpertRouter {
    /// The top-k of each row's probabilities, divided by their sum.
    package static func choose(
        _ scores: [Float], rows: Int, experts: Int, topK: Int
    ) -> (experts: [Int32], weights: [Float]) {
        var chosen: [Int32] = []
        var weights: [Float] = []
        chosen.reserveCapacity(rows * topK)
        weights.reserveCapacity(rows * topK)
        for row in 0..<rows {
            var probabilities = Array(scores[row * experts..<(row + 1) * experts])
            let largest = probabilities.max() ?? 0
            var total: Float = 0
            for expert in 0..<experts {
                probabilities[expert] = exp(probabilities[expert] - largest)
                total += probabilities[expert]
            }
            var kept: Float = 0
            for _ in 0..<topK {
                // The lowest of equals, as everywhere.
                var best = 0
                for expert in 1..<experts where probabilities[expert] > probabilities[best] {
                    best = expert
                }
                let weight = probabilities[best] / total
                chosen.append(Int32(best))
                weights.append(weight)
                kept += weight
                probabilities[best] = -1
            }
            for place in row * topK..<(row + 1) * topK { weights[place] /= kept }
        }
        return (chosen, weights)
    }
}

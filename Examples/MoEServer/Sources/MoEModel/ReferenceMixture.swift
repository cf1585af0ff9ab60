/// All experts in one process, without MoriEP: what the ranks are held against.
///
/// Sums run as MoriEP publishes them: within a rank over the row's experts in their order, each
/// product rounded by itself; then over the ranks, ascending. `ranks` says how many ranks that order
/// is for. With two experts a row there are two terms at most, and every order gives the same.
///
/// `rounding` is what happens to an element where it is stored in the rows' type: on its way to an
/// expert, behind it, in the sum of a rank and in the sum of all. Rows of f32 are not rounded.
package final class ReferenceMixture: Mixture {
    private let weights: ModelWeights
    private let expertsPerRank: Int
    private let rankCount: Int
    private let rounding: ((Float) -> Float)?
    private var scratch = ExpertScratch()
    private var input: [Float] = []
    private var output: [Float] = []

    package init(
        _ weights: ModelWeights, inOrderOf ranks: Int = 1,
        rounding: ((Float) -> Float)? = nil
    ) {
        precondition(
            weights.layers.allSatisfy { $0.experts.count == weights.configuration.experts })
        self.weights = weights
        expertsPerRank = (weights.configuration.experts + ranks - 1) / ranks
        rankCount = ranks
        self.rounding = rounding
    }

    package func apply(_ rows: RoutedRows, into sums: inout [Float], meanwhile: () -> Void) {
        meanwhile()
        let c = weights.configuration
        let (hidden, topK) = (c.hidden, c.expertsPerToken)
        // What each expert makes of each row that chose it: [rows, top-k, hidden].
        if output.count < rows.count * topK * hidden {
            output = [Float](repeating: 0, count: rows.count * topK * hidden)
        }
        var members: [[Int]] = Array(repeating: [], count: c.experts)
        for (place, expert) in rows.experts.prefix(rows.count * topK).enumerated() {
            members[Int(expert)].append(place)
        }
        for (expert, places) in members.enumerated() where !places.isEmpty {
            apply(expert, of: rows, to: places)
        }
        for row in 0..<rows.count { sum(rows, row, into: &sums) }
    }

    private func apply(_ expert: Int, of rows: RoutedRows, to places: [Int]) {
        let (hidden, topK) = (weights.configuration.hidden, weights.configuration.expertsPerToken)
        input.removeAll(keepingCapacity: true)
        for place in places {
            let row = place / topK
            input += rows.tokens[row * hidden..<(row + 1) * hidden]
        }
        if let rounding { input = input.map(rounding) }
        var made = [Float](repeating: 0, count: places.count * hidden)
        weights.layers[rows.layer].experts[expert].apply(
            input, rows: places.count, scratch: &scratch, into: &made)
        if let rounding { made = made.map(rounding) }
        for (index, place) in places.enumerated() {
            output.replaceSubrange(
                place * hidden..<(place + 1) * hidden,
                with: made[index * hidden..<(index + 1) * hidden])
        }
    }

    private func sum(_ rows: RoutedRows, _ row: Int, into sums: inout [Float]) {
        let (hidden, topK) = (weights.configuration.hidden, weights.configuration.expertsPerToken)
        let places = row * topK..<(row + 1) * topK
        for element in 0..<hidden { sums[row * hidden + element] = 0 }
        for rank in 0..<rankCount {
            let own = places.filter { Int(rows.experts[$0]) / expertsPerRank == rank }
            guard !own.isEmpty else { continue }
            for element in 0..<hidden {
                var part: Float = 0
                for place in own {
                    part += rows.weights[place] * output[place * hidden + element]
                }
                sums[row * hidden + element] += rounding?(part) ?? part
            }
        }
        guard let rounding else { return }
        for element in row * hidden..<(row + 1) * hidden { sums[element] = rounding(sums[element]) }
    }
}

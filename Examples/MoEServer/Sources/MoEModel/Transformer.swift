import Foundation

/// The model: rows of tokens in, logits out.
///
/// Everything but the routed experts happens where it is called, for the sequences whose caches are
/// here. A row's logits depend on its own sequence alone.
package final class Transformer {
    /// One token of one sequence.
    package struct Row {
        package let cache: KeyValueCache
        package let token: UInt8
        /// Whether the logits behind it are wanted.
        package let wantsLogits: Bool

        package init(_ token: UInt8, in cache: KeyValueCache, wantsLogits: Bool) {
            (self.token, self.cache, self.wantsLogits) = (token, cache, wantsLogits)
        }
    }

    package let configuration: ModelConfiguration
    private let weights: ModelWeights
    private let mixture: any Mixture
    /// [context, head / 2].
    private let cosine: [Float]
    private let sine: [Float]
    private let scratch: Scratch
    private var expertScratch = ExpertScratch()

    package init(_ weights: ModelWeights, _ mixture: any Mixture) {
        let c = weights.configuration
        self.weights = weights
        self.mixture = mixture
        configuration = c
        let half = c.headSize / 2
        let angles = (0..<c.context * half).map { index in
            Double(index / half) * pow(c.rotaryBase, -Double(index % half) / Double(half))
        }
        cosine = angles.map { Float(cos($0)) }
        sine = angles.map { Float(sin($0)) }
        scratch = Scratch(c)
    }

    /// Appends the rows to their sequences; rows of one sequence in their order.
    ///
    /// On every rank alike, with 0 rows too: the experts are everywhere.
    ///
    /// - Parameters:
    ///   - rows: One for each token; a sequence must have room for its.
    ///   - phase: Which kernels move them.
    /// - Returns: [vocabulary] for each row that wants logits.
    /// - Throws: what ended the ranks' rounds.
    package func append(_ rows: [Row], phase: Phase) throws -> [[Float]] {
        let c = configuration
        scratch.grow(rows: rows.count)
        let positions = place(rows)
        for (index, row) in rows.enumerated() {
            let from = Int(row.token) * c.hidden
            scratch.stream.replaceSubrange(
                index * c.hidden..<(index + 1) * c.hidden,
                with: weights.embedding[from..<from + c.hidden])
        }
        for (number, layer) in weights.layers.enumerated() {
            attend(rows, positions, number, layer)
            try mix(rows.count, number, layer, phase)
        }
        return logits(rows)
    }

    /// Gives each row its position.
    private func place(_ rows: [Row]) -> [Int] {
        rows.map { row in
            precondition(row.cache.length < configuration.context)
            defer { row.cache.length += 1 }
            return row.cache.length
        }
    }

    private func attend(_ rows: [Row], _ positions: [Int], _ number: Int, _ layer: LayerWeights) {
        let c = configuration
        let hidden = c.hidden
        Arithmetic.normalize(
            scratch.stream, weight: layer.attentionNorm, epsilon: c.normEpsilon,
            rows: rows.count, into: &scratch.normed)
        Arithmetic.multiply(
            scratch.normed, layer.queryKeyValue, rows: rows.count, into: &scratch.wide)
        for (index, row) in rows.enumerated() {
            let position = positions[index]
            let first = index * 3 * hidden
            for part in [first, first + hidden] {
                Arithmetic.rotate(
                    &scratch.wide, at: part, heads: c.heads, size: c.headSize, cosine: cosine,
                    sine: sine, position: position)
            }
            let place = position * hidden..<(position + 1) * hidden
            row.cache.keys[number].replaceSubrange(
                place, with: scratch.wide[first + hidden..<first + 2 * hidden])
            row.cache.values[number].replaceSubrange(
                place, with: scratch.wide[first + 2 * hidden..<first + 3 * hidden])
        }
        for (index, row) in rows.enumerated() {
            let first = index * 3 * hidden
            Arithmetic.attend(
                scratch.wide, from: first, keys: row.cache.keys[number],
                values: row.cache.values[number], length: positions[index] + 1, heads: c.heads,
                hidden: hidden, scores: &scratch.scores, into: &scratch.normed,
                at: index * hidden)
        }
        Arithmetic.multiply(scratch.normed, layer.output, rows: rows.count, into: &scratch.output)
        scratch.addOutput(elements: rows.count * hidden)
    }

    /// The router, the routed experts wherever they are, and the shared one here.
    private func mix(_ count: Int, _ number: Int, _ layer: LayerWeights, _ phase: Phase) throws {
        let c = configuration
        Arithmetic.normalize(
            scratch.stream, weight: layer.mixtureNorm, epsilon: c.normEpsilon, rows: count,
            into: &scratch.normed)
        Arithmetic.multiply(scratch.normed, layer.router, rows: count, into: &scratch.routing)
        let routes = ExpertRouter.choose(
            scratch.routing, rows: count, experts: c.experts, topK: c.expertsPerToken)
        let routed = RoutedRows(
            layer: number, phase: phase, count: count, tokens: scratch.normed,
            experts: routes.experts, weights: routes.weights)
        var sums = scratch.takeSums()
        defer { scratch.sums = sums }
        try mixture.apply(routed, into: &sums) {
            layer.shared.apply(
                scratch.normed, rows: count, scratch: &expertScratch, into: &scratch.output)
        }
        for element in 0..<count * c.hidden { scratch.output[element] += sums[element] }
        scratch.addOutput(elements: count * c.hidden)
    }

    private func logits(_ rows: [Row]) -> [[Float]] {
        let c = configuration
        var wanted: [Float] = []
        for (index, row) in rows.enumerated() where row.wantsLogits {
            wanted += scratch.stream[index * c.hidden..<(index + 1) * c.hidden]
        }
        let count = wanted.count / c.hidden
        var normed = [Float](repeating: 0, count: wanted.count)
        Arithmetic.normalize(
            wanted, weight: weights.norm, epsilon: c.normEpsilon, rows: count, into: &normed)
        var logits = [Float](repeating: 0, count: count * c.vocabulary)
        Arithmetic.multiply(normed, weights.unembedding, rows: count, into: &logits)
        return (0..<count).map { Array(logits[$0 * c.vocabulary..<($0 + 1) * c.vocabulary]) }
    }
}

/// What is between the steps of a layer, for as many rows as came so far.
private final class Scratch {
    private let c: ModelConfiguration
    private var rows = 0
    /// The residual stream, [rows, hidden].
    var stream: [Float] = []
    var normed: [Float] = []
    var output: [Float] = []
    var sums: [Float] = []
    /// Query, key and value, [rows, 3 * hidden].
    var wide: [Float] = []
    /// [rows, experts].
    var routing: [Float] = []
    var scores: [Float]

    init(_ c: ModelConfiguration) {
        self.c = c
        scores = [Float](repeating: 0, count: c.context)
    }

    func grow(rows: Int) {
        guard rows > self.rows else { return }
        self.rows = rows
        stream = [Float](repeating: 0, count: rows * c.hidden)
        normed = stream
        output = stream
        sums = stream
        wide = [Float](repeating: 0, count: 3 * rows * c.hidden)
        routing = [Float](repeating: 0, count: rows * c.experts)
    }

    /// Hands the sums out without a second owner, who would make writing copy them.
    func takeSums() -> [Float] {
        defer { sums = [] }
        return sums
    }

    /// stream += output.
    func addOutput(elements: Int) {
        for element in 0..<elements { stream[element] += output[element] }
    }
}

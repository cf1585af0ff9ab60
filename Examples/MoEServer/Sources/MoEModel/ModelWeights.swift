/// The weights of a model, or of the part of it that one rank needs.
package struct ModelWeights: Sendable {
    package let configuration: ModelConfiguration
    /// [vocabulary, hidden]: a row for each token.
    let embedding: [Float]
    /// The same, transposed: rows to logits.
    let unembedding: Matrix
    let layers: [LayerWeights]
    let norm: [Float]

    /// Reads the weights, and of the routed experts only these.
    package init(_ file: SafetensorsFile, experts: Range<Int>? = nil) throws {
        let c = try ModelConfiguration(file.metadata)
        let experts = experts ?? 0..<c.experts
        configuration = c
        embedding = try file.tensor("embedding.weight", shape: [c.vocabulary, c.hidden])
        unembedding = Matrix(transposing: embedding, inner: c.hidden, columns: c.vocabulary)
        norm = try file.tensor("norm.weight", shape: [c.hidden])
        layers = try (0..<c.layers).map { try LayerWeights(file, layer: $0, c, experts) }
    }

    /// The same without all experts but these, sharing its memory: for ranks of one process.
    package func part(experts: Range<Int>) -> ModelWeights { ModelWeights(self, experts) }

    private init(_ whole: ModelWeights, _ experts: Range<Int>) {
        configuration = whole.configuration
        embedding = whole.embedding
        unembedding = whole.unembedding
        norm = whole.norm
        layers = whole.layers.map { LayerWeights($0, experts) }
    }
}

struct LayerWeights: Sendable {
    let attentionNorm: [Float]
    /// Query, key and value beside each other.
    let queryKeyValue: Matrix
    let output: Matrix
    let mixtureNorm: [Float]
    let router: Matrix
    let shared: ExpertWeights
    /// The first of the experts below, among all.
    let firstExpert: Int
    let experts: [ExpertWeights]

    /// The same with some of its experts.
    init(_ whole: LayerWeights, _ range: Range<Int>) {
        attentionNorm = whole.attentionNorm
        queryKeyValue = whole.queryKeyValue
        output = whole.output
        mixtureNorm = whole.mixtureNorm
        router = whole.router
        shared = whole.shared
        firstExpert = range.lowerBound
        experts = Array(
            whole.experts[
                range.lowerBound - whole.firstExpert..<range.upperBound - whole.firstExpert])
    }

    init(
        _ file: SafetensorsFile, layer: Int, _ c: ModelConfiguration, _ range: Range<Int>
    ) throws {
        let name = "layers.\(layer)."
        attentionNorm = try file.tensor(name + "attention_norm.weight", shape: [c.hidden])
        mixtureNorm = try file.tensor(name + "mixture_norm.weight", shape: [c.hidden])
        func square(_ part: String) throws -> [Float] {
            try file.tensor(name + "attention.\(part).weight", shape: [c.hidden, c.hidden])
        }
        queryKeyValue = try Matrix(
            transposing: square("query") + square("key") + square("value"), inner: c.hidden,
            columns: 3 * c.hidden)
        output = try Matrix(transposing: square("output"), inner: c.hidden, columns: c.hidden)
        router = try Matrix(
            transposing: file.tensor(
                name + "mixture.router.weight", shape: [c.experts, c.hidden]),
            inner: c.hidden, columns: c.experts)
        shared = try ExpertWeights(file, name: name + "mixture.shared", c)
        firstExpert = range.lowerBound
        experts = try range.map {
            try ExpertWeights(file, name: name + "mixture.experts.\($0)", c)
        }
    }
}

/// down(silu(gate(x)) * up(x)).
struct ExpertWeights: Sendable {
    /// Gate and up beside each other.
    let gateUp: Matrix
    let down: Matrix

    init(_ file: SafetensorsFile, name: String, _ c: ModelConfiguration) throws {
        let (hidden, inner) = (c.hidden, c.expertHidden)
        gateUp = try Matrix(
            transposing: file.tensor(name + ".gate.weight", shape: [inner, hidden])
                + file.tensor(name + ".up.weight", shape: [inner, hidden]),
            inner: hidden, columns: 2 * inner)
        down = try Matrix(
            transposing: file.tensor(name + ".down.weight", shape: [hidden, inner]), inner: inner,
            columns: hidden)
    }

    /// Applies the expert to rows; `scratch` grows to what it needs.
    func apply(
        _ x: [Float], rows: Int, scratch: inout ExpertScratch, into y: inout [Float]
    ) {
        scratch.grow(rows: rows, columns: down.inner)
        Arithmetic.multiply(x, gateUp, rows: rows, into: &scratch.pairs)
        Arithmetic.gate(scratch.pairs, columns: down.inner, rows: rows, into: &scratch.gated)
        Arithmetic.multiply(scratch.gated, down, rows: rows, into: &y)
    }
}

/// What is between an expert's matrices.
struct ExpertScratch {
    var pairs: [Float] = []
    var gated: [Float] = []

    mutating func grow(rows: Int, columns: Int) {
        guard gated.count < rows * columns else { return }
        pairs = [Float](repeating: 0, count: 2 * rows * columns)
        gated = [Float](repeating: 0, count: rows * columns)
    }
}

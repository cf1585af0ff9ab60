/// The shape of a model, as its file's metadata has it.
package struct ModelConfiguration: Hashable, Sendable {
    /// Token ids: bytes, of which 0 begins and ends every text.
    package var vocabulary: Int
    /// Positions of a sequence, at most.
    package var context: Int
    /// Elements of a token's row.
    package var hidden: Int
    package var layers: Int
    /// Attention heads; each has hidden / heads elements.
    package var heads: Int
    /// Routed experts of a layer; a shared one comes to them.
    package var experts: Int
    /// Experts that each token is sent to: top-k.
    package var expertsPerToken: Int
    /// Elements between an expert's two matrices.
    package var expertHidden: Int
    package var rotaryBase: Double
    package var normEpsilon: Float

    /// Elements of a head.
    package var headSize: Int { hidden / heads }

    /// Reads and checks the metadata of a file.
    package init(_ metadata: [String: String]) throws {
        func number<Number: LosslessStringConvertible & Comparable>(
            _ name: String, _ legal: ClosedRange<Number>
        ) throws -> Number {
            guard let text = metadata[name] else {
                throw SafetensorsFile.Invalid("the metadata lacks \(name)")
            }
            guard let value = Number(text), legal.contains(value) else {
                throw SafetensorsFile.Invalid(
                    "\(name) is \(text); legal are \(legal.lowerBound) to \(legal.upperBound)")
            }
            return value
        }
        vocabulary = try number("vocabulary", 256...256)
        context = try number("context", 2...65536)
        hidden = try number("hidden", 4...8192)
        layers = try number("layers", 1...256)
        heads = try number("heads", 1...1024)
        experts = try number("experts", 1...1024)
        expertsPerToken = try number("experts_per_token", 1...experts)
        expertHidden = try number("expert_hidden", 1...32768)
        rotaryBase = try number("rotary_base", 1...1e9)
        normEpsilon = try number("norm_epsilon", 0...1)
        guard hidden % heads == 0 && headSize % 2 == 0 else {
            throw SafetensorsFile.Invalid(
                "\(heads) heads of \(hidden) elements; legal are heads of an even whole number")
        }
    }
}

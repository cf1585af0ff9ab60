import Foundation
import MoEModel

/// Where the tests' files are.
enum Paths {
    static let fixtures = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Fixtures")
    static let model = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Model/model.safetensors").standardized.path
}

/// Models for tests.
enum Models {
    static let file = required { try SafetensorsFile(path: Paths.model) }
    static let weights = required { try ModelWeights(file) }

    /// What tests cannot do without.
    static func required<Value>(_ body: () throws -> Value) -> Value {
        do {
            return try body()
        } catch {
            fatalError("\(error)")
        }
    }

    static func reference(inOrderOf ranks: Int = 1) throws -> Transformer {
        Transformer(weights, ReferenceMixture(weights, inOrderOf: ranks))
    }

    static func likeliest(_ logits: [Float]) -> UInt8 {
        var best = 0
        for token in logits.indices where logits[token] > logits[best] { best = token }
        return UInt8(best)
    }

    /// The likeliest continuation, whatever it is.
    static func complete(
        _ prompt: [UInt8], tokens: Int, _ model: Transformer
    ) throws -> [UInt8] {
        let cache = KeyValueCache(model.configuration)
        var rows = ([0] + prompt).map { Transformer.Row($0, in: cache, wantsLogits: false) }
        rows[rows.count - 1] = Transformer.Row(prompt.last ?? 0, in: cache, wantsLogits: true)
        var text: [UInt8] = []
        while text.count < tokens {
            let phase = text.isEmpty ? Phase.prefill : .decode
            text.append(likeliest(try model.append(rows, phase: phase)[0]))
            rows = [Transformer.Row(text[text.count - 1], in: cache, wantsLogits: true)]
        }
        return text
    }
}

import Foundation
import MoEModel

/// A model of 4 elements and a layer, as a file: small enough to be changed at every byte.
enum SmallModel {
    static let metadata = [
        "vocabulary": "256", "context": "8", "hidden": "4", "layers": "1", "heads": "2",
        "experts": "3", "experts_per_token": "2", "expert_hidden": "2", "rotary_base": "10000.0",
        "norm_epsilon": "1e-05",
    ]

    /// Names and shapes of its tensors.
    static let tensors: [(name: String, shape: [Int])] = {
        let (hidden, inner, experts) = (4, 2, 3)
        var tensors = [("embedding.weight", [256, hidden]), ("norm.weight", [hidden])]
        let layer = "layers.0."
        tensors += ["attention_norm", "mixture_norm"].map { (layer + "\($0).weight", [hidden]) }
        tensors += ["query", "key", "value", "output"].map {
            (layer + "attention.\($0).weight", [hidden, hidden])
        }
        tensors.append((layer + "mixture.router.weight", [experts, hidden]))
        for expert in ["shared"] + (0..<experts).map({ "experts.\($0)" }) {
            let name = layer + "mixture.\(expert)"
            tensors.append((name + ".gate.weight", [inner, hidden]))
            tensors.append((name + ".up.weight", [inner, hidden]))
            tensors.append((name + ".down.weight", [hidden, inner]))
        }
        return tensors
    }()

    /// Its file, with random weights; the norms are of type F32, all else of BF16.
    static func file(_ generator: inout some RandomNumberGenerator) -> Data {
        var fields = [
            "\"__metadata__\":{"
                + metadata.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\"\($0.value)\"" }
                .joined(separator: ",") + "}"
        ]
        var bytes: [UInt8] = []
        for (name, shape) in tensors {
            let begin = bytes.count
            let isWide = shape.count == 1
            for _ in 0..<shape.reduce(1, *) {
                let bits = Float.random(in: -1...1, using: &generator).bitPattern
                bytes += (isWide ? 0..<4 : 2..<4).map {
                    UInt8(truncatingIfNeeded: bits >> (8 * $0))
                }
            }
            fields.append(
                "\"\(name)\":{\"dtype\":\"\(isWide ? "F32" : "BF16")\",\"shape\":\(shape),"
                    + "\"data_offsets\":[\(begin),\(bytes.count)]}")
        }
        return SafetensorsTests.file("{" + fields.joined(separator: ",") + "}", bytes)
    }
}

import Foundation
import Testing

import MoEModel

@Suite struct SafetensorsTests {
    /// A file of a header and some bytes.
    static func file(_ header: String, _ bytes: [UInt8], length: UInt64? = nil) -> Data {
        let length = length ?? UInt64(header.utf8.count)
        return Data((0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) })
            + Data(header.utf8) + Data(bytes)
    }

    @Test func tensorsOfBothTypesAreRead() throws {
        let file = try SafetensorsFile(
            Self.file(
                #"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#
                    + #""y":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}"#,
                [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0x80, 0x3F, 0x40, 0xC0]))
        #expect(file.metadata == ["a": "b"])
        #expect(file.names == ["x", "y"])
        #expect(try file.tensor("x", shape: [1, 2]) == [1, -2])
        #expect(try file.tensor("y", shape: [2]) == [1, -3])
        #expect(throws: SafetensorsFile.Invalid.self) { try file.tensor("z", shape: [2]) }
        #expect(throws: SafetensorsFile.Invalid.self) { try file.tensor("y", shape: [1, 2]) }
    }

    static let bad: [(String, Data)] = [
        ("nothing", Data()),
        ("seven bytes", Data([1, 2, 3, 4, 5, 6, 7])),
        ("a header beyond the file", file("{}", [], length: 3)),
        ("the longest header", file("{}", [], length: .max)),
        ("no JSON", file("{", [])),
        ("another JSON", file("[1]", [])),
        ("metadata that is no text", file(#"{"__metadata__":{"a":1}}"#, [])),
        ("a type that is not read", entry(type: "I64", shape: "[1]", offsets: "[0,8]")),
        ("a negative dimension", entry(shape: "[-1]", offsets: "[0,4]")),
        ("two negative dimensions", entry(shape: "[-1,-1]", offsets: "[0,4]")),
        ("a size that overflows", entry(shape: "[4611686018427387904,4]", offsets: "[0,0]")),
        ("a range of another size", entry(shape: "[2]", offsets: "[0,4]")),
        ("a range beyond the file", entry(shape: "[2]", offsets: "[4,12]")),
        ("a range that is upside down", entry(shape: "[1]", offsets: "[8,4]")),
        ("a negative range", entry(shape: "[1]", offsets: "[-4,0]")),
        ("one offset", entry(shape: "[1]", offsets: "[0]")),
    ]

    static func entry(type: String = "F32", shape: String, offsets: String) -> Data {
        file(
            #"{"x":{"dtype":"\#(type)","shape":\#(shape),"data_offsets":\#(offsets)}}"#,
            [UInt8](repeating: 0, count: 8))
    }

    @Test(arguments: bad.indices)
    func badFilesAreRefusedWithAReason(_ index: Int) {
        let (what, data) = Self.bad[index]
        #expect(throws: SafetensorsFile.Invalid.self, "\(what)") { try SafetensorsFile(data) }
    }

    @Test func aSmallModelIsReadWholeAndComputes() throws {
        var generator = SeededGenerator(for: "a small model")
        let file = try SafetensorsFile(SmallModel.file(&generator))
        #expect(file.names == SmallModel.tensors.map(\.name).sorted())
        let weights = try ModelWeights(file)
        let model = Transformer(weights, ReferenceMixture(weights))
        let cache = KeyValueCache(model.configuration)
        let logits = try model.append(
            [Transformer.Row(65, in: cache, wantsLogits: true)], phase: .prefill)
        #expect(logits[0].count == 256 && Set(logits[0]).count > 128)
        #expect(logits[0].allSatisfy { $0.isFinite })
    }

    @Test func cutAndChangedFilesAreReadOrRefusedAndNothingElse() throws {
        var generator = SeededGenerator(for: "cut and changed files")
        let whole = SmallModel.file(&generator)
        var (read, refused) = (0, 0)
        for _ in 0..<2000 {
            var data = whole
            if Int.random(in: 0..<4, using: &generator) == 0 {
                data = Data(data.prefix(Int.random(in: 0..<whole.count, using: &generator)))
            }
            for _ in 0..<Int.random(in: 0..<4, using: &generator) where !data.isEmpty {
                let place = Int.random(in: 0..<data.count, using: &generator)
                data[place] = UInt8.random(in: 0...255, using: &generator)
            }
            // Reading ends, with weights or a reason, and not with a trap.
            do {
                _ = try ModelWeights(SafetensorsFile(data))
                read += 1
            } catch {
                #expect(error is SafetensorsFile.Invalid)
                refused += 1
            }
        }
        // Both ways were gone: a change among the tensors is just another model.
        #expect(read > 100 && refused > 100, "\(read) read, \(refused) refused")
    }

    @Test(arguments: [
        ("layers", "0"), ("hidden", "193"), ("heads", "-1"), ("experts_per_token", "9"),
        ("context", "x"), ("norm_epsilon", "nan"), ("vocabulary", "255"),
    ])
    func metadataOfAModelThatCannotBeIsRefused(_ name: String, _ value: String) {
        var metadata = Models.file.metadata
        metadata[name] = value
        #expect(throws: SafetensorsFile.Invalid.self) { try ModelConfiguration(metadata) }
        metadata[name] = nil
        #expect(throws: SafetensorsFile.Invalid.self) { try ModelConfiguration(metadata) }
    }
}

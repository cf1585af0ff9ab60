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

    @Test func cutAndChangedFilesAreReadOrRefusedAndNothingElse() throws {
        let whole = try Data(contentsOf: URL(filePath: Paths.model)).prefix(20_000)
        let seed = UInt64.random(in: 0 ... .max)
        var state = seed
        func random(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % count
        }
        for _ in 0..<300 {
            var data = Data(whole.prefix(random(whole.count)))
            for _ in 0..<random(4) where !data.isEmpty {
                data[random(data.count)] = UInt8(random(256))
            }
            // Reading ends, and not with a trap.
            guard let file = try? SafetensorsFile(data) else { continue }
            _ = try? ModelWeights(file)
        }
        print("seed \(seed)")
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

import Foundation

/// A safetensors file: 8 bytes of length, a JSON header, and the tensors' bytes.
///
/// Nothing in the file is believed: lengths, shapes and ranges are held against each other before a
/// tensor is read.
package struct SafetensorsFile: Sendable {
    /// What is wrong with a file.
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
        init(_ description: String) { self.description = description }
    }

    /// Texts by name.
    package let metadata: [String: String]
    /// Names of the tensors, sorted.
    package var names: [String] { entries.keys.sorted() }

    private let entries: [String: Entry]
    private let bytes: Data
    /// Where the tensors' bytes begin.
    private let begin: Int

    /// What the header says of one tensor.
    private struct Entry: Decodable {
        var type: String
        var shape: [Int]
        var offsets: [Int]

        enum CodingKeys: String, CodingKey {
            case type = "dtype"
            case shape
            case offsets = "data_offsets"
        }
    }

    /// The longest header that is read.
    static let longestHeader = 1 << 20

    /// Reads a file.
    package init(path: String) throws {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw Invalid("\(path) cannot be read; give a file that train/train.py wrote")
        }
        do {
            try self.init(data)
        } catch let error as Invalid {
            throw Invalid("\(path): \(error)")
        }
    }

    /// Reads what a file has.
    package init(_ data: Data) throws {
        guard data.count >= 8 else {
            throw Invalid("\(data.count) bytes; a safetensors file has 8 and a header at least")
        }
        let data = Data(data)
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(min(data.count - 8, Self.longestHeader)) else {
            throw Invalid(
                "a header of \(length) bytes in a file of \(data.count); legal are up to"
                    + " \(Self.longestHeader), inside the file")
        }
        begin = 8 + Int(length)
        let header: Header
        do {
            header = try JSONDecoder().decode(Header.self, from: data[8..<begin])
        } catch {
            throw Invalid("the header is not the JSON of tensors: \(error)")
        }
        (metadata, entries, bytes) = (header.metadata, header.entries, data)
        for (name, entry) in entries { try check(name, entry) }
    }

    private func check(_ name: String, _ entry: Entry) throws {
        guard let width = Self.widths[entry.type] else {
            throw Invalid("\(name) is of type \(entry.type); legal are BF16 and F32")
        }
        var size = width
        for dimension in entry.shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
            guard dimension >= 0 && !overflow else {
                throw Invalid("\(name) has the shape \(entry.shape)")
            }
            size = product
        }
        guard entry.offsets.count == 2, 0 <= entry.offsets[0],
            entry.offsets[0] <= entry.offsets[1], entry.offsets[1] <= bytes.count - begin,
            entry.offsets[1] - entry.offsets[0] == size
        else {
            throw Invalid(
                "\(name) of \(entry.type) \(entry.shape) lies at \(entry.offsets); legal are two"
                    + " offsets \(size) apart inside the file's \(bytes.count - begin) bytes")
        }
    }

    private static let widths = ["BF16": 2, "F32": 4]

    /// A tensor's elements, which must have this shape.
    package func tensor(_ name: String, shape: [Int]) throws -> [Float] {
        guard let entry = entries[name] else { throw Invalid("there is no tensor \(name)") }
        guard entry.shape == shape else {
            throw Invalid("\(name) has the shape \(entry.shape); legal here is \(shape)")
        }
        let part = bytes[begin + entry.offsets[0]..<begin + entry.offsets[1]]
        // Little-endian, wherever this runs.
        func word(_ index: Data.Index, _ width: Int) -> UInt32 {
            (0..<width).reversed().reduce(0) { $0 << 8 | UInt32(part[index + $1]) }
        }
        if entry.type == "BF16" {
            return stride(from: part.startIndex, to: part.endIndex, by: 2).map {
                Float(bitPattern: word($0, 2) << 16)
            }
        }
        return stride(from: part.startIndex, to: part.endIndex, by: 4).map {
            Float(bitPattern: word($0, 4))
        }
    }

    /// The header: entries by name, and texts under one name of their own.
    private struct Header: Decodable {
        var metadata: [String: String] = [:]
        var entries: [String: Entry] = [:]

        struct Name: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Name.self)
            for name in container.allKeys {
                if name.stringValue == "__metadata__" {
                    metadata = try container.decode([String: String].self, forKey: name)
                } else {
                    entries[name.stringValue] = try container.decode(Entry.self, forKey: name)
                }
            }
        }
    }
}

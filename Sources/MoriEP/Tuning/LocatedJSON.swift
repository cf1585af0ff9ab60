import MoriDevice

/// A JSON value that remembers its line.
///
/// Foundation's decoder tells where a text breaks off, but not where a value stands that is of the
/// wrong type; whoever writes tuning rules by hand wants to know just that.
struct LocatedJSON: Sendable {
    /// One entry of an object.
    struct Member: Sendable {
        var key: String
        /// The key's line.
        var line: Int
        var value: LocatedJSON
    }

    /// What it is.
    enum Value: Sendable {
        case object([Member])
        case array([LocatedJSON])
        case string(String)
        case number(Double)
        case boolean(Bool)
        case null
    }

    /// The line on which it begins, from 1.
    let line: Int
    let value: Value

    /// Reads a whole text, called `name` in errors.
    ///
    /// - Throws: `invalidConfiguration` with the line and the key where it is no JSON.
    static func parse(_ bytes: [UInt8], name: String) throws(MoriError) -> LocatedJSON {
        var parser = LocatedJSONParser(bytes: bytes, name: name)
        return try parser.document()
    }

    /// What it is, in words for an error.
    var words: String {
        switch value {
        case .object: "an object"
        case .array: "an array"
        case .string(let text): "\"\(text)\""
        case .number(let number): Int(exactly: number).map(String.init) ?? "\(number)"
        case .boolean(let truth): "\(truth)"
        case .null: "null"
        }
    }
}

/// An error in a text: its name, the line and the key.
func located(_ name: String, _ line: Int, key: String?, _ problem: String) -> MoriError {
    let place = key.map { ", key \"\($0)\"" } ?? ""
    return MoriError(.invalidConfiguration, "\(name), line \(line)\(place): \(problem)")
}

/// Reads JSON from front to back.
private struct LocatedJSONParser {
    private let bytes: [UInt8]
    private let name: String
    private var index = 0
    private var line = 1
    /// The key whose value is being read.
    private var key: String?
    private var depth = 0

    /// Deep enough for any table, and no deeper than the stack.
    private static let maxDepth = 32

    init(bytes: [UInt8], name: String) {
        self.bytes = bytes
        self.name = name
    }

    mutating func document() throws(MoriError) -> LocatedJSON {
        let value = try self.value()
        skipSpace()
        guard index == bytes.count else { throw unexpected("the end of the text") }
        return value
    }

    private mutating func value() throws(MoriError) -> LocatedJSON {
        skipSpace()
        let start = line
        guard index < bytes.count else { throw unexpected("a value") }
        let value: LocatedJSON.Value =
            switch bytes[index] {
            case UInt8(ascii: "{"): .object(try object())
            case UInt8(ascii: "["): .array(try array())
            case UInt8(ascii: "\""): .string(try string())
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): .number(try number())
            default: try word()
            }
        return LocatedJSON(line: start, value: value)
    }

    private mutating func object() throws(MoriError) -> [LocatedJSON.Member] {
        let outer = key
        var members: [LocatedJSON.Member] = []
        try enter()
        if try !take("}", or: nil) {
            repeat {
                skipSpace()
                let start = line
                guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else {
                    throw unexpected("a key in quotes")
                }
                let key = try string()
                self.key = key
                _ = try take(":", or: "a colon")
                members.append(.init(key: key, line: start, value: try value()))
            } while try take(",", or: nil)
            _ = try take("}", or: "a comma or }")
        }
        depth -= 1
        key = outer
        return members
    }

    private mutating func array() throws(MoriError) -> [LocatedJSON] {
        var elements: [LocatedJSON] = []
        try enter()
        if try !take("]", or: nil) {
            repeat { elements.append(try value()) } while try take(",", or: nil)
            _ = try take("]", or: "a comma or ]")
        }
        depth -= 1
        return elements
    }

    /// Steps over the bracket of an object or array.
    private mutating func enter() throws(MoriError) {
        index += 1
        depth += 1
        guard depth <= Self.maxDepth else {
            throw located(name, line, key: key, "nested deeper than \(Self.maxDepth)")
        }
    }

    /// Steps over a character if it comes next; where another one is an error, `expected` says so.
    private mutating func take(
        _ character: Unicode.Scalar, or expected: String?
    ) throws(MoriError) -> Bool {
        skipSpace()
        if index < bytes.count, bytes[index] == UInt8(ascii: character) {
            index += 1
            return true
        }
        if let expected { throw unexpected(expected) }
        return false
    }

    private mutating func string() throws(MoriError) -> String {
        index += 1
        var text: [UInt8] = []
        while index < bytes.count, bytes[index] != UInt8(ascii: "\"") {
            guard bytes[index] >= 0x20 else { throw unexpected("a quote that ends the string") }
            if bytes[index] == UInt8(ascii: "\\") {
                index += 1
                text += try escaped()
            } else {
                text.append(bytes[index])
                index += 1
            }
        }
        guard index < bytes.count else { throw unexpected("a quote that ends the string") }
        index += 1
        return String(decoding: text, as: UTF8.self)
    }

    /// What a backslash and the characters behind it stand for.
    private mutating func escaped() throws(MoriError) -> [UInt8] {
        let plain: [UInt8: UInt8] = [
            0x22: 0x22, 0x5C: 0x5C, 0x2F: 0x2F, 0x62: 0x08, 0x66: 0x0C, 0x6E: 0x0A, 0x72: 0x0D,
            0x74: 0x09,
        ]
        guard index < bytes.count else { throw unexpected("an escaped character") }
        if let byte = plain[bytes[index]] {
            index += 1
            return [byte]
        }
        var units: [UInt16] = []
        // A character beyond the first 65536 is two units.
        repeat {
            let digits = bytes[index...].dropFirst().prefix(4)
            guard bytes[index] == UInt8(ascii: "u"), digits.count == 4,
                let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
            else { throw unexpected("an escape that JSON knows") }
            units.append(unit)
            index += 5
        } while UTF16.isLeadSurrogate(units[units.count - 1])
            && bytes[index...].starts(with: Array("\\u".utf8)) && step()
        return Array(String(decoding: units, as: UTF16.self).utf8)
    }

    private mutating func step() -> Bool {
        index += 1
        return true
    }

    private mutating func number() throws(MoriError) -> Double {
        let digits = bytes[index...].prefix { Array("+-.eE0123456789".utf8).contains($0) }
        guard let number = Double(String(decoding: digits, as: UTF8.self)) else {
            throw unexpected("a number")
        }
        index += digits.count
        return number
    }

    private mutating func word() throws(MoriError) -> LocatedJSON.Value {
        let words: [(String, LocatedJSON.Value)] = [
            ("true", .boolean(true)), ("false", .boolean(false)), ("null", .null),
        ]
        for (word, value) in words where bytes[index...].starts(with: Array(word.utf8)) {
            index += word.utf8.count
            return value
        }
        throw unexpected("a value")
    }

    private mutating func skipSpace() {
        while index < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[index]) {
            if bytes[index] == 0x0A { line += 1 }
            index += 1
        }
    }

    private func unexpected(_ expected: String) -> MoriError {
        let rest = bytes[min(index, bytes.count)...].prefix { $0 >= 0x20 }.prefix(12)
        let found =
            index >= bytes.count
            ? "the text ends" : "found \"\(String(decoding: rest, as: UTF8.self))\""
        return located(name, line, key: key, "\(found); expected is \(expected)")
    }
}

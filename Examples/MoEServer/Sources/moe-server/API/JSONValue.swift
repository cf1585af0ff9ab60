import Foundation

/// Any JSON, so that a refused request can be told what it had and not only what was expected.
enum JSONValue: Decodable, Hashable, Sendable, CustomStringConvertible {
    case null
    case bool(Bool)
    /// A whole number, all of whose digits count.
    case whole(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .null
        } else if let bool = try? value.decode(Bool.self) {
            self = .bool(bool)
        } else if let whole = try? value.decode(Int.self) {
            // Before doubles, which have no odd numbers beyond 2^53.
            self = .whole(whole)
        } else if let number = try? value.decode(Double.self) {
            // 1.0 is 1.
            let whole = abs(number) <= 0x1p53 ? Int(exactly: number) : nil
            self = whole.map(JSONValue.whole) ?? .number(number)
        } else if let string = try? value.decode(String.self) {
            self = .string(string)
        } else if let array = try? value.decode([JSONValue].self) {
            self = .array(array)
        } else {
            self = .object(try value.decode([String: JSONValue].self))
        }
    }

    /// Short enough for a message.
    var description: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .whole(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): "\"\(value.prefix(40))\""
        case .array(let values): "an array of \(values.count)"
        case .object(let fields): fields.isEmpty ? "{}" : "an object of \(fields.count)"
        }
    }
}

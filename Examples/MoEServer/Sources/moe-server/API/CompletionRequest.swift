import Foundation
import MoEModel
import MoEServing

/// A body of `POST /v1/completions`, checked field by field.
struct CompletionRequest: Hashable {
    var parameters: CompletionParameters
    var stops: [[UInt8]] = []
    var streams = false

    /// Tokens where the request names no number, as OpenAI's.
    static let defaultTokens = 16

    init(_ body: [UInt8], model: String, _ c: ModelConfiguration) throws(APIError) {
        let fields: [String: JSONValue]
        do {
            fields = try JSONDecoder().decode([String: JSONValue].self, from: Data(body))
        } catch {
            throw .invalid(
                "the body is not a JSON object; send {\"prompt\": \"...\", \"max_tokens\": 16}")
        }
        let reader = FieldReader(fields: fields)
        if let asked = try reader.string("model"), asked != model {
            throw APIError(
                status: .notFound, message: "there is no model \"\(asked)\"; legal is \"\(model)\"",
                field: "model")
        }
        try reader.refuseUnsupported()
        let prompt = Array(try reader.prompt().utf8)
        guard !prompt.contains(Vocabulary.boundary) else {
            throw .invalid("prompt has a NUL character, which ends texts", field: "prompt")
        }
        let room = c.context - prompt.count
        guard room > 0 else {
            throw .invalid(
                "prompt has \(prompt.count) bytes; legal are up to \(c.context - 1), because"
                    + " prompt and completion share a context of \(c.context)", field: "prompt")
        }
        let asked = try reader.whole(
            "max_tokens", 1...room, "behind this prompt of \(prompt.count) bytes")
        let temperature = try reader.number("temperature", 0...2) ?? 1
        // Without a seed every answer is another one, as people expect of a temperature.
        let seed =
            try reader.whole("seed", Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
            ?? UInt64.random(in: .min ... .max)
        parameters = CompletionParameters(
            prompt: prompt, maxTokens: asked ?? min(Self.defaultTokens, room),
            temperature: Float(temperature), seed: seed)
        stops = try reader.stops()
        streams = try reader.bool("stream") ?? false
    }
}

/// Fields by name; null counts as absent.
private struct FieldReader {
    let fields: [String: JSONValue]

    private func value(_ name: String) -> JSONValue? {
        fields[name] == .null ? nil : fields[name]
    }

    private func wrong(_ name: String, _ value: JSONValue, _ legal: String) -> APIError {
        .invalid("\(name) is \(value); legal is \(legal)", field: name)
    }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = value(name) else { return nil }
        guard case .string(let text) = value else { throw wrong(name, value, "a string") }
        return text
    }

    func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .bool(let bool) = value else { throw wrong(name, value, "true or false") }
        return bool
    }

    func number(_ name: String, _ legal: ClosedRange<Int>) throws(APIError) -> Double? {
        guard let value = value(name) else { return nil }
        let number: Double? =
            switch value {
            case .whole(let whole): Double(whole)
            case .number(let number): number
            default: nil
            }
        guard let number, (Double(legal.lowerBound)...Double(legal.upperBound)).contains(number)
        else {
            throw wrong(name, value, "a number from \(legal.lowerBound) to \(legal.upperBound)")
        }
        return number
    }

    func whole(
        _ name: String, _ legal: ClosedRange<Int>, _ why: String? = nil
    ) throws(APIError) -> Int? {
        guard let value = value(name) else { return nil }
        guard case .whole(let whole) = value, legal.contains(whole) else {
            let bounds = "a whole number from \(legal.lowerBound) to \(legal.upperBound)"
            throw wrong(name, value, bounds + (why.map { " \($0)" } ?? ""))
        }
        return whole
    }

    /// One prompt, bare or in an array.
    func prompt() throws(APIError) -> String {
        switch value("prompt") {
        case .string(let text): return text
        case .array(let texts):
            if texts.count == 1, case .string(let text) = texts[0] { return text }
            throw .invalid(
                "prompt is an array of \(texts.count); legal is one string", field: "prompt")
        case nil: throw .invalid("prompt is missing; legal is a string", field: "prompt")
        case .some(let value): throw wrong("prompt", value, "a string")
        }
    }

    /// Up to four texts that end the completion.
    func stops() throws(APIError) -> [[UInt8]] {
        guard let value = value("stop") else { return [] }
        let legal = "a string, or up to 4, of 1 to 64 bytes each"
        let values: [JSONValue] = if case .array(let all) = value { all } else { [value] }
        guard values.count <= 4 else { throw wrong("stop", value, legal) }
        var stops: [[UInt8]] = []
        for stop in values {
            guard case .string(let text) = stop, (1...64).contains(text.utf8.count) else {
                throw wrong("stop", stop, legal)
            }
            stops.append(Array(text.utf8))
        }
        return stops
    }

    /// Fields that are read above.
    private static let read = [
        "max_tokens", "model", "prompt", "seed", "stop", "stream", "temperature",
    ]
    /// Fields that change no answer, whatever they are.
    private static let ignored = ["metadata", "user"]
    /// Fields of the interface that this server does not have, and values that ask for nothing.
    private static let neutral: [String: [JSONValue]] = [
        "best_of": [.whole(1)], "echo": [.bool(false)], "frequency_penalty": [.whole(0)],
        "logit_bias": [.object([:])], "logprobs": [], "n": [.whole(1)],
        "presence_penalty": [.whole(0)],
        "stream_options": [.object([:])], "suffix": [.string("")], "top_p": [.whole(1)],
    ]

    /// Whatever would change the answer, and a name that is none: nothing is left out silently.
    func refuseUnsupported() throws(APIError) {
        for name in fields.keys.sorted() {
            guard let value = value(name), !Self.read.contains(name), !Self.ignored.contains(name)
            else { continue }
            guard let legal = Self.neutral[name] else {
                let known = (Self.read + Self.ignored + Self.neutral.keys).sorted()
                throw .invalid(
                    "\(name.prefix(40)) is no field of this server; legal are"
                        + " \(known.joined(separator: ", "))", field: name)
            }
            guard legal.contains(value) else {
                let words = legal.map { "\($0)" } + ["leaving it out"]
                throw .invalid(
                    "\(name) is \(value), which this server does not do; legal is"
                        + " \(words.joined(separator: " or "))", field: name)
            }
        }
    }
}

/// What an environment variable may say, and how it is read.
struct VariableType<Value: Sendable>: Sendable {
    /// What is legal, for errors and tables.
    let legal: String
    /// Gives nil for what is not.
    let parse: @Sendable (String) -> Value?
}

extension VariableType<Int> {
    /// A whole number.
    static func integer(in range: ClosedRange<Int>) -> VariableType {
        VariableType(
            legal: "a whole number from \(range.lowerBound) to \(range.upperBound)"
        ) { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// One of these numbers.
    static func integer(among legal: [Int]) -> VariableType {
        let words = legal.dropLast().map(String.init).joined(separator: ", ")
        return VariableType(legal: "\(words) or \(legal.last ?? 0)") { text in
            Int(text).flatMap { legal.contains($0) ? $0 : nil }
        }
    }

    /// A size in bytes.
    static let byteCount = VariableType(
        legal: "a whole number of bytes, 1 or more, or one with K, M, G or T, like 6G or 512MiB",
        parse: ByteCount.parse)
}

extension VariableType<Bool> {
    /// 0 or 1.
    static let flag = VariableType(legal: "0 or 1") { ["0": false, "1": true][$0] }
}

extension VariableType<String> {
    /// Anything.
    static func text(_ legal: String) -> VariableType {
        VariableType(legal: legal) { $0 }
    }
}

extension VariableType<Duration> {
    /// A time in seconds, fractions allowed.
    static let seconds = VariableType(
        legal: "a number of seconds from 0.001 to 1000000, like 30 or 2.5"
    ) { text in
        // Double's own notation has more (exponents, hexadecimal, infinity) than people mean.
        guard text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }),
            let seconds = Double(text), (0.001...1e6).contains(seconds)
        else { return nil }
        return .milliseconds((seconds * 1000).rounded())
    }
}

extension VariableType where Value: CaseIterable & RawRepresentable<String> {
    /// One of the cases, by its raw value.
    static var choice: VariableType {
        VariableType(
            legal: Value.allCases.map(\.rawValue).joined(separator: ", "),
            parse: { Value(rawValue: $0) })
    }
}

/// Sizes in bytes as people write them.
package enum ByteCount {
    /// Reads "6G", "512M", "64KiB", "1TB" or plain bytes; units are powers of 1024, in any case.
    ///
    /// - Returns: The number of bytes; nil for anything else, for 0 and for what does not fit.
    package static func parse(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let shifts = [
            "": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20,
            "g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40,
        ]
        guard let number = Int(digits), number > 0,
            let shift = shifts[text.dropFirst(digits.count).lowercased()]
        else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        return overflow ? nil : bytes
    }
}

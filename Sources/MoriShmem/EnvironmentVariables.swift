import MoriDevice

/// Environment variables with their types; one that is set to nothing counts as not set.
struct EnvironmentVariables: Sendable {
    private let values: [String: String]

    /// Takes the variables.
    init(_ values: [String: String]) { self.values = values }

    /// The value of a variable.
    subscript(_ name: String) -> String? {
        values[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The first of these names that is set.
    func first(of names: [String]) -> String? { names.first { self[$0] != nil } }

    /// The error for a variable that is needed and not set.
    static func missing(_ name: String) -> MoriError {
        MoriError(.invalidConfiguration, "the environment variable \(name) is not set")
    }

    /// Reads a variable.
    ///
    /// - Parameters:
    ///   - name: The variable, which is set.
    ///   - legal: What is legal, for the message.
    ///   - parser: Gives nil for what is not.
    /// - Returns: What the parser gave.
    /// - Throws: `.invalidConfiguration` naming the variable, its value and what is legal.
    func parse<Value>(
        _ name: String, _ legal: String, _ parser: (String) -> Value?
    ) throws(MoriError) -> Value {
        guard let text = self[name] else { throw Self.missing(name) }
        guard let value = parser(text) else {
            throw MoriError(
                .invalidConfiguration,
                "the environment variable \(name) is \"\(text)\"; legal is \(legal)")
        }
        return value
    }

    /// Reads a whole number; nil when it is not set.
    func integer(_ name: String, in range: ClosedRange<Int>) throws(MoriError) -> Int? {
        guard self[name] != nil else { return nil }
        let legal = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return try parse(name, legal) { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// Reads a time in seconds, fractions allowed; nil when it is not set.
    func seconds(_ name: String) throws(MoriError) -> Duration? {
        guard self[name] != nil else { return nil }
        return try parse(name, "a number of seconds from 0.001 to 1000000, like 30 or 2.5") {
            text in
            // Double's own notation has more (exponents, hexadecimal, infinity) than people mean.
            guard text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }),
                let seconds = Double(text), (0.001...1e6).contains(seconds)
            else { return nil }
            return .milliseconds((seconds * 1000).rounded())
        }
    }

    /// Reads a size in bytes; nil when it is not set.
    func byteCount(_ name: String) throws(MoriError) -> Int? {
        guard self[name] != nil else { return nil }
        return try parse(
            name, "a whole number of bytes, 1 or more, or one with K, M, G or T, like 6G or 512MiB",
            ByteCount.parse)
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

/// The two kinds of lists that Slurm writes into its variables.
enum SlurmList {
    /// The most entries that a list may have, so that a typo does not fill the memory.
    private static let mostEntries = BootstrapLimit.worldSize

    /// Expands "node[01-03,7],other" into node01, node02, node03, node7, other.
    ///
    /// A name may have several brackets; numbers keep the zeros of the range's lower end.
    ///
    /// - Returns: The names in order, at least one; nil when the list is malformed.
    static func hosts(_ text: String) -> [String]? {
        guard let parts = split(text) else { return nil }
        var names: [String] = []
        for part in parts {
            guard let expanded = expand(part[...]), names.count + expanded.count <= mostEntries
            else { return nil }
            names += expanded
        }
        return names
    }

    /// Expands "2(x3),1" into 2, 2, 2, 1.
    ///
    /// - Returns: The counts in order, at least one; nil when the list is malformed.
    static func counts(_ text: String) -> [Int]? {
        var counts: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let number = part.prefix { $0 != "(" }
            let repeated = part.dropFirst(number.count)
            var times: Int? = 1
            if !repeated.isEmpty {
                guard repeated.hasPrefix("(x"), repeated.hasSuffix(")") else { return nil }
                times = Int(repeated.dropFirst(2).dropLast())
            }
            guard let count = Int(number), count > 0, let times, times > 0,
                counts.count <= mostEntries - times
            else { return nil }
            counts += [Int](repeating: count, count: times)
        }
        return counts
    }

    /// Splits at the commas outside brackets; nil when a bracket or a name is missing.
    private static func split(_ text: String) -> [String]? {
        var parts = [""]
        var isInside = false
        for character in text {
            switch character {
            case "[" where !isInside: isInside = true
            case "]" where isInside: isInside = false
            case "[", "]": return nil
            default: break
            }
            if character == ",", !isInside {
                parts.append("")
            } else {
                parts[parts.count - 1].append(character)
            }
        }
        return isInside || parts.contains("") ? nil : parts
    }

    private static func expand(_ name: Substring) -> [String]? {
        guard let open = name.firstIndex(of: "["), let close = name.firstIndex(of: "]") else {
            return [String(name)]
        }
        guard let ends = expand(name[name.index(after: close)...]) else { return nil }
        var names: [String] = []
        let ranges = name[name.index(after: open)..<close]
        for range in ranges.split(separator: ",", omittingEmptySubsequences: false) {
            guard let numbers = numbers(range),
                names.count + numbers.count * ends.count <= mostEntries
            else { return nil }
            for number in numbers { names += ends.map { name[..<open] + number + $0 } }
        }
        return names
    }

    /// "08-10" gives 08, 09, 10.
    private static func numbers(_ range: Substring) -> [String]? {
        let ends = range.split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(ends.count), let low = ends.first, let high = ends.last,
            ends.allSatisfy({ !$0.isEmpty && $0.allSatisfy { $0.isASCII && $0.isNumber } }),
            let first = Int(low), let last = Int(high), first <= last, last - first < mostEntries
        else { return nil }
        return (first...last).map { number in
            let digits = String(number)
            return String(repeating: "0", count: max(0, low.count - digits.count)) + digits
        }
    }
}

/// The two kinds of lists that Slurm writes into its variables.
enum SlurmList {
    /// The most entries that a list may have, so that a typo does not fill the memory.
    private static let mostEntries = BootstrapLimit.worldSize

    /// The most brackets that a name may have; each is a level of recursion.
    private static let mostBrackets = 16

    /// Expands "node[01-03,7],other" into node01, node02, node03, node7, other.
    ///
    /// A name may have several brackets; numbers keep the zeros of the range's lower end.
    ///
    /// - Returns: The names in order, at least one; nil when the list is malformed.
    static func hosts(_ text: String) -> [String]? {
        guard let parts = split(text) else { return nil }
        var names: [String] = []
        for part in parts {
            guard part.count(where: { $0 == "[" }) <= mostBrackets else { return nil }
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

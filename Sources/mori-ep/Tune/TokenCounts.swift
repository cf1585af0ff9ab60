import ArgumentParser

/// Numbers of tokens, as an option's list.
struct TokenCounts: Sendable, CustomStringConvertible {
    var values: [Int]
    var description: String { values.map(String.init).joined(separator: ",") }

    /// Reads a list; ascending, and none twice.
    static func parse(_ text: String) throws -> TokenCounts {
        let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        guard values.allSatisfy({ $0.map { $0 >= 1 } ?? false }) else {
            throw ValidationError("legal is a list of numbers, 1 or more each: 1,8,128")
        }
        return TokenCounts(values: Set(values.compactMap { $0 }).sorted())
    }
}

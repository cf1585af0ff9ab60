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

    /// Reads a variable; nil when it is not set.
    ///
    /// - Throws: `.invalidConfiguration` naming the variable, its value and what is legal.
    func read<Value>(_ name: String, _ type: VariableType<Value>) throws(MoriError) -> Value? {
        guard self[name] != nil else { return nil }
        return try parse(name, type.legal, type.parse)
    }

    /// Reads a whole number; nil when it is not set.
    func integer(_ name: String, in range: ClosedRange<Int>) throws(MoriError) -> Int? {
        try read(name, .integer(in: range))
    }
}

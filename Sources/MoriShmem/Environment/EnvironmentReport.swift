import MoriDevice

/// What is set, what holds and what is wrong: the table of `mori-ep doctor`.
package struct EnvironmentReport: Sendable {
    /// Where a value comes from.
    package enum Origin: String, Codable, Sendable {
        /// The environment.
        case set
        /// The variable is not set, or set to nothing.
        case standard = "default"
    }

    /// One variable.
    package struct Row: Sendable {
        /// The list's entry.
        package let variable: KnownVariable
        /// The variable's name: where the entry stands for several, the one that is set.
        package let name: String
        /// What holds: the value, or in words what takes its place; `(hidden)` for a secret.
        package let value: String
        /// Where it comes from.
        package let origin: Origin
        /// Why it cannot be read.
        package let problem: String?
    }

    /// Every known variable, in the list's order.
    package let rows: [Row]
    /// Set variables that nobody knows, by name.
    package let unknown: [UnknownVariable]
    /// Every reason why a world could not be made in this environment.
    package private(set) var problems: [String]

    /// Looks at an environment.
    package init(_ values: [String: String] = ProcessVariables.all) {
        let variables = EnvironmentVariables(values)
        rows = MoriEnvironment.knownVariables.flatMap { variable -> [Row] in
            let names = values.keys.filter { variable.covers($0) }.sorted()
            return (names.isEmpty ? [variable.name] : names).map {
                Self.row($0, of: variable, in: variables)
            }
        }
        unknown = values.keys.sorted()
            .filter { name in
                name.hasPrefix(UnknownVariable.prefix)
                    && !MoriEnvironment.knownVariables.contains { $0.covers(name) }
            }
            .map { UnknownVariable($0) }
        problems = rows.compactMap(\.problem)
        do throws(MoriError) {
            _ = try LauncherEnvironment(values)
        } catch {
            problems.append(error.message)
        }
    }

    /// Adds what only a higher layer can tell.
    package mutating func add(problem: String) { problems.append(problem) }

    private static func row(
        _ name: String, of variable: KnownVariable, in variables: EnvironmentVariables
    ) -> Row {
        var problem: String?
        do throws(MoriError) {
            try variable.check(variables)
        } catch {
            problem = error.message
        }
        let value = variables[name]
        return Row(
            variable: variable, name: name,
            value: value.map { variable.isSecret ? "(hidden)" : $0 } ?? variable.defaultText,
            origin: value == nil ? .standard : .set, problem: problem)
    }
}

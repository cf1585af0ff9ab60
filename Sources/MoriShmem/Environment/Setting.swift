import MoriDevice

/// One environment variable of this library: what it may say, what holds without it, what it means.
///
/// The typed half of a `KnownVariable`.
struct Setting<Value: Sendable>: Sendable {
    /// The variable.
    let name: String
    /// What it may say.
    let type: VariableType<Value>
    /// What holds where it is not set: a value as one would write it, or words.
    let defaultText: String
    /// What it means, in one line.
    let meaning: String

    init(
        _ name: String, _ type: VariableType<Value>, default defaultText: String, _ meaning: String
    ) {
        self.name = name
        self.type = type
        self.defaultText = defaultText
        self.meaning = meaning
    }
}

/// A variable as tables show it.
package struct KnownVariable: Sendable {
    /// What a variable does here.
    package enum Role: Hashable, Sendable {
        /// This library reads it.
        case setting
        /// A launcher sets it.
        case launcher
        /// Accepted without effect, for this reason.
        case ignored(reason: String)
    }

    /// The variable; one that ends in `*` stands for all that begin so.
    package let name: String
    /// What it may say, in words.
    package let legal: String
    /// What holds where it is not set.
    package let defaultText: String
    /// What it means, or why it has no effect.
    package let meaning: String
    /// What it does here.
    package let role: Role
    /// Whether tables must not show its value.
    package let isSecret: Bool
    /// Throws where its value cannot be read.
    let check: @Sendable (EnvironmentVariables) throws(MoriError) -> Void

    /// A variable that this library reads.
    init<Value>(_ setting: Setting<Value>, isSecret: Bool = false) {
        name = setting.name
        legal = setting.type.legal
        defaultText = setting.defaultText
        meaning = setting.meaning
        role = .setting
        self.isSecret = isSecret
        check = { (variables) throws(MoriError) in
            _ = try variables.read(setting.name, setting.type)
        }
    }

    /// A variable that a launcher sets; `LauncherEnvironment` checks them all together.
    init(launcher name: String, _ meaning: String, default defaultText: String = "") {
        self.name = name
        legal = "what the launcher sets"
        self.defaultText = defaultText
        self.meaning = meaning
        role = .launcher
        isSecret = false
        check = { _ throws(MoriError) in }
    }

    /// A variable of the original that has no effect here.
    init(ignored name: String, because reason: String) {
        self.name = name
        legal = "anything"
        defaultText = ""
        meaning = reason
        role = .ignored(reason: reason)
        isSecret = false
        check = { _ throws(MoriError) in }
    }

    /// Whether this is the entry of a variable.
    func covers(_ variable: String) -> Bool {
        guard name.hasSuffix("*") else { return name == variable }
        return variable.hasPrefix(name.dropLast())
    }
}

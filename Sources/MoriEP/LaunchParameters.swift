/// The blocks and warps in force for a verb, and where they come from.
public struct LaunchParameters: Hashable, Sendable, CustomStringConvertible {
    /// Who chose.
    public enum Source: Hashable, Sendable, CustomStringConvertible {
        /// The call's own override.
        case override
        /// The operator's configuration.
        case configuration
        /// The guide's table for `MORI_EP_LAUNCH_CONFIG_MODE=AUTO`.
        case guide
        /// A tuning rule: its file and line, and who measured it (docs/tuning.md).
        case rule(file: String, line: Int, origin: String)

        /// "the configuration", "rules.json, line 12 (measured in May)".
        public var description: String {
            switch self {
            case .override: "the call"
            case .configuration: "the configuration"
            case .guide: "the guide's table"
            case .rule(let file, let line, let origin):
                "\(file), line \(line)" + (origin.isEmpty ? "" : " (\(origin))")
            }
        }
    }

    /// What the kernels are launched with.
    public let configuration: LaunchConfiguration
    /// What the source says, before it was clamped to what the device should hold.
    public let wanted: LaunchConfiguration
    /// Who chose.
    public let source: Source

    /// "80x8 by the configuration", "2x1 of 80x8 by the configuration".
    public var description: String {
        let clamped = wanted == configuration ? "" : " of \(wanted)"
        return "\(configuration)\(clamped) by \(source)"
    }
}

import ArgumentParser
import MoriOptions
import MoriOracle

/// What the ranks are.
enum WorldKind: String, Sendable, Codable, CaseIterable, ExpressibleByArgument {
    case process
    case thread
}

/// Which devices run the ranks: the values of MORI_EP_DEVICE.
enum DeviceChoice: String, Sendable, CaseIterable, ExpressibleByArgument {
    case auto
    case host
    case amd
    case nvidia
    case emulated
}

extension OptionTypes {
    /// The routing patterns that have names; everything else is a file's.
    static let routings: [String: RoutingPattern] = [
        "random": .random, "round-robin": .roundRobin, "skewed": .skewed,
        "all-to-one": .allToOne, "spread": .spread,
    ]
}

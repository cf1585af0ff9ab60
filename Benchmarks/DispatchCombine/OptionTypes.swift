import ArgumentParser
import Glibc
import MoriDevice
import MoriEP
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

/// How options are read.
enum OptionTypes {
    /// The element types of tokens, as they are spelt here.
    static var legalTokenTypes: String {
        ElementType.tokenTypes.map(\.description).joined(separator: ", ")
    }

    /// A kernel type by its name.
    static func kernel(_ text: String) throws -> KernelType {
        guard let kernel = KernelType.allCases.first(where: { $0.description == text }) else {
            let legal = KernelType.allCases.map(\.description).joined(separator: ", ")
            throw ValidationError("legal are \(legal)")
        }
        return kernel
    }

    /// An element type by its name.
    static func tokenType(_ text: String) throws -> ElementType {
        guard let type = ElementType(rawValue: text), type.isTokenType else {
            throw ValidationError("legal are \(legalTokenTypes)")
        }
        return type
    }

    /// The ways to quantize a combine, as they are spelt here.
    static var legalQuantizations: String {
        CombineQuantization.allCases.map(\.description).joined(separator: ", ")
    }

    /// A way to quantize a combine by its name.
    static func quantization(_ text: String) throws -> CombineQuantization {
        guard let scheme = CombineQuantization(rawValue: text) else {
            throw ValidationError("legal are \(legalQuantizations)")
        }
        return scheme
    }

    /// The routing patterns that have names; everything else is a file's.
    static let routings: [String: RoutingPattern] = [
        "random": .random, "round-robin": .roundRobin, "skewed": .skewed,
        "all-to-one": .allToOne, "spread": .spread,
    ]

    /// Refuses a file that could not be written, before the work and not after it.
    static func checkWritable(_ path: String) throws {
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let target = unsafe access(path, F_OK) == 0 ? path : folder
        guard unsafe access(target, W_OK) == 0 else {
            throw ValidationError("--json \(path): \(target) cannot be written")
        }
    }
}

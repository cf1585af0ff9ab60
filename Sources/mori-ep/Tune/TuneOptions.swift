import ArgumentParser
import Glibc
import MoriDevice
import MoriEP

/// Numbers of tokens, as an option's list.
struct TokenCounts: Sendable, CustomStringConvertible {
    var values: [Int]
    var description: String { values.map(String.init).joined(separator: ",") }
}

/// How the options of `mori-ep tune` are read.
enum TuneOptions {
    static var legalTokenTypes: String {
        ElementType.tokenTypes.map(\.description).joined(separator: ", ")
    }
    static var legalQuantizations: String {
        CombineQuantization.allCases.map(\.description).joined(separator: ", ")
    }

    static func kernel(_ text: String) throws -> KernelType {
        guard let kernel = KernelType.allCases.first(where: { $0.description == text }) else {
            let legal = KernelType.allCases.map(\.description).joined(separator: ", ")
            throw ValidationError("legal are \(legal)")
        }
        return kernel
    }

    static func tokenType(_ text: String) throws -> ElementType {
        guard let type = ElementType(rawValue: text), type.isTokenType else {
            throw ValidationError("legal are \(legalTokenTypes)")
        }
        return type
    }

    static func quantization(_ text: String) throws -> CombineQuantization {
        guard let quantization = CombineQuantization(rawValue: text) else {
            throw ValidationError("legal are \(legalQuantizations)")
        }
        return quantization
    }

    static func tokens(_ text: String) throws -> TokenCounts {
        let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        guard values.allSatisfy({ $0.map { $0 >= 1 } ?? false }) else {
            throw ValidationError("legal is a list of numbers, 1 or more each: 1,8,128")
        }
        return TokenCounts(values: Set(values.compactMap { $0 }).sorted())
    }

    /// Refuses a file that could not be written, before the work and not after it.
    static func checkWritable(_ path: String) throws {
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let target = unsafe access(path, F_OK) == 0 ? path : folder
        guard unsafe access(target, W_OK) == 0 else {
            throw ValidationError("--output \(path): \(target) cannot be written")
        }
    }
}

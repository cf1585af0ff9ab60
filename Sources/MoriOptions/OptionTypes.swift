import ArgumentParser
package import MoriDevice
package import MoriEP
import MoriShmem

/// How the tools read options that name something of an operator.
package enum OptionTypes {
    /// The kernel types, as they are spelt here.
    package static var legalKernels: String { list(KernelType.allCases) }
    /// The element types of tokens, as they are spelt here.
    package static var legalTokenTypes: String { list(ElementType.tokenTypes) }
    /// The ways to quantize a combine, as they are spelt here.
    package static var legalQuantizations: String { list(CombineQuantization.allCases) }

    private static func list(_ values: [some CustomStringConvertible]) -> String {
        values.map(\.description).joined(separator: ", ")
    }

    /// A kernel type by its name.
    package static func kernel(_ text: String) throws -> KernelType {
        guard let kernel = KernelType.allCases.first(where: { $0.description == text }) else {
            throw ValidationError("legal are \(legalKernels)")
        }
        return kernel
    }

    /// An element type by its name.
    package static func tokenType(_ text: String) throws -> ElementType {
        guard let type = ElementType(rawValue: text), type.isTokenType else {
            throw ValidationError("legal are \(legalTokenTypes)")
        }
        return type
    }

    /// A way to quantize a combine by its name.
    package static func quantization(_ text: String) throws -> CombineQuantization {
        guard let scheme = CombineQuantization(rawValue: text) else {
            throw ValidationError("legal are \(legalQuantizations)")
        }
        return scheme
    }

    /// A whole number; what is legal is said for every text that is none.
    package static func wholeNumber<Number: FixedWidthInteger>(
        _ text: String, _ range: ClosedRange<Number>
    ) throws -> Number {
        guard let number = Number(text), range.contains(number) else {
            let legal =
                range.upperBound == .max
                ? "\(range.lowerBound) or more" : "\(range.lowerBound) to \(range.upperBound)"
            throw ValidationError("legal is \(legal)")
        }
        return number
    }

    /// A whole number, 1 or more.
    package static func count(_ text: String) throws -> Int { try wholeNumber(text, 1...Int.max) }

    /// A whole number, 0 or more.
    package static func countOrZero(_ text: String) throws -> Int {
        try wholeNumber(text, 0...Int.max)
    }

    /// Elements that share a scale.
    package static func quantizationBlock(_ text: String) throws -> Int {
        guard let count = Int(text), [32, 64, 128, 256].contains(count) else {
            throw ValidationError("legal are 32, 64, 128 and 256")
        }
        return count
    }

    /// Any number of 64 bits.
    package static func seed(_ text: String) throws -> UInt64 {
        try wholeNumber(text, 0...UInt64.max)
    }

    /// A time in seconds.
    package static func seconds(_ text: String, _ range: ClosedRange<Double>) throws -> Double {
        guard let seconds = Double(text), range.contains(seconds) else {
            // Without the ".0" of whole numbers.
            func words(_ number: Double) -> String {
                Int(exactly: number).map(String.init) ?? "\(number)"
            }
            throw ValidationError(
                "legal is \(words(range.lowerBound)) to \(words(range.upperBound)) seconds")
        }
        return seconds
    }

    /// How many ranks there are, in a world or on a node.
    package static func ranks(_ text: String) throws -> Int {
        try wholeNumber(text, 1...SymmetricMemory.maxWorldSize)
    }
}

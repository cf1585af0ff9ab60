#if Checked
import MoriHostKernels
import MoriTestSupport

/// A seeded mistake in the kernels (Kernels/Device/Mutants.h).
struct Mutant: Hashable, Sendable, CustomStringConvertible {
    /// From 1, as the host device numbers them.
    let number: Int32
    /// Its name there.
    let name: String
    /// What it does wrong.
    let words: String

    var description: String { name }

    /// All that the host device has.
    static let all: [Mutant] = (0..<moriep_mutant_count()).compactMap { index in
        guard let name = unsafe moriep_mutant_name(index + 1),
            let words = unsafe moriep_mutant_words(index + 1)
        else { return nil }
        return unsafe Mutant(
            number: index + 1, name: String(cString: name), words: String(cString: words))
    }

    /// Runs `body` in kernels that make this mistake, and right ones where there is none.
    static func using<Result>(
        _ mutant: Mutant?, _ body: () async throws -> Result
    ) async rethrows -> Result {
        moriep_use_mutant(mutant?.number ?? 0)
        defer { moriep_use_mutant(0) }
        return try await body()
    }
}
#endif

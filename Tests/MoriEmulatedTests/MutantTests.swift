import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension EmulatedTests {
    /// Kernels with one mistake each (Tests/Emulator/mutants.py): a test that cannot fail shows
    /// nothing.
    @Suite(.enabled(if: Emulator.canExecute, "no translation of the kernels: TINYGRAD was not set"))
    struct MutantTests {
        static let names = [
            "leader-fences-behind-the-barrier", "nobody-fences", "publish-has-no-barrier",
            "slots-reserved-before-all-are-counted", "first-block-signals",
            "combine-waits-for-nobody",
        ]

        /// The first seed whose rounds are not right; nil: all are.
        static func failingSeed(
            _ emulator: Emulator, lateStores: UInt64, of seeds: Range<UInt64>
        ) async -> (seed: UInt64, how: String)? {
            for seed in seeds {
                emulator.setSchedule(seed: seed, lateStores: lateStores)
                var rounds = EmulatedCase.drawn(.intraNode, seed: seed)
                rounds.options.launch = LaunchConfiguration(blocks: 2, warpsPerBlock: 8)
                // Of the emulator's clock: what never comes is not awaited for long.
                rounds.options.timeout = .milliseconds(100)
                do {
                    try await rounds.run()
                } catch {
                    return (seed, "\(error)")
                }
            }
            return nil
        }

        @Test(.timeLimit(.minutes(3)), arguments: names)
        func eachMistakeIsFound(_ name: String) async throws {
            let emulator = try Emulator()
            emulator.reset()
            defer { emulator.reset() }
            try emulator.useKernels(name)
            // Some show in one of a hundred: far more seeds than that.
            let late = await Self.failingSeed(emulator, lateStores: 200, of: 1..<500)
            let atOnce = await Self.failingSeed(
                emulator, lateStores: 0, of: ConformanceTests.seeds)
            let found = try #require(late, "no seed finds it")
            print(
                "\(name): seed \(found.seed) finds it with late stores"
                    + (atOnce.map { ", seed \($0.seed) without" } ?? ", none without")
                    + "; \(found.how.prefix(160))")
        }

        @Test(.timeLimit(.minutes(2))) func withoutAMistakeTheSameRoundsAreRight() async throws {
            let emulator = try Emulator()
            emulator.reset()
            for lateStores in [UInt64(0), 200] {
                let failure = await Self.failingSeed(
                    emulator, lateStores: lateStores, of: ConformanceTests.seeds)
                #expect(failure == nil, "\(String(describing: failure))")
            }
        }
    }
}

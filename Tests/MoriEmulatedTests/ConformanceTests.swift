import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension EmulatedTests {
    /// Whole rounds by gfx942's code, compared with the oracle.
    @Suite(.enabled(if: Emulator.canExecute, "no translation of the kernels: TINYGRAD was not set"))
    struct ConformanceTests {
        static let seeds: Range<UInt64> = 1..<23

        /// All waves of all ranks in an order drawn from the seed; with late stores, each store
        /// becomes visible some 200 instructions after it was issued, unless the wave waits for it.
        @Test(.timeLimit(.minutes(10)), arguments: KernelType.allCases, [UInt64(0), 200])
        func roundsAreRight(_ kernel: KernelType, lateStores: UInt64) async throws {
            let emulator = try Emulator()
            emulator.reset()
            for seed in Self.seeds {
                emulator.setSchedule(seed: seed, lateStores: lateStores)
                let rounds = EmulatedCase.drawn(kernel, seed: seed)
                do {
                    try await rounds.run()
                } catch {
                    Issue.record("seed \(seed), \(rounds.testDescription): \(error)")
                    return
                }
            }
            let counts = emulator.launched()
            print(
                "\(kernel), stores \(lateStores == 0 ? "at once" : "late"): \(Self.seeds.count)"
                    + " seeds, \(counts.launches) launches, \(counts.waves) waves,"
                    + " \(counts.instructions) instructions")
            #expect(counts.launches >= Self.seeds.count * 6)
        }
    }
}

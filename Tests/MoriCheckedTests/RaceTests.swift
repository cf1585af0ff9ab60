#if Checked
import MoriEP
import MoriTestSupport
import Testing

extension CheckedTests.RaceTests {
    /// That nothing is found says something only where something would be.
    @Test(.timeLimit(.minutes(1)))
    func aDroppedFenceIsFound() async throws {
        let mutant = try #require(Mutant.all.first { $0.name == "publishWithoutFence" })
        let races = try await Mutant.using(mutant) {
            try await Scenario.races.schedule.run().races
        }
        #expect(!races.isEmpty, "are the kernels compiled with -fsanitize=thread?")
    }

    /// Kernels of every type, in worlds of every size from 2 to 4, by seeds.
    ///
    /// Whatever order the machine happens to run things in, nothing but words orders accesses.
    @Test(.timeLimit(.minutes(10)), arguments: KernelType.allCases, [2, 3, 4])
    func everyAccessOfSymmetricMemoryIsOrdered(
        _ kernelType: KernelType, worldSize: Int
    ) async throws {
        // The first seeds whose schedules are of this type and size.
        var left = 4
        var seed: UInt64 = 0
        while left > 0 {
            seed += 1
            var (schedule, disturbance) = Schedule.random(seed: seed)
            guard schedule.kernelType == kernelType, schedule.worldSize == worldSize,
                disturbance == .nothing
            else { continue }
            left -= 1
            schedule.checksRaces = true
            let findings = Scenario.everythingFinished(try await schedule.run())
            #expect(findings == [], "seed \(seed): \(schedule)")
        }
    }
}
#endif

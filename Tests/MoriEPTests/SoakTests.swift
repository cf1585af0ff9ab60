import Glibc
import FoundationEssentials
import MoriEP
import MoriTestSupport
import Testing

extension WorldTests {
    /// What only shows after a long time: `make test-soak`.
    @Suite struct SoakTests {
        @Test(.timeLimit(.minutes(1500)))
        func nothingGrowsWhileWorldsComeAndGo() async {
            let result = await #expect(
                processExitsWith: .success, observing: [\.standardOutputContent]
            ) {
                forgetBacktraces()
                let soak = Soak(
                    seconds: Double(environmentNumber("TEST_SOAK_SECONDS", default: 20)),
                    firstSeed: UInt64(environmentNumber("TEST_SEED", default: 1)))
                do {
                    let outcome = try await soak.run()
                    try await requireNothingLive()
                    let resident = outcome.resident.map { $0 >> 20 }
                    print(
                        "soak: \(outcome.worlds) worlds, \(outcome.rounds) rounds and"
                            + " \(outcome.pairs) pairs of one operator, resident MiB from"
                            + " \(resident.min() ?? 0) to \(resident.max() ?? 0), at the end"
                            + " \(resident.last ?? 0); nothing is left")
                } catch {
                    // Of a process that ends with an error, nothing would be seen.
                    print("failed: \(error)")
                }
            }
            let words = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
            print(words)
            #expect(words.contains("; nothing is left") && !words.contains("failed:"))
        }

        /// `TEST_LIFETIMES=10000` for as many operators.
        @Test(.timeLimit(.minutes(60)))
        func operatorLifetimesLeakNothing() async {
            let result = await #expect(
                processExitsWith: .success, observing: [\.standardOutputContent]
            ) {
                let count = environmentNumber("TEST_LIFETIMES", default: 300)
                forgetBacktraces()
                let growth = try await withLocalWorld(1) { world in
                    var before = 0
                    for turn in 0..<count + 100 {
                        // Until here what is kept for good has been made.
                        if turn == 100 { before = try Soak.residentByteCount() }
                        let op = try await EPDispatchCombineOp(
                            WorldTests.ConfigurationTests.good, in: world)
                        try await op.close()
                    }
                    return try Soak.residentByteCount() - before
                }
                try await requireNothingLive()
                print(
                    "lifetimes: \(count), resident memory grew by \(growth[0]) bytes; nothing is left"
                )
                guard growth[0] < 1 << 20 else { throw Mismatch("it grew by \(growth[0]) bytes") }
            }
            print(String(decoding: result?.standardOutputContent ?? [], as: UTF8.self))
        }
    }
}

/// Swift Testing keeps a backtrace of each error that is thrown, some 130 bytes, a cancelled sleep's too:
/// from here on it hears of none.
private func forgetBacktraces() {
    for hook in ["_swift_willThrow", "_swift_willThrowTypedImpl"] {
        guard let symbol = unsafe dlsym(nil, hook) else { continue }
        unsafe symbol.storeBytes(of: 0, as: UInt.self)
    }
}

/// A number from the environment.
func environmentNumber(_ name: String, default value: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? value
}

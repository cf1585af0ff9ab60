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
                    print(
                        "soak: \(outcome.worlds) worlds, \(outcome.rounds) rounds and"
                            + " \(outcome.pairs) pairs of one operator; medians of the second and"
                            + " the last quarter: resident MiB"
                            + " \(Trend(outcome.resident.map { $0 >> 20 })), allocations"
                            + " \(Trend(outcome.allocations)); nothing is left")
                } catch {
                    // Of a process that ends with an error, nothing would be seen.
                    print("failed: \(error)")
                }
            }
            let words = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
            print(words)
            #expect(words.contains("; nothing is left") && !words.contains("failed:"))
        }

        /// `TEST_LIFETIMES=10000` for as many operators, and a tenth as many worlds.
        @Test(.timeLimit(.minutes(60)), arguments: Lifetimes.Kind.allCases)
        func lifetimesLeakNothing(_ kind: Lifetimes.Kind) async {
            let result = await #expect(
                processExitsWith: .success, observing: [\.standardOutputContent]
            ) { [kind] in
                let operators = environmentNumber("TEST_LIFETIMES", default: 300)
                let count = kind == .world ? operators / 10 : operators
                forgetBacktraces()
                do {
                    let growth = try await Lifetimes(kind: kind, count: count).run()
                    try await requireNothingLive()
                    print("lifetimes: \(count) times \(kind), \(growth); nothing is left")
                } catch {
                    print("failed: \(error)")
                }
            }
            let words = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
            print(words)
            #expect(words.contains("; nothing is left") && !words.contains("failed:"))
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

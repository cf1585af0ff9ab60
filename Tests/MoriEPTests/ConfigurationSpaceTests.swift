import FoundationEssentials
import MoriEP
import MoriTestSupport
import Testing

extension WorldTests {
    /// The whole space of configurations, at random.
    @Suite struct ConfigurationSpaceTests {
        /// How many, and from which seed on: `TEST_CONFIGURATIONS=5000 TEST_SEED=7`.
        private static func setting(_ name: String, default value: UInt64) -> UInt64 {
            ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? value
        }

        /// Any configuration works against the oracle or is refused, never a third thing.
        @Test(.timeLimit(.minutes(60)))
        func everyConfigurationWorksOrIsRefused() async throws {
            let count = Self.setting("TEST_CONFIGURATIONS", default: 200)
            let first = Self.setting("TEST_SEED", default: 1)
            print("configurations: \(count) from TEST_SEED=\(first)")
            var outcomes: [ConfigurationOutcome: Int] = [:]
            for seed in first..<first + count {
                let space = ConfigurationSpace(seed: seed)
                do {
                    outcomes[try await space.check(), default: 0] += 1
                } catch {
                    Issue.record("\(error)\n  TEST_CONFIGURATIONS=1 TEST_SEED=\(seed): \(space)")
                }
            }
            print("configurations: \(outcomes)")
            guard count >= 200 else { return }
            // Not by refusing everything.
            #expect(outcomes[.worked, default: 0] >= count / 3)
            #expect(outcomes[.refused, default: 0] >= count / 20)
            #expect(outcomes[.overflowed, default: 0] > 0)
        }

        /// Two fields at a time, with everything that may follow from their product.
        @Test func extremesOfFieldsAreRefusedOrHaveAPlan() throws {
            var plans = 0
            for quantizes in [false, true] {
                for first in ConfigurationSpace.numbers {
                    for second in ConfigurationSpace.numbers {
                        for value in [.min, -1, 1, 2, 8, 65, Int(Int32.max), .max] {
                            var config = WorldTests.ConfigurationTests.good
                            if quantizes {
                                config.elementType = .float8E4M3
                                config.quantizesDispatch = true
                                config.quantization = .fp8Blockwise
                                config.combineElementType = .bfloat16
                                config.combineInput = .external
                            }
                            config.kernelType = .interNodeV1
                            config[keyPath: first] = value
                            config[keyPath: second] = value
                            for worldSize in [1, 8] {
                                do throws(MoriError) {
                                    let plan = try EPDispatchCombineOp.memoryPlan(
                                        for: config, worldSize: worldSize)
                                    #expect(plan.symmetricByteCount > 0)
                                    plans += 1
                                } catch {
                                    #expect(
                                        [.invalidConfiguration, .unsupported].contains(error.code))
                                }
                            }
                        }
                    }
                }
            }
            #expect(plans > 100)
        }
    }
}

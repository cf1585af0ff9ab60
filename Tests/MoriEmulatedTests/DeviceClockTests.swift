import CHIP
import MoriDevice
import MoriEP
import MoriOracle
import MoriShmem
import MoriTestSupport
import Testing

extension EmulatedTests {
    /// The device's clock beside the host's, and libraries that cannot trace. Kernels need not be
    /// executed: the stand-in tells the time itself.
    @Suite struct DeviceClockTests {
        private let emulator: Emulator

        init() throws {
            emulator = try Emulator()
            emulator.reset()
        }

        /// Wrong by hours and by more than quartz ever is, and found to half of the round trip.
        @Test(
            .timeLimit(.minutes(1)),
            arguments: [Duration.seconds(-3000), .zero, .seconds(1_700_000_000)],
            [Int64(0), 500, -2000])
        func aClockThatIsWrongIsFoundToHalfTheRoundTrip(_ ahead: Duration, _ gain: Int64)
            async throws
        {
            defer { emulator.reset() }
            let device = try Device(.emulated)
            let stream = try DeviceStream(on: device)
            let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
            emulator.setClock(ahead: ahead, gain: gain)
            let patience = Duration.seconds(5)
            let begin = try #require(
                try DeviceClock.compare(on: device, using: word, patience: patience))
            #expect(abs(begin.offset - Int64(ahead.nanoseconds)) < begin.roundTrip / 2 + 1_000_000)
            var readings: [ClockReading] = []
            for _ in 0..<20 {
                readings += try stream.readClock(count: 1, into: word, timeout: patience)
                try await Task.sleep(for: .milliseconds(10))
            }
            let end = try #require(
                try DeviceClock.compare(on: device, using: word, patience: patience))
            let clock = try #require(DeviceClock(begin: begin, end: end))
            #expect(clock.comparisons == 2 && readings.count == 20)
            for reading in readings {
                // What the host saw around it is where it belongs, give or take the uncertainty.
                let found = clock.hostTime(of: reading.device)
                let slack = UInt64(clock.roundTrip / 2 + 20)
                #expect(found &+ slack >= reading.before, "\(reading) at \(found), \(clock)")
                #expect(found <= reading.after &+ slack, "\(reading) at \(found), \(clock)")
            }
            // Over 200 ms and more; both ends of it are uncertain.
            let slack = Double(clock.roundTrip) / 0.2 + 10
            #expect(abs(Double(clock.drift - gain * 1000)) <= slack, "\(clock)")
        }

        /// Whoever starts a trace does not wait for a device that is full of waiting kernels.
        @Test(.timeLimit(.minutes(1)))
        func aDeviceThatDoesNotTellItsTimeIsNotAwaitedForLong() async throws {
            defer { emulator.reset() }
            let device = try Device(.emulated)
            emulator.setClock(ahead: .zero, gain: 0)
            let stream = try DeviceStream(on: device)
            let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
            let gate = try StreamGate(on: stream)
            let begin = ContinuousClock.now
            let none = try stream.readClock(count: 16, into: word, timeout: .milliseconds(50))
            #expect(none.isEmpty && ContinuousClock.now - begin < .seconds(5))
            gate.open()
            try await stream.completion()
            #expect(try stream.readClock(count: 3, into: word, timeout: .seconds(5)).count == 3)
            #expect(DeviceClock(begin: nil, end: nil) == nil)
        }

        @Test func aDeviceThatFailsIsATypedError() throws {
            defer { emulator.reset() }
            let device = try Device(.emulated)
            let stream = try DeviceStream(on: device)
            let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
            emulator.fail("hipLaunchKernel", with: HIPError.launchFailure)
            let error = #expect(throws: MoriError.self) {
                try stream.readClock(count: 1, into: word, timeout: .seconds(1))
            }
            #expect(error?.code == .deviceFailure, "\(String(describing: error))")
            #expect("\(String(describing: error))".contains("read_clock"))
        }

        /// Kernels that leave traces take so many registers that fewer of their blocks fit.
        @Test(.timeLimit(.minutes(1)))
        func aLaunchThatDoesNotFitWithTracesIsRefusedWithOneThatDoes() async throws {
            emulator.setRegisters(ofKernels: "moriep_traced_", 512)
            emulator.setClock(ahead: .zero, gain: 0)
            defer { emulator.reset() }
            // What fits is asked once: another device and blocks than the other tests'.
            let device = try Device(.emulated, ordinal: 2)
            let worlds = try await SymmetricMemory.local(worldSize: 1, device: device)
            let world = try #require(worlds.first)
            func made(warps: Int) async throws -> EPDispatchCombineOp {
                try await EPDispatchCombineOp(
                    EPDispatchCombineConfig(
                        elementType: .bfloat16, hiddenDim: 16, maxInputTokensPerRank: 4,
                        expertsPerRank: 1, expertsPerToken: 1,
                        launch: LaunchConfiguration(blocks: 1, warpsPerBlock: warps)), in: world)
            }
            let stream = try DeviceStream(on: device)
            let large = try await made(warps: 6)
            let refusal = #expect(throws: MoriError.self) { try large.startTrace(on: stream) }
            #expect(refusal?.code == .capacityExceeded)
            #expect(
                refusal?.message.contains("traces do not fit in blocks of 6 warps") == true,
                "\(String(describing: refusal))")
            emulator.setRegisters(ofKernels: "moriep_traced_", 256)
            let fitting = try await made(warps: 5)
            try fitting.startTrace(on: stream)
            let routes = Routes(
                Workload(worldSize: 1, tokens: [4], hidden: 16, topK: 1, expertsPerRank: 1, seed: 3)
            )
            let inputs = try RoundInputs<BFloat16>(routes, rank: 0, on: stream)
            let call = #expect(throws: MoriError.self) {
                _ = try fitting.dispatch(
                    inputs.tokens, indices: inputs.indices,
                    launch: LaunchConfiguration(blocks: 9, warpsPerBlock: 5), on: stream)
            }
            #expect(call?.code == .capacityExceeded)
            #expect(
                "\(String(describing: call))".contains(
                    "8 such blocks at once, of kernels that leave"),
                "\(String(describing: call))")
            try await large.close()
            try await fitting.close()
            try await world.close()
        }

        /// A library that was built with MORI_EP_TRACES=0.
        @Test(.timeLimit(.minutes(1)))
        func aLibraryWithoutKernelsForTracesSaysWhatToDo() async throws {
            let path = try emulator.file("libwithout_traces.so")
            let device = Device(of: try KernelLibrary.open(.emulated, at: [path]))
            #expect(try !device.canTrace && Device(.emulated).canTrace)
            let worlds = try await SymmetricMemory.local(worldSize: 1, device: device)
            let world = try #require(worlds.first)
            let op = try await EPDispatchCombineOp(
                EPDispatchCombineConfig(
                    elementType: .bfloat16, hiddenDim: 16, maxInputTokensPerRank: 4,
                    expertsPerRank: 1, expertsPerToken: 1), in: world)
            let stream = try DeviceStream(on: device)
            let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
            let error = #expect(throws: MoriError.self) { try op.startTrace(on: stream) }
            #expect(error?.code == .unsupported)
            for word in [path, "MORI_EP_TRACES=0", "make emulator"] {
                #expect(error?.message.contains(word) == true, "\(String(describing: error))")
            }
            // Nor does the library itself launch one, or tell the time.
            let clock = #expect(throws: MoriError.self) {
                try stream.readClock(count: 1, into: word, timeout: .seconds(1))
            }
            #expect(clock?.code == .unsupported)
            #expect("\(String(describing: clock))".contains("MORI_EP_TRACES=0"))
            try await op.close()
            try await world.close()
        }
    }
}

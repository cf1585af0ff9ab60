import CHIP
import MoriDevice
import MoriEP
import MoriOracle
import MoriShmem
import MoriTestSupport
import Testing

/// Errors of HIP, by their numbers there.
enum HIPError {
    static let invalidValue: Int32 = 1
    static let outOfMemory: Int32 = 2
    static let insufficientDriver: Int32 = 35
    static let noDevice: Int32 = 100
    static let launchFailure: Int32 = 719
    static let unknown: Int32 = 999
}

extension EmulatedTests {
    /// Every call of the GPU runtime fails once, and the device goes: typed errors, and nothing is
    /// left behind.
    @Suite struct RuntimeFailureTests {
        private let emulator: Emulator

        init() throws {
            emulator = try Emulator()
            emulator.reset()
            emulator.setSchedule(seed: 3, lateStores: 0)
        }

        /// Everything that the library offers but for kernels.
        private static func useTheRuntime() async throws {
            let device = try Device(.emulated)
            _ = try device.properties()
            let stream = try DeviceStream(on: device)
            let other = try DeviceStream(on: device)
            let pinned = try DeviceBuffer(byteCount: 4096, kind: .pinned, on: device)
            let shared = try DeviceBuffer(byteCount: 4096, kind: .symmetric, on: device)
            let imported = try ImportedBuffer(shared.export(), on: device)
            // What is enqueued holds its memory, also when a later call fails.
            pinned.noteUse(on: stream)
            shared.noteUse(on: stream)
            try stream.fill(pinned.address, with: 7, byteCount: 4096)
            try stream.copy(to: imported.address, from: pinned.address, byteCount: 4096)
            let start = try DeviceEvent(on: device, timed: true)
            let stop = try DeviceEvent(on: device, timed: true)
            try stream.record(start)
            try other.wait(for: start)
            let tensor = try DeviceTensor([Int32(1), 2, 3], on: stream)
            let graph = try stream.capture { () throws(MoriError) in
                try tensor.fill(with: 5, on: stream)
            }
            try graph.launch(on: stream)
            try stream.record(stop)
            try await stream.completion()
            _ = try stream.readClock(count: 2, into: pinned, timeout: .milliseconds(20))
            try await other.completion()
            try Self.ask(start, stop)
            let found = try await tensor.elements(as: Int32.self, on: stream)
            guard found == [Int32](repeating: 0x0505_0505, count: 3) else {
                throw Mismatch("\(found)")
            }
        }

        private static func ask(_ start: DeviceEvent, _ stop: DeviceEvent) throws {
            try stop.synchronize()
            _ = try stop.isReached()
            _ = try stop.elapsed(since: start)
        }

        /// Whole rounds of both ways to send: stores to peers, and rings that the network drains.
        private static func runRounds() async throws {
            for kernel in [KernelType.intraNode, .interNodeV1] {
                let workload = Workload(
                    worldSize: 2, tokens: [4, 3], hidden: 16, topK: 2, expertsPerRank: 2, seed: 11)
                try await RoundCase(workload) {
                    $0.kernelType = kernel
                    $0.devicesPerNode = kernel == .intraNode ? 8 : 1
                    $0.options.launch = LaunchConfiguration(blocks: 2, warpsPerBlock: 2)
                }.run()
            }
        }

        // What is released when an object goes has nobody to tell of a failure: that one stays.
        private static let releasing: Set<String> = [
            "hipFree", "hipHostFree", "hipStreamDestroy", "hipEventDestroy", "hipGraphExecDestroy",
            "hipGraphDestroy", "hipGetDevice", "hipSetDevice", "hipIpcCloseMemHandle",
        ]
        static let functions = [
            "hipGetDeviceCount", "hipGetDevice", "hipSetDevice", "hipGetDeviceProperties",
            "hipDeviceGetAttribute", "hipFuncGetAttributes", "hipDriverGetVersion",
            "hipOccupancyMaxActiveBlocksPerMultiprocessor", "hipMalloc", "hipExtMallocWithFlags",
            "hipHostMalloc", "hipHostGetDevicePointer", "hipFree", "hipHostFree",
            "hipIpcGetMemHandle", "hipDeviceEnablePeerAccess", "hipMemcpyAsync", "hipMemsetAsync",
            "hipStreamCreateWithFlags", "hipStreamDestroy", "hipStreamSynchronize",
            "hipStreamQuery", "hipStreamWaitEvent", "hipStreamAddCallback", "hipLaunchHostFunc",
            "hipEventCreateWithFlags", "hipEventDestroy", "hipEventRecord", "hipEventSynchronize",
            "hipEventQuery", "hipEventElapsedTime", "hipStreamBeginCapture", "hipStreamEndCapture",
            "hipStreamIsCapturing", "hipGraphInstantiateWithFlags", "hipGraphLaunch",
            "hipGraphDestroy", "hipGraphExecDestroy", "hipLaunchKernel",
        ]

        /// Waits until no more is held than allowed: objects go in the background.
        private func requireNoMore(
            than allowed: [String: Int], plus extra: Int, _ what: String
        ) async throws {
            for _ in 0..<500 {
                let live = emulator.live
                let more = live.reduce(0) { $0 + max(0, $1.value - (allowed[$1.key] ?? 0)) }
                if more <= extra { return }
                try await Task.sleep(for: .milliseconds(10))
            }
            Issue.record("\(what): still held \(emulator.live), before it was \(allowed)")
        }

        /// One run in which one call fails; gives whether the failure was met.
        private func run(
            _ body: () async throws -> Void, failing function: String, call: Int, with error: Int32
        ) async throws -> Bool {
            let before = emulator.live
            emulator.reset()
            emulator.fail(function, with: error, skipping: call)
            defer { emulator.reset() }
            let what = "\(function), call \(call), error \(error)"
            var failure: (any Error)?
            do { try await body() } catch { failure = error }
            let wasMet = emulator.calls(of: function) > call
            if let failure {
                let typed = failure as? MoriError
                #expect(typed != nil, "\(what): \(failure) is no MoriError")
                #expect(wasMet, "\(what) never came, and yet: \(failure)")
                #expect(!(typed?.message.isEmpty ?? true))
            }
            emulator.reset()
            try await requireNoMore(
                than: before, plus: Self.releasing.contains(function) ? 1 : 0, what)
            return wasMet
        }

        /// Which calls of a function a healthy run makes; a few of them, from the first to the last.
        private func calls(
            of function: String, in body: () async throws -> Void
        ) async throws -> [Int] {
            emulator.reset()
            try await body()
            let count = emulator.calls(of: function)
            guard count > 0 else { return [] }
            return Set([0, 1, count / 3, count / 2, count - 1]).filter { $0 < count }.sorted()
        }

        @Test(.timeLimit(.minutes(2)), arguments: functions)
        func aFailingCallIsATypedErrorAndLeavesNothing(_ function: String) async throws {
            for call in try await calls(of: function, in: Self.useTheRuntime) {
                for error in [HIPError.unknown, HIPError.outOfMemory, HIPError.noDevice] {
                    _ = try await run(
                        Self.useTheRuntime, failing: function, call: call, with: error)
                }
            }
        }

        @Test(
            .timeLimit(.minutes(5)),
            .enabled(if: Emulator.canExecute, "TINYGRAD was not set"), arguments: functions)
        func aFailingCallEndsTheRoundsOfAllRanks(_ function: String) async throws {
            for call in try await calls(of: function, in: Self.runRounds) {
                _ = try await run(
                    Self.runRounds, failing: function, call: call, with: HIPError.unknown)
            }
        }

        /// From some call on, every call fails.
        @Test(.timeLimit(.minutes(5)), .enabled(if: Emulator.canExecute, "TINYGRAD was not set"))
        func aDeviceThatDisappearsIsATypedError() async throws {
            emulator.reset()
            try await Self.runRounds()
            let count = emulator.calls()
            for part in 0..<24 {
                emulator.reset()
                emulator.fail(
                    nil, with: part % 2 == 0 ? HIPError.noDevice : HIPError.unknown,
                    skipping: count * part / 24, times: 0)
                do {
                    try await Self.runRounds()
                    Issue.record("\(part): the rounds came through")
                } catch {
                    let failure = try #require(error as? MoriError, "\(part): \(error)")
                    #expect(!failure.message.isEmpty)
                }
                emulator.reset()
            }
            // And when it is back, so are the rounds.
            try await Self.runRounds()
        }

        /// What waits for work before its memory may go does not wait for a device that is gone.
        @Test(.timeLimit(.minutes(1)))
        func aStreamOfADeviceThatDisappearedIsNotAwaited() async throws {
            emulator.reset()
            let stream = try DeviceStream(on: try Device(.emulated))
            emulator.fail("hipStreamQuery", with: HIPError.unknown, times: 0)
            defer { emulator.reset() }
            let begin = ContinuousClock.now
            let failure = try await failure {
                _ = try await stream.isDone(before: .now + .seconds(50))
            }
            #expect(failure.code == .deviceFailure)
            #expect(ContinuousClock.now - begin < .seconds(10))
        }

        // Bad input ------------------------------------------------------------------------------

        private func failure(_ body: () async throws -> Void) async throws -> MoriError {
            do {
                try await body()
            } catch {
                return try #require(error as? MoriError, "\(error)")
            }
            throw Mismatch("no failure")
        }

        @Test func aGPUThatTheLibraryHasNoCodeForIsNamed() async throws {
            // The kernels of a device are loaded once: another device than the other tests'.
            emulator.setArchitecture("gfx1100")
            defer { emulator.reset() }
            let device = try Device(.emulated, ordinal: 1)
            let error = try await failure { _ = try DeviceStream(on: device) }
            #expect(error.code == .unsupported, "\(error)")
            for word in ["gfx1100", "gfx942", "MORI_EP_ARCHITECTURES"] {
                #expect("\(error)".contains(word), "\(word) is not in: \(error)")
            }
        }

        @Test func aDriverThatIsTooOldIsNamed() async throws {
            emulator.setDriverVersion(403_12345)
            defer { emulator.reset() }
            let error = try await failure { _ = try Device(.emulated) }
            #expect(error.code == .unsupported, "\(error)")
            #expect("\(error)".contains("driver"), "\(error)")
            #expect("\(error)".contains("update"), "\(error)")
        }

        @Test func aLibraryOfAnotherVersionIsRefusedWithBoth() async throws {
            let other = try emulator.file("libother7.so")
            let error = try await failure { _ = try KernelLibrary.open(.emulated, at: [other]) }
            #expect(error.code == .unsupported, "\(error)")
            for word in [other, "version 7", "version \(MORIEP_API_VERSION)", "make emulator"] {
                #expect("\(error)".contains(word), "\(word) is not in: \(error)")
            }
        }

        @Test func aLibraryOfAnotherHeaderIsRefused() async throws {
            let other = try emulator.file("libother\(MORIEP_API_VERSION).so")
            let error = try await failure { _ = try KernelLibrary.open(.emulated, at: [other]) }
            #expect(error.code == .unsupported, "\(error)")
            #expect("\(error)".contains("another moriep.h"), "\(error)")
        }

        @Test func noDeviceIsATypedError() async throws {
            emulator.fail("hipGetDeviceCount", with: HIPError.noDevice)
            defer { emulator.reset() }
            let error = try await failure { _ = try Device(.emulated) }
            #expect(error.code == .noDevice, "\(error)")
            #expect("\(error)".contains("hipErrorNoDevice"), "\(error)")
        }

        /// A kernel that leaves its memory ends its launch, not the process.
        @Test(.enabled(if: Emulator.canExecute, "TINYGRAD was not set"))
        func aFaultInAKernelIsAnError() throws {
            struct Copy {
                var operation = Int32(6), type = Int32(0), count = Int32(0), start = Int32(0)
                var first = Int64(0), bytes = Int64(64)
                var input = UInt64(4096), output = UInt64(8192), words = UInt64(0)
                var rows = UInt64(0), offset = UInt64(0)
                var stride = Int64(0)
            }
            let error = try #require(throws: Mismatch.self) {
                try emulator.run(
                    "primitives", of: "primitives", blocks: 1, warps: 1, sharedByteCount: 4096,
                    Copy())
            }
            #expect(error.description.contains("memory that is not there"), "\(error)")
        }
    }
}

import CHIP
import Glibc
import MoriDevice
import MoriTestSupport
import Synchronization
import Testing

@Suite struct StreamTests {
    private let device: Device

    init() throws { device = try Device(.host) }

    @Test(.timeLimit(.minutes(1)))
    func workRunsInTheOrderItWasEnqueued() async throws {
        let stream = try DeviceStream(on: device)
        let tensor = try DeviceTensor(shape: [1 << 16], elementType: .uint8, on: device)
        let copy = try DeviceTensor(shape: [1 << 16], elementType: .uint8, on: device)
        for byte in UInt8(0)..<200 {
            try tensor.fill(with: byte, on: stream)
            try stream.copy(to: copy.address, from: tensor.address, byteCount: tensor.byteCount)
            try tensor.fill(with: 255, on: stream)
        }
        let bytes: [UInt8] = try await copy.elements(on: stream)
        #expect(bytes.allSatisfy { $0 == 199 })
    }

    /// The ring of commands grows beyond its first size.
    @Test(.timeLimit(.minutes(1)))
    func aThousandCommandsCanWait() async throws {
        let stream = try DeviceStream(on: device)
        let tensor = try DeviceTensor(shape: [1000], elementType: .uint8, on: device)
        let gate = try StreamGate(on: stream)
        for index in 0..<1000 {
            try stream.fill(
                tensor.address + UInt(index), with: UInt8(index % 251), byteCount: 1)
        }
        gate.open()
        let bytes: [UInt8] = try await tensor.elements(on: stream)
        #expect(bytes == (0..<1000).map { UInt8($0 % 251) })
    }

    @Test(.timeLimit(.minutes(1)))
    func enqueueingDoesNotWaitForTheDevice() async throws {
        let stream = try DeviceStream(on: device)
        let gate = try StreamGate(on: stream)
        let tensor = try DeviceTensor([Float](repeating: 3, count: 100), on: stream)
        let event = try DeviceEvent(on: device)
        try stream.record(event)
        #expect(try !event.isReached())
        #expect(!stream.isIdle)
        gate.open()
        try await stream.completion()
        #expect(try event.isReached())
        #expect(try await tensor.elements(on: stream) == [Float](repeating: 3, count: 100))
    }

    @Test(.timeLimit(.minutes(1)))
    func aStreamWaitsForAnEventOfAnother() async throws {
        let first = try DeviceStream(on: device)
        let second = try DeviceStream(on: device)
        let value = try DeviceTensor(shape: [1], elementType: .int32, on: device)
        let result = try DeviceTensor(shape: [1], elementType: .int32, on: device)
        for turn in Int32(1)...50 {
            let gate = try StreamGate(on: first)
            try value.copy(from: [turn], on: first)
            let event = try DeviceEvent(on: device)
            try first.record(event)
            try second.wait(for: event)
            try second.copy(to: result.address, from: value.address, byteCount: 4)
            gate.open()
            #expect(try await result.elements(as: Int32.self, on: second) == [turn])
        }
    }

    /// A wait is for the record before it, not for later ones of the same event.
    @Test(.timeLimit(.minutes(1)))
    func anEventMayBeRecordedAgain() async throws {
        let first = try DeviceStream(on: device)
        let second = try DeviceStream(on: device)
        let event = try DeviceEvent(on: device)
        try second.wait(for: event)  // never recorded: nothing to wait for
        try await second.completion()
        try first.record(event)
        try second.wait(for: event)
        let gate = try StreamGate(on: first)
        try first.record(event)
        try await second.completion()
        #expect(try !event.isReached())
        gate.open()
        try await first.completion()
        #expect(try event.isReached())
    }

    @Test(.timeLimit(.minutes(1)))
    func timedEventsTellTheTimeBetweenThem() async throws {
        let stream = try DeviceStream(on: device)
        let start = try DeviceEvent(on: device, timed: true)
        let stop = try DeviceEvent(on: device, timed: true)
        try stream.record(start)
        // The stream's thread may come late; the time begins when it has come.
        try await stream.completion()
        let gate = try StreamGate(on: stream)
        try stream.record(stop)
        try await Task.sleep(for: .milliseconds(30))
        gate.open()
        try await stream.completion()
        let elapsed = try stop.elapsed(since: start)
        #expect(elapsed >= .milliseconds(29) && elapsed < .seconds(10))
        #expect(try start.elapsed(since: stop) <= .milliseconds(-29))
    }

    @Test(.timeLimit(.minutes(1)))
    func timesThatAreNotThereAreRefused() async throws {
        let stream = try DeviceStream(on: device)
        let timed = try DeviceEvent(on: device, timed: true)
        let untimed = try DeviceEvent(on: device)
        let never = try DeviceEvent(on: device, timed: true)
        try stream.record(timed)
        try stream.record(untimed)
        try await stream.completion()
        for (event, words) in [(untimed, "without timing"), (never, "never recorded")] {
            let error = try #require(throws: MoriError.self) {
                _ = try event.elapsed(since: timed)
            }
            #expect(error.code == .invalidArgument)
            #expect(error.description.contains(words), "\(error)")
        }
        let gate = try StreamGate(on: stream)
        try stream.record(never)
        #expect(throws: MoriError.self) { _ = try never.elapsed(since: timed) }
        gate.open()
        try await stream.completion()
    }

    @Test func blockingTwinsWaitToo() throws {
        let stream = try DeviceStream(on: device)
        let event = try DeviceEvent(on: device)
        let tensor = try DeviceTensor([Int32(1), 2, 3], on: stream)
        try stream.record(event)
        try event.synchronize()
        try stream.synchronize()
        #expect(try tensor.blockingElements(as: Int32.self, on: stream) == [1, 2, 3])
    }

    /// Whoever blocks for its own work runs it: no other thread is woken, whose turn would come late.
    /// The stream's thread looks by itself every 10 ms and finds some of the work.
    @Test func aThreadThatBlocksForItsWorkRunsIt() throws {
        let stream = try DeviceStream(on: device)
        let elsewhere = Counter()
        for _ in 0..<50 {
            let own = pthread_self()
            try stream.synchronize { () throws(MoriError) in
                try stream.enqueue {
                    if pthread_equal(own, pthread_self()) == 0 {
                        elsewhere.value.add(1, ordering: .relaxed)
                    }
                }
                usleep(1000)
            }
        }
        #expect(elsewhere.value.load(ordering: .relaxed) < 40, "of 50; else all of them")
        #expect(stream.isIdle)
    }

    /// It only delays: a body that waits for its own work, which it should not, still ends.
    @Test(.timeLimit(.minutes(1)))
    func workOfABodyThatDawdlesStartsAllTheSame() throws {
        let stream = try DeviceStream(on: device)
        let count = Counter()
        try stream.synchronize { () throws(MoriError) in
            try stream.enqueue { count.value.add(1, ordering: .relaxed) }
            wait(for: count, toReach: 1)
        }
        // And one that throws leaves its work to the stream's thread.
        #expect(throws: MoriError.self) {
            try stream.synchronize { () throws(MoriError) in
                try stream.enqueue { count.value.add(1, ordering: .relaxed) }
                throw MoriError(.invalidArgument, "of the test")
            }
        }
        wait(for: count, toReach: 2)
        #expect(count.value.load(ordering: .relaxed) == 2)
    }

    /// Blocks, as a body that dawdles does, for 10 seconds at most.
    private func wait(for count: Counter, toReach number: Int) {
        let end = ContinuousClock.now + .seconds(10)
        while count.value.load(ordering: .relaxed) < number, ContinuousClock.now < end {
            usleep(100)
        }
    }

    /// A thread that waits runs commands itself. Many threads enqueue and wait, and whoever runs a
    /// command, it runs once, in its order, and alone.
    @Test(.timeLimit(.minutes(1)))
    func commandsRunInOrderWhoeverRunsThem() async throws {
        let stream = try DeviceStream(on: device)
        let count = Counter()
        let misplaced = Counter()
        try await withThrowingTaskGroup { group in
            for waiter in 0..<4 {
                group.addTask {
                    let outcome: Result<Void, MoriError> = try await BackgroundThread.run {
                        Result { () throws(MoriError) in
                            for turn in 0..<500 {
                                // Two callbacks: the second finds what the first left, and no other's.
                                try stream.enqueue {
                                    count.value.add(1, ordering: .relaxed)
                                }
                                let tensor = try DeviceTensor(
                                    shape: [64], elementType: .uint8, on: stream.device)
                                let byte = UInt8(truncatingIfNeeded: turn * 4 + waiter)
                                try tensor.fill(with: byte &+ 1, on: stream)
                                try tensor.fill(with: byte, on: stream)
                                // Some leave their work to the others, and to the stream's thread.
                                if turn % 7 == waiter { continue }
                                let bytes: [UInt8] = try tensor.blockingElements(on: stream)
                                if !bytes.allSatisfy({ $0 == byte }) {
                                    misplaced.value.add(1, ordering: .relaxed)
                                }
                            }
                        }
                    }
                    try outcome.get()
                }
            }
            try await group.waitForAll()
        }
        try await stream.completion()
        #expect(count.value.load(ordering: .relaxed) == 2000)
        #expect(misplaced.value.load(ordering: .relaxed) == 0)
        #expect(stream.isIdle)
    }

    @Test(.timeLimit(.minutes(1)))
    func manyTasksMayAwaitOneStream() async throws {
        let stream = try DeviceStream(on: device)
        let gate = try StreamGate(on: stream)
        let count = Counter()
        try await withThrowingTaskGroup { group in
            for _ in 0..<20 {
                group.addTask {
                    try await stream.completion()
                    count.value.add(1, ordering: .relaxed)
                }
            }
            try await Task.sleep(for: .milliseconds(10))
            #expect(count.value.load(ordering: .relaxed) == 0)
            gate.open()
            try await group.waitForAll()
        }
        #expect(count.value.load(ordering: .relaxed) == 20)
    }

    /// Freed when the stream is done with it, and not before.
    @Test(.timeLimit(.minutes(1)))
    func buffersDroppedWhileWorkUsesThemStay() async throws {
        let stream = try DeviceStream(on: device)
        let result = try DeviceTensor(shape: [1 << 20], elementType: .uint8, on: device)
        for turn in UInt8(0)..<20 {
            let gate = try StreamGate(on: stream)
            do {
                let source = try DeviceTensor(
                    [UInt8](repeating: turn, count: 1 << 20), on: stream)
                try stream.copy(
                    to: result.address, from: source.address, byteCount: 1 << 20)
            }
            gate.open()
            let bytes: [UInt8] = try await result.elements(on: stream)
            #expect(bytes[0] == turn && bytes[(1 << 20) - 1] == turn)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aStreamDroppedWithWorkRunsItToTheEnd() async throws {
        let tensor = try DeviceTensor(shape: [4], elementType: .uint8, on: device)
        let done = try DeviceEvent(on: device)
        let gate: StreamGate
        do {
            let stream = try DeviceStream(on: device)
            gate = try StreamGate(on: stream)
            try tensor.fill(with: 9, on: stream)
            try stream.record(done)
        }
        gate.open()
        let other = try DeviceStream(on: device)
        try other.wait(for: done)
        #expect(try await tensor.elements(as: UInt8.self, on: other) == [9, 9, 9, 9])
    }

    @Test func streamsOfOtherFrameworksAreUnsupportedOnTheHost() throws {
        let error = try #require(throws: MoriError.self) {
            _ = unsafe try DeviceStream(borrowing: 42, on: device)
        }
        #expect(error.code == .unsupported)
    }
}

private final class Counter: Sendable {
    let value = Atomic(0)
}

extension DeviceStream {
    /// Calls `body` in the stream's order.
    fileprivate func enqueue(_ body: @escaping @Sendable () -> Void) throws(MoriError) {
        let box = unsafe Unmanaged.passRetained(Body(body))
        let status = unsafe device.library.table.pointee.stream_callback(
            handle,
            { context in
                guard let context = unsafe context else { return }
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
            }, box.toOpaque())
        if status != MORIEP_SUCCESS { unsafe box.release() }
        try device.library.check(status, "stream_callback")
    }
}

private final class Body: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

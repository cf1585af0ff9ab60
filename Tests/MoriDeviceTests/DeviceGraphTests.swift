import MoriDevice
import MoriTestSupport
import Testing

@Suite struct DeviceGraphTests {
    private let device: Device

    init() throws { device = try Device(.host) }

    @Test(.timeLimit(.minutes(1)))
    func aCaptureRunsNothingAndAReplayRunsEverything() async throws {
        let stream = try DeviceStream(on: device)
        let source = try DeviceTensor([Int32(1)], on: stream)
        let result = try DeviceTensor([Int32(0)], on: stream)
        try await stream.completion()
        let graph = try stream.capture { () throws(MoriError) in
            #expect((try? stream.isCapturing()) == true)
            try stream.copy(to: result.address, from: source.address, byteCount: 4)
            try source.fill(with: 0, on: stream)
        }
        #expect(try !stream.isCapturing())
        #expect(try await result.elements(as: Int32.self, on: stream) == [0])
        for value in Int32(5)...60 {
            try source.copy(from: [value], on: stream)
            try graph.launch(on: stream)
            #expect(try await result.elements(as: Int32.self, on: stream) == [value])
            #expect(try await source.elements(as: Int32.self, on: stream) == [0])
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aGraphMayBeLaunchedOnAnotherStream() async throws {
        let stream = try DeviceStream(on: device)
        let other = try DeviceStream(on: device)
        let tensor = try DeviceTensor([Int32(0)], on: stream)
        try await stream.completion()
        let graph = try stream.capture { () throws(MoriError) in
            try tensor.fill(with: 1, on: stream)
        }
        try graph.launch(on: other)
        #expect(try await tensor.elements(as: Int32.self, on: other) == [0x0101_0101])
    }

    @Test(.timeLimit(.minutes(1)))
    func eventsInsideAGraphAreReachedByEveryReplay() async throws {
        let stream = try DeviceStream(on: device)
        let start = try DeviceEvent(on: device, timed: true)
        let stop = try DeviceEvent(on: device, timed: true)
        let tensor = try DeviceTensor(shape: [1 << 16], elementType: .uint8, on: device)
        let graph = try stream.capture { () throws(MoriError) in
            try stream.record(start)
            try tensor.fill(with: 1, on: stream)
            try stream.record(stop)
        }
        for _ in 0..<3 {
            try graph.launch(on: stream)
            try await stream.completion()
            #expect(try stop.elapsed(since: start) >= .zero)
        }
    }

    /// What the graph replays on stays, and so does what a launched graph still runs on.
    @Test(.timeLimit(.minutes(1)))
    func aGraphKeepsItsMemory() async throws {
        let stream = try DeviceStream(on: device)
        let result = try DeviceTensor([Int32](repeating: 0, count: 1 << 14), on: stream)
        for turn in Int32(0)..<10 {
            let gate: StreamGate
            do {
                let graph: DeviceGraph
                do {
                    let source = try DeviceTensor(
                        shape: [1 << 14], elementType: .int32, on: device)
                    graph = try stream.capture { () throws(MoriError) in
                        try source.fill(with: UInt8(turn), on: stream)
                        try stream.copy(
                            to: result.address, from: source.address, byteCount: 1 << 16)
                    }
                }
                gate = try StreamGate(on: stream)
                try graph.launch(on: stream)
            }
            gate.open()
            let values: [Int32] = try await result.elements(on: stream)
            #expect(values.allSatisfy { $0 == turn * 0x0101_0101 })
        }
    }

    /// The launch on the first stream still runs when the one on the second is long done.
    @Test(.timeLimit(.minutes(1)))
    func aGraphLaunchedOnTwoStreamsKeepsItsMemory() async {
        await #expect(processExitsWith: .success) {
            let device = try Device(.host)
            let first = try DeviceStream(on: device)
            let second = try DeviceStream(on: device)
            let result = try DeviceTensor([Int32](repeating: 0, count: 1 << 14), on: first)
            let gate: StreamGate
            do {
                let graph: DeviceGraph
                do {
                    let source = try DeviceTensor(
                        shape: [1 << 14], elementType: .int32, on: device)
                    graph = try first.capture { () throws(MoriError) in
                        try source.fill(with: 3, on: first)
                        try first.copy(
                            to: result.address, from: source.address, byteCount: 1 << 16)
                    }
                }
                gate = try StreamGate(on: first)
                try graph.launch(on: first)
                try graph.launch(on: second)
                try await second.completion()
            }
            try result.fill(with: 0, on: second)
            try await second.completion()
            gate.open()
            let values: [Int32] = try await result.elements(on: first)
            #expect(values.allSatisfy { $0 == 0x0303_0303 })
        }
    }

    /// The elements are read at capture; every replay copies the same ones.
    @Test(.timeLimit(.minutes(1)))
    func aCapturedCopyFromTheHostCanBeReplayed() async throws {
        let stream = try DeviceStream(on: device)
        let tensor = try DeviceTensor([Int32(0)], on: stream)
        try await stream.completion()
        var elements: [Int32] = [7]
        let graph = try stream.capture { () throws(MoriError) in
            try tensor.copy(from: elements, on: stream)
        }
        elements[0] = 8
        for _ in 0..<5 {
            try tensor.fill(with: 0, on: stream)
            try graph.launch(on: stream)
            #expect(try await tensor.elements(as: Int32.self, on: stream) == [7])
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func whatCannotBeCapturedIsRefused() async throws {
        let stream = try DeviceStream(on: device)
        let other = try DeviceStream(on: device)
        let event = try DeviceEvent(on: device)
        try other.record(event)
        let empty = try stream.capture { () throws(MoriError) in }
        let bodies: [(String, () throws(MoriError) -> Void)] = [
            ("a wait", { () throws(MoriError) in try stream.wait(for: event) }),
            ("a graph", { () throws(MoriError) in try empty.launch(on: stream) }),
            (
                "a capture",
                { () throws(MoriError) in
                    _ = try stream.capture { () throws(MoriError) in }
                }
            ),
        ]
        for (name, body) in bodies {
            let error = try #require(throws: MoriError.self) { _ = try stream.capture(body) }
            #expect(error.code == .invalidArgument, "\(name): \(error)")
            #expect(try !stream.isCapturing(), "\(name)")
        }
        try await stream.completion()
        try empty.launch(on: stream)
        try await stream.completion()
    }

    @Test func aStreamThatCapturesCannotBeAwaited() throws {
        let stream = try DeviceStream(on: device)
        let error = try #require(throws: MoriError.self) {
            _ = try stream.capture { () throws(MoriError) in try stream.synchronize() }
        }
        #expect(error.code == .invalidArgument)
        #expect(error.description.contains("cannot be awaited"))
        try stream.synchronize()
    }
}

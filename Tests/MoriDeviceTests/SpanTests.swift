import MoriDevice
import Testing

@Suite struct SpanTests {
    private let device: Device
    private let stream: DeviceStream

    init() throws {
        device = try Device(.host)
        stream = try DeviceStream(on: device)
    }

    @Test(.timeLimit(.minutes(1)))
    func spansAreCopiedInAndReadOut() async throws {
        let floats: [Float] = [1, -0, .infinity, 4]
        let tensor = try DeviceTensor(floats.span, shape: [2, 2], on: stream)
        var found = [Float](repeating: .nan, count: 4)
        var span = found.mutableSpan
        try await tensor.read(into: &span, on: stream)
        #expect(found == floats)

        var others: [Float] = [9, 8, 7, 6]
        try tensor.copy(from: others.mutableSpan, on: stream)
        #expect(try await tensor.elements(as: Float.self, on: stream) == others)
        try tensor.copy(from: floats.span.extracting(0..<4), on: stream)
        #expect(try await tensor.elements(as: Float.self, on: stream) == floats)
    }

    @Test(.timeLimit(.minutes(1)))
    func bytesAreCopiedInAndReadOut() async throws {
        let tensor = try DeviceTensor(shape: [3, 2], elementType: .bfloat16, on: device)
        let bytes = (0..<12).map { UInt8($0 * 7) }
        try unsafe tensor.copy(fromBytes: bytes.span.bytes, on: stream)
        var found = [UInt8](repeating: 0, count: 12)
        var span = found.mutableSpan
        var raw = unsafe span.mutableBytes
        try await tensor.read(intoBytes: &raw, on: stream)
        #expect(found == bytes)
    }

    @Test func aBlockedThreadReadsToo() throws {
        let tensor = try DeviceTensor([Int32(3), -4].span, on: stream)
        var found: [Int32] = [0, 0]
        var span = found.mutableSpan
        try tensor.blockingRead(into: &span, on: stream)
        #expect(found == [3, -4])
    }

    @Test(.timeLimit(.minutes(1)))
    func emptySpansAreSpans() async throws {
        let tensor = try DeviceTensor([Float]().span, shape: [0, 5], on: stream)
        #expect(tensor.count == 0 && tensor.address != 0)
        var none: [Float] = []
        var span = none.mutableSpan
        try await tensor.read(into: &span, on: stream)
        try unsafe tensor.copy(fromBytes: [UInt8]().span.bytes, on: stream)
    }

    @Test(.timeLimit(.minutes(1)))
    func tensorsAreCopiedOnTheDevice() async throws {
        let source = try DeviceTensor([Float(1), 2, 3, 4].span, shape: [2, 2], on: stream)
        let target = try DeviceTensor(shape: [3, 2], elementType: .float32, on: device)
        try target.fill(with: 0, on: stream)
        try target.prefix(2).copy(from: source, on: stream)
        #expect(try await target.elements(as: Float.self, on: stream) == [1, 2, 3, 4, 0, 0])
        for other in [
            source, try DeviceTensor(shape: [3, 2], elementType: .int32, on: device),
            try DeviceTensor(shape: [6], elementType: .float32, on: device),
        ] {
            let error = try #require(throws: MoriError.self) {
                try target.copy(from: other, on: stream)
            }
            #expect(error.code == .invalidArgument && error.message.contains("legal"))
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func otherTypesAndNumbersAreRefused() async throws {
        let tensor = try DeviceTensor([Float(1), 2, 3, 4].span, on: stream)
        let short: [Float] = [1]
        let whole: [Int32] = [1, 2, 3, 4]
        for attempt in [
            { () throws -> Void in try tensor.copy(from: short.span, on: stream) },
            { try tensor.copy(from: whole.span, on: stream) },
            { try unsafe tensor.copy(fromBytes: short.span.bytes, on: stream) },
            { _ = try DeviceTensor(short.span, shape: [2], on: stream) },
            {
                var room: [Float] = [0, 0, 0, 0, 0]
                var span = room.mutableSpan
                try tensor.blockingRead(into: &span, on: stream)
            },
            {
                var room: [Int32] = [0, 0, 0, 0]
                var span = room.mutableSpan
                try tensor.blockingRead(into: &span, on: stream)
            },
        ] {
            let error = try #require(throws: MoriError.self) { try attempt() }
            #expect(error.code == .invalidArgument)
            #expect(error.message.contains("legal"), "\(error)")
        }
    }
}

import CHIP
import Foundation
import MoriDevice
import MoriHostKernels
import MoriTestSupport
import Testing

@Suite struct MemoryTests {
    private let device: Device

    init() throws { device = try Device(.host) }

    /// Stores go past the caches when rows outgrow them. A size that adds up the caches of processors
    /// that share none, as sysconf's may, made rounds of 250 MB cached and three times as slow.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: Self.caches + "index0")))
    func theLastLevelCacheIsTheOneThatAProcessorHas() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.caches)
            .filter { $0.hasPrefix("index") }
        let sizes = try folders.map { folder in
            let text = try String(contentsOfFile: Self.caches + folder + "/size", encoding: .utf8)
            return try #require(UInt64(text.prefix { $0.isNumber })) * 1024
        }
        #expect(moriep_host_last_level_cache_bytes() == sizes.max())
    }

    private static let caches = "/sys/devices/system/cpu/cpu0/cache/"

    @Test(.timeLimit(.minutes(1)), arguments: [DeviceBuffer.Kind.device, .symmetric, .pinned])
    func memoryThatCannotBeHadIsATypedError(_ kind: DeviceBuffer.Kind) throws {
        for byteCount in [1 << 50, 1 << 62, Int.max] {
            let error = try #require(throws: MoriError.self) {
                _ = try DeviceBuffer(byteCount: byteCount, kind: kind, on: device)
            }
            #expect(error.code == .outOfMemory, "\(error)")
            #expect(error.message.contains("\(byteCount) bytes"), "\(error)")
            guard case .runtime(_, let words) = error.cause else {
                Issue.record("no words of the runtime in \(error)")
                continue
            }
            #expect(!words.isEmpty)
        }
        for byteCount in [0, -1] {
            let error = try #require(throws: MoriError.self) {
                _ = try DeviceBuffer(byteCount: byteCount, kind: kind, on: device)
            }
            #expect(error.code == .invalidArgument)
        }
    }

    @Test func tensorsThatCannotBeHadAreTypedErrors() throws {
        for shape in [[1 << 50], [1 << 40, 1 << 40], [Int.max, 2], [Int.max, Int.max, Int.max]] {
            let error = try #require(throws: MoriError.self) {
                _ = try DeviceTensor(shape: shape, elementType: .float32, on: device)
            }
            #expect(error.code == .outOfMemory || error.code == .invalidArgument, "\(error)")
        }
        let negative = try #require(throws: MoriError.self) {
            _ = try DeviceTensor(shape: [4, -1], elementType: .float32, on: device)
        }
        #expect(negative.code == .invalidArgument)
        #expect(negative.message.contains("[4, -1]"))
    }

    @Test(.timeLimit(.minutes(1)))
    func emptyTensorsAreTensors() async throws {
        let stream = try DeviceStream(on: device)
        for shape in [[0], [0, 5], [5, 0], [0, 0], [Int.max, 4, 0]] {
            let tensor = try DeviceTensor([Float](), shape: shape, on: stream)
            #expect(tensor.count == 0 && tensor.byteCount == 0 && tensor.address != 0)
            #expect(try await tensor.elements(as: Float.self, on: stream).isEmpty)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func elementsComeBackAsTheyWent() async throws {
        let stream = try DeviceStream(on: device)
        let floats: [Float] = [1, -0, .infinity, .leastNonzeroMagnitude]
        let tensor = try DeviceTensor(floats, shape: [2, 2], on: stream)
        #expect(tensor.description == "f32[2, 2] on host:0")
        #expect(try await tensor.elements(as: Float.self, on: stream) == floats)
        #expect(
            try await tensor.prefix(1).elements(as: Float.self, on: stream) == [1, -0])
        try tensor.fill(with: 0, on: stream)
        #expect(
            try await tensor.elements(as: Float.self, on: stream)
                == [Float](repeating: 0, count: 4))
    }

    @Test(.timeLimit(.minutes(1)))
    func otherTypesAndShapesAreRefused() async throws {
        let stream = try DeviceStream(on: device)
        let tensor = try DeviceTensor([Float(1), 2, 3, 4], shape: [2, 2], on: stream)
        let attempts: [(String, () throws -> Void)] = [
            ("too many rows", { _ = try tensor.prefix(3) }),
            ("negative rows", { _ = try tensor.prefix(-1) }),
            ("other elements", { try tensor.copy(from: [Int32(1), 2, 3, 4], on: stream) }),
            ("too few elements", { try tensor.copy(from: [Float(1)], on: stream) }),
            ("another shape", { _ = try DeviceTensor([Float(1)], shape: [2], on: stream) }),
            ("host view", { _ = unsafe try tensor.hostElements(as: Int32.self) }),
        ]
        for (name, attempt) in attempts {
            let error = try #require(throws: MoriError.self) { try attempt() }
            #expect(error.code == .invalidArgument, "\(name)")
        }
        let error = try await #require(throws: MoriError.self) {
            _ = try await tensor.elements(as: BFloat16.self, on: stream)
        }
        #expect(error.code == .invalidArgument)
    }

    @Test(.timeLimit(.minutes(1)))
    func exportedMemoryIsImportedAsItself() async throws {
        let stream = try DeviceStream(on: device)
        let buffer = try DeviceBuffer(byteCount: 100, kind: .symmetric, on: device)
        let handle = try buffer.export()
        do {
            let first = try ImportedBuffer(handle, on: device)
            let second = try ImportedBuffer(handle, on: device)
            // In one process the memory is mapped once.
            #expect(first.address == buffer.address && second.address == buffer.address)
            try stream.fill(first.address, with: 5, byteCount: 100)
        }
        let view = unsafe DeviceTensor(
            borrowing: buffer.address, shape: [100], elementType: .uint8, on: device)
        let bytes: [UInt8] = try await view.elements(on: stream)
        #expect(bytes.allSatisfy { $0 == 5 })
    }

    /// As a peer's mapping does in another process.
    @Test(.timeLimit(.minutes(1)))
    func importedMemoryOutlivesItsOwner() async {
        await #expect(processExitsWith: .success) {
            let device = try Device(.host)
            let stream = try DeviceStream(on: device)
            var imports: [ImportedBuffer] = []
            do {
                let buffer = try DeviceBuffer(byteCount: 100, kind: .symmetric, on: device)
                for _ in 0..<2 { imports.append(try ImportedBuffer(buffer.export(), on: device)) }
            }
            for imported in imports {
                try stream.fill(imported.address, with: 5, byteCount: 100)
                try await stream.completion()
            }
            imports.removeLast()
            try stream.fill(imports[0].address, with: 5, byteCount: 100)
            try await stream.completion()
            #expect(try liveCounts().allocations == 1)
            imports = []
            #expect(try liveCounts().allocations == 0)
        }
    }

    @Test func onlySymmetricMemoryIsExported() throws {
        for kind in [DeviceBuffer.Kind.device, .pinned] {
            let buffer = try DeviceBuffer(byteCount: 64, kind: kind, on: device)
            let error = try #require(throws: MoriError.self) { _ = try buffer.export() }
            #expect(error.code == .invalidArgument)
        }
    }

    @Test func handlesOfFreedMemoryAreRefused() throws {
        let handle = try DeviceBuffer(byteCount: 64, kind: .symmetric, on: device).export()
        let error = try #require(throws: MoriError.self) {
            _ = try ImportedBuffer(handle, on: device)
        }
        #expect(error.code == .invalidArgument, "\(error)")
    }

    @Test(.timeLimit(.minutes(1)))
    func handlesOfProcessesThatAreNotThereAreRefused() throws {
        let error = try #require(throws: MoriError.self) {
            _ = try ImportedBuffer(
                [UInt8](repeating: 0, count: DeviceBuffer.handleByteCount), on: device)
        }
        #expect(error.code == .deviceFailure, "\(error)")
        #expect(error.description.contains("cannot open the memory of process 0"))
        let short = try #require(throws: MoriError.self) {
            _ = try ImportedBuffer([1, 2, 3], on: device)
        }
        #expect(short.code == .invalidArgument)
        #expect(short.message.contains("3 bytes; legal is 128"))
    }

    /// Every handle is counted, and is gone when its owner is.
    @Test(.timeLimit(.minutes(1)))
    func liveCountsCountEverything() async {
        await #expect(processExitsWith: .success) {
            let device = try Device(.host)
            try await requireNothingLive()
            do {
                let buffers = try [100, 28].map {
                    try DeviceBuffer(byteCount: $0, kind: .symmetric, on: device)
                }
                let imported = try ImportedBuffer(buffers[0].export(), on: device)
                let stream = try DeviceStream(on: device)
                let event = try DeviceEvent(on: device)
                let graph = try stream.capture { () throws(MoriError) in }
                let counts = try liveCounts()
                guard counts.allocations == 2, counts.allocated_bytes == 128, counts.imports == 1,
                    counts.streams == 1, counts.events == 1, counts.graphs == 1
                else { throw Mismatch(counts.words) }
                withExtendedLifetime((buffers, imported, stream, event, graph)) {}
            }
            try await requireNothingLive()
        }
    }
}

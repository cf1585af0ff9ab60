import CDLPack
import MoriTestSupport
import Testing

@testable import MoriDevice

@Suite struct DLPackTests {
    private let device: Device
    private let foreign = ForeignTensor()

    init() throws { device = try Device(.host) }

    // -------------------------------------------------------------------------------------------
    // In

    @Test(.timeLimit(.minutes(1)), arguments: [false, true])
    func aForeignTensorIsReadInPlaceAndDeletedOnce(_ isVersioned: Bool) async throws {
        let stream = try DeviceStream(on: device)
        do {
            let form = ForeignTensor.Form(strides: [3, 1], byteOffset: 8)
            let tensor =
                isVersioned
                ? try unsafe DeviceTensor(takingOwnershipOf: foreign.makeVersioned(form))
                : try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
            #expect(tensor.description == "f32[2, 3] on host:0")
            #expect(try await tensor.elements(as: Float.self, on: stream) == [2, 3, 4, 5, 6, 7])
            let view = try tensor.prefix(1)
            #expect(try await view.elements(as: Float.self, on: stream) == [2, 3, 4])
            #expect(foreign.deletionCount == 0)
        }
        try await foreign.awaitDeletion()
        #expect(foreign.deletionCount == 1)
    }

    @Test(.timeLimit(.minutes(1)))
    func aForeignTensorLivesUntilEnqueuedWorkIsDone() async throws {
        let stream = try DeviceStream(on: device)
        let gate = try StreamGate(on: stream)
        do {
            let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make())
            try tensor.fill(with: 0, on: stream)
        }
        try await Task.sleep(for: .milliseconds(20))
        #expect(foreign.deletionCount == 0)
        gate.open()
        try await stream.completion()
        try await foreign.awaitDeletion()
        #expect(foreign.deletionCount == 1)
    }

    @Test(.timeLimit(.minutes(1)))
    func aGraphKeepsAForeignTensor() async throws {
        let stream = try DeviceStream(on: device)
        var graph: DeviceGraph?
        do {
            let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make())
            graph = try stream.capture { () throws(MoriError) in
                try tensor.fill(with: 1, on: stream)
            }
        }
        #expect(foreign.deletionCount == 0)
        try graph?.launch(on: stream)
        try await stream.completion()
        graph = nil
        try await foreign.awaitDeletion()
        #expect(foreign.deletionCount == 1)
    }

    @Test func aTensorWithoutADeleterNeedsNone() throws {
        var form = ForeignTensor.Form()
        form.hasDeleter = false
        let managed = unsafe foreign.make(form)
        do { _ = try unsafe DeviceTensor(takingOwnershipOf: managed) }
        #expect(foreign.deletionCount == 0)
        unsafe ForeignTensor.free(managed)
    }

    @Test(
        arguments: [
            ([2, 3], nil), ([2, 3], [3, 1]), ([1, 3], [77, 1]), ([2, 1], [1, 99]), ([], nil),
            ([0, 3], [5, 7]), ([2, 1, 3], [3, 3, 1]), ([1], [0]),
        ] as [([Int64], [Int64]?)])
    func compactLayoutsAreTaken(_ shape: [Int64], _ strides: [Int64]?) throws {
        let form = ForeignTensor.Form(shape: shape, strides: strides)
        let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
        #expect(tensor.shape == shape.map(Int.init))
        #expect(tensor.count == tensor.shape.reduce(1, *))
    }

    @Test func aTensorWithoutElementsHasAnAddressAllTheSame() throws {
        let form = ForeignTensor.Form(shape: [0, 4], hasData: false)
        let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
        #expect(tensor.count == 0 && tensor.address != 0)
    }

    /// A tensor that is refused, and what the error must say.
    struct Refused: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var found: String
        var code: MoriError.Code
        var spoil: @Sendable (inout ForeignTensor.Form) -> Void

        init(
            _ name: String, _ found: String, _ code: MoriError.Code = .invalidArgument,
            _ spoil: @escaping @Sendable (inout ForeignTensor.Form) -> Void
        ) {
            testDescription = name
            self.found = found
            self.code = code
            self.spoil = spoil
        }

        var form: ForeignTensor.Form {
            var form = ForeignTensor.Form()
            spoil(&form)
            return form
        }
    }

    static let refused: [Refused] = [
        Refused("columns first", "strides [1, 2]") { $0.strides = [1, 2] },
        Refused("broadcast", "strides [0, 0]") { $0.strides = [0, 0] },
        Refused("every other", "strides [6, 2]") { $0.strides = [6, 2] },
        Refused("backwards", "strides [-3, 1]") { $0.strides = [-3, 1] },
        Refused("below 0", "-2") { $0.shape = [3, -2] },
        Refused("too large", "dimension 0") { $0.shape = [1 << 40, 1 << 40] },
        Refused("too many packed elements", "dimension 0") {
            $0.shape = [1 << 62]
            $0.code = 17
            $0.bits = 4
            $0.lanes = 2
        },
        Refused("no shape", "2 dimensions") {
            $0.shape = nil
            $0.dimensions = 2
        },
        Refused("dimensions below 0", "-1 dimensions") { $0.dimensions = -1 },
        Refused("no data", "NULL") { $0.hasData = false },
        Refused("misaligned", "byte offset is 2") { $0.byteOffset = 2 },
        Refused("beyond the address space", "byte offset") { $0.byteOffset = .max },
        Refused("vectors", "4 lanes", .unsupported) { $0.lanes = 4 },
        Refused("double", "64 bits", .unsupported) { $0.bits = 64 },
        Refused("complex", "code 5", .unsupported) { $0.code = 5 },
        Refused("unknown type", "code 200", .unsupported) { $0.code = 200 },
        Refused("64-bit indices", "code 0 with 64 bits", .unsupported) {
            $0.code = 0
            $0.bits = 64
        },
        Refused("oneAPI", "device type 14", .unsupported) { $0.deviceType = 14 },
        Refused("Vulkan", "device type 7", .unsupported) { $0.deviceType = 7 },
    ]

    @Test(arguments: refused)
    func whatCannotBeTakenIsNamedAndStaysTheCallers(_ refused: Refused) throws {
        let managed = unsafe foreign.make(refused.form)
        let error = try #require(throws: MoriError.self) {
            _ = try unsafe DeviceTensor(takingOwnershipOf: managed)
        }
        #expect(error.code == refused.code, "\(error)")
        #expect(error.message.contains(refused.found), "\(error)")
        #expect(error.message.contains("legal") || error.message.contains("must"), "\(error)")
        #expect(foreign.deletionCount == 0)
        unsafe managed.pointee.deleter(managed)
        #expect(foreign.deletionCount == 1)
    }

    static let refusedByVersion: [Refused] = [
        Refused("read-only", "allowingReadOnly") { $0.flags = 1 },
        Refused("padded", "padded", .unsupported) { $0.flags = 4 },
        Refused("too new", "version 2.0", .unsupported) { $0.major = 2 },
        Refused("too old", "version 0.0", .unsupported) { $0.major = 0 },
    ]

    @Test(arguments: refusedByVersion)
    func versionsAndFlagsAreHeeded(_ refused: Refused) throws {
        let managed = unsafe foreign.makeVersioned(refused.form)
        let error = try #require(throws: MoriError.self) {
            _ = try unsafe DeviceTensor(takingOwnershipOf: managed)
        }
        #expect(error.code == refused.code, "\(error)")
        #expect(error.message.contains(refused.found), "\(error)")
        #expect(foreign.deletionCount == 0)
        unsafe managed.pointee.deleter(managed)
    }

    @Test func readOnlyMemoryIsTakenWhereItIsOnlyRead() throws {
        let managed = unsafe foreign.makeVersioned(ForeignTensor.Form(flags: 1))
        let tensor = try unsafe DeviceTensor(takingOwnershipOf: managed, allowingReadOnly: true)
        #expect(tensor.shape == [2, 3])
    }

    // -------------------------------------------------------------------------------------------
    // Element types and devices

    @Test(
        arguments: [
            ("bf16", 4, 16, 1), ("f16", 2, 16, 1), ("f32", 2, 32, 1), ("i32", 0, 32, 1),
            ("u8", 1, 8, 1), ("fp8_e4m3", 10, 8, 1), ("fp8_e4m3fnuz", 11, 8, 1),
            ("fp8_e5m2", 12, 8, 1), ("fp4", 17, 4, 2),
        ] as [(String, UInt8, UInt8, UInt16)])
    func elementTypesHaveTheStandardsNumbers(
        _ name: String, _ code: UInt8, _ bits: UInt8, _ lanes: UInt16
    ) throws {
        let form = ForeignTensor.Form(shape: [2, 4], code: code, bits: bits, lanes: lanes)
        let elementType = try #require(ElementType(rawValue: name))
        let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
        #expect(tensor.elementType == elementType)
        #expect(tensor.shape == [2, 4 * Int(lanes)])
        let exported = try unsafe tensor.makeDLManagedTensor()
        let type = unsafe exported.pointee.dl_tensor.dtype
        #expect(type.code == code && type.bits == bits && type.lanes == lanes)
        #expect(unsafe exported.pointee.dl_tensor.shape[1] == 4)
        unsafe exported.pointee.deleter(exported)
    }

    /// As the standard has it, and not PyTorch: an element of the shape is an element.
    @Test func packedElementsMayBeCountedOneByOne() throws {
        var form = ForeignTensor.Form(shape: [3, 6], code: 17, bits: 4)
        let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
        #expect(tensor.elementType == .float4E2M1 && tensor.shape == [3, 6])
        #expect(tensor.byteCount == 9)
        form.shape = [2, 3]
        let managed = unsafe foreign.make(form)
        let error = try #require(throws: MoriError.self) {
            _ = try unsafe DeviceTensor(takingOwnershipOf: managed)
        }
        #expect(error.code == .invalidArgument && error.message.contains("multiple of 2"))
        unsafe managed.pointee.deleter(managed)
    }

    @Test func packedRowsThatEndWithinAByteAreNotExported() throws {
        let tensor = try DeviceTensor(shape: [2, 3], elementType: .float4E2M1, on: device)
        let error = try #require(throws: MoriError.self) {
            _ = try unsafe tensor.makeDLManagedTensor()
        }
        #expect(error.code == .invalidArgument && error.message.contains("multiple of 2"))
    }

    @Test func everyElementTypeHasANumber() throws {
        for elementType in ElementType.allCases {
            let element = try elementType.dlpackElement()
            #expect(try ElementType(element) == elementType)
        }
    }

    @Test func devicesHaveTheStandardsNumbers() {
        let numbers: [(Device.Kind, UInt32)] = [(.host, 1), (.amd, 10), (.nvidia, 2)]
        for (kind, type) in numbers {
            let found = DLPackDevice(kind, ordinal: 3).dlDevice
            #expect(found.device_type.rawValue == type)
            #expect(found.device_id == (kind == .host ? 0 : 3))
        }
    }

    @Test(
        arguments: [
            (1, 0, [.host], [true, false]), (2, 1, [.nvidia], [true, false]),
            (10, 1, [.amd], [true, false]), (3, 0, [.host, .nvidia], [true, true]),
            (11, 0, [.host, .amd], [true, true]), (13, 0, [.nvidia, .host], [true, true]),
            (7, 0, [], [false, false]),
        ] as [(UInt32, Int32, [Device.Kind], [Bool])])
    func memoryIsReachedByItsDevices(
        _ type: UInt32, _ number: Int32, _ kinds: [Device.Kind], _ ordinals: [Bool]
    ) {
        let found = DLPackDevice(
            DLDevice(device_type: DLDeviceType(rawValue: type), device_id: number))
        #expect(found.kinds == kinds)
        for kind in Device.Kind.allCases {
            #expect(found.isReached(by: kind, ordinal: Int(number)) == kinds.contains(kind))
            guard kinds.contains(kind), kind != .host else { continue }
            #expect(found.isReached(by: kind, ordinal: 7) == ordinals[1])
        }
    }

    @Test(arguments: [(2, "CUDA 0"), (10, "ROCm 0")] as [(UInt32, String)])
    func anotherDeviceThanTheOneWishedForIsNamed(_ type: UInt32, _ name: String) throws {
        let form = ForeignTensor.Form(deviceType: type)
        let managed = unsafe foreign.make(form)
        let error = try #require(throws: MoriError.self) {
            _ = try unsafe DeviceTensor(takingOwnershipOf: managed, on: device)
        }
        #expect(error.code == .invalidArgument)
        #expect(error.message.contains(name) && error.message.contains("legal is CPU 0"))
        unsafe managed.pointee.deleter(managed)
    }

    @Test func pinnedMemoryIsTheHosts() throws {
        for type in [kDLCUDAHost.rawValue, kDLROCMHost.rawValue] {
            let form = ForeignTensor.Form(deviceType: type)
            let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make(form))
            #expect(tensor.device == device)
        }
        #expect(foreign.deletionCount == 2)
    }

    // -------------------------------------------------------------------------------------------
    // Out

    @Test(.timeLimit(.minutes(1)))
    func anExportHoldsItsMemoryUntilItIsDeleted() async throws {
        let stream = try DeviceStream(on: device)
        let elements = (0..<24).map(Float.init)
        weak var storage: AnyObject?
        let exported: UnsafeMutablePointer<DLManagedTensor>
        do {
            let tensor = try DeviceTensor(elements, shape: [2, 3, 4], on: stream)
            try await stream.completion()
            storage = tensor.storage
            unsafe exported = try tensor.makeDLManagedTensor()
        }
        #expect(storage != nil)
        let found = unsafe exported.pointee.dl_tensor
        #expect(unsafe found.ndim == 3 && found.byte_offset == 0)
        #expect((0..<3).map { unsafe found.shape[$0] } == [2, 3, 4])
        #expect((0..<3).map { unsafe found.strides[$0] } == [12, 4, 1])
        let data = unsafe found.data.assumingMemoryBound(to: Float.self)
        #expect((0..<24).map { unsafe data[$0] } == elements)
        unsafe exported.pointee.deleter(exported)
        #expect(storage == nil)
    }

    @Test(.timeLimit(.minutes(1)), arguments: [false, true])
    func whatIsExportedCanBeImported(_ isVersioned: Bool) async throws {
        let stream = try DeviceStream(on: device)
        weak var storage: AnyObject?
        do {
            let original = try DeviceTensor([Int32(1), 2, 3, 4], shape: [2, 2], on: stream)
            storage = original.storage
            let back =
                isVersioned
                ? try unsafe DeviceTensor(
                    takingOwnershipOf: original.makeDLManagedTensorVersioned())
                : try unsafe DeviceTensor(takingOwnershipOf: original.makeDLManagedTensor())
            #expect(back.address == original.address && back.shape == [2, 2])
            #expect(back.elementType == .int32 && back.device == device)
            #expect(try await back.elements(as: Int32.self, on: stream) == [1, 2, 3, 4])
        }
        for _ in 0..<500 where storage != nil { try await Task.sleep(for: .milliseconds(10)) }
        #expect(storage == nil)
    }

    @Test func scalarsAndEmptyTensorsAreExported() throws {
        for shape in [[], [0], [0, 3], [3, 0]] {
            let tensor = try DeviceTensor(shape: shape, elementType: .uint8, on: device)
            let exported = try unsafe tensor.makeDLManagedTensorVersioned()
            #expect(unsafe Int(exported.pointee.dl_tensor.ndim) == shape.count)
            #expect(unsafe exported.pointee.version.major == 1 && exported.pointee.flags == 0)
            unsafe exported.pointee.deleter(exported)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aForeignTensorCanBePassedOn() async throws {
        do {
            let tensor = try unsafe DeviceTensor(takingOwnershipOf: foreign.make())
            let exported = try unsafe tensor.makeDLManagedTensor()
            unsafe exported.pointee.deleter(exported)
            #expect(foreign.deletionCount == 0)
        }
        try await foreign.awaitDeletion()
        #expect(foreign.deletionCount == 1)
    }
}

import MoriEP
import Testing

/// One call with one thing wrong, and the words that its error must contain.
struct BadCall: Sendable, CustomTestStringConvertible {
    let name: String
    let code: MoriError.Code
    let words: [String]
    let call: @Sendable (BadInputSetting) throws -> Void

    var testDescription: String { name }

    init(
        _ name: String, _ words: [String], code: MoriError.Code = .invalidArgument,
        _ call: @escaping @Sendable (BadInputSetting) throws -> Void
    ) {
        self.name = name
        self.code = code
        self.words = words
        self.call = call
    }
}

/// What a bad call is made with: everything that is right.
struct BadInputSetting: Sendable {
    let op: EPDispatchCombineOp
    let stream: DeviceStream
    let tokens: DeviceTensor
    let weights: DeviceTensor
    let scales: DeviceTensor
    let indices: DeviceTensor

    init(_ op: EPDispatchCombineOp, _ stream: DeviceStream) throws {
        self.op = op
        self.stream = stream
        tokens = try Self.tensor([6, 64], .bfloat16, stream)
        weights = try Self.tensor([6, 3], .float32, stream)
        scales = try Self.tensor([6, 2], .uint8, stream)
        indices = try Self.tensor([6, 3], .int32, stream)
    }

    static func tensor(
        _ shape: [Int], _ type: ElementType, _ stream: DeviceStream
    ) throws -> DeviceTensor {
        let tensor = try DeviceTensor(shape: shape, elementType: type, on: stream.device)
        try tensor.fill(with: 0, on: stream)
        return tensor
    }

    func tensor(_ shape: [Int], _ type: ElementType) throws -> DeviceTensor {
        try Self.tensor(shape, type, stream)
    }

    /// The same memory on a device that is not the operator's.
    func elsewhere(_ tensor: DeviceTensor) throws -> DeviceTensor {
        unsafe DeviceTensor(
            borrowing: tensor.address, shape: tensor.shape, elementType: tensor.elementType,
            on: try otherDevice(than: op.world.device))
    }

    func dispatch(
        tokens: DeviceTensor? = nil, weights: DeviceTensor? = nil, scales: DeviceTensor? = nil,
        indices: DeviceTensor? = nil, validTokenCount: DeviceTensor? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil
    ) throws {
        _ = try op.dispatch(
            tokens ?? self.tokens, weights: weights ?? self.weights,
            scales: scales ?? self.scales, indices: indices ?? self.indices,
            validTokenCount: validTokenCount, launch: launch, timeout: timeout, on: stream)
    }

    /// A good dispatch, then a combine of this output.
    func combine(
        _ output: DeviceTensor, weights: DeviceTensor? = nil, input: CombineInput? = nil,
        launch: LaunchConfiguration? = nil, timeout: Duration? = nil
    ) throws {
        let received = try op.dispatch(tokens, indices: indices, on: stream)
        _ = try op.combine(
            output, of: received, weights: weights, input: input, launch: launch,
            timeout: timeout, on: stream)
    }
}

/// A device like this one with another number. There is one host device only, so the number is
/// stored into a copy.
func otherDevice(than device: Device) throws -> Device {
    var other = device
    let offset = try #require(MemoryLayout<Device>.offset(of: \.ordinal))
    unsafe withUnsafeMutableBytes(of: &other) {
        unsafe $0.storeBytes(of: device.ordinal + 1, toByteOffset: offset, as: Int.self)
    }
    return other
}

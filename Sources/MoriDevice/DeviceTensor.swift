/// A dense, row-major array in a device's memory.
///
/// A tensor is a view: copying it copies no elements. It keeps its memory alive as long as the
/// memory is this package's own.
public struct DeviceTensor: Sendable, CustomStringConvertible {
    /// The device address of the first element.
    public let address: UInt
    /// Elements in each dimension, outermost first.
    public let shape: [Int]
    /// What an element is.
    public let elementType: ElementType
    /// Whose memory.
    public let device: Device
    /// Keeps the memory alive; nil for memory that somebody else owns.
    package let storage: (any AnyObject & Sendable)?

    package init(
        address: UInt, shape: [Int], elementType: ElementType, device: Device,
        storage: (any AnyObject & Sendable)?
    ) {
        self.address = address
        self.shape = shape
        self.elementType = elementType
        self.device = device
        self.storage = storage
    }

    /// Allocates a tensor; its content is undefined.
    ///
    /// Dimensions may be 0.
    ///
    /// - Throws: `outOfMemory`; `invalidArgument` for a negative dimension.
    public init(
        shape: [Int], elementType: ElementType, on device: Device
    ) throws(MoriError) {
        guard shape.allSatisfy({ $0 >= 0 }) else {
            throw MoriError(.invalidArgument, "a tensor of shape \(shape); no dimension below 0")
        }
        // Packed elements do not cross rows.
        var bytes = shape.contains(0) ? 0 : elementType.byteCount(of: shape.last ?? 1)
        for dimension in shape.dropLast() where bytes > 0 {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: dimension)
            guard !overflow else {
                throw MoriError(
                    .outOfMemory, "a tensor of shape \(shape): 64 bits do not hold its size")
            }
            bytes = product
        }
        // A tensor without elements still has an address.
        let buffer = try DeviceBuffer(byteCount: max(bytes, 1), on: device)
        self.init(
            address: buffer.address, shape: shape, elementType: elementType, device: device,
            storage: buffer)
    }

    /// Wraps memory that somebody else owns and keeps alive while the device uses it: a
    /// framework's tensor.
    @unsafe public init(
        borrowing address: UInt, shape: [Int], elementType: ElementType, on device: Device
    ) {
        self.init(
            address: address, shape: shape, elementType: elementType, device: device, storage: nil)
    }

    /// Elements.
    public var count: Int { shape.contains(0) ? 0 : shape.reduce(1, *) }

    /// Bytes.
    ///
    /// Packed elements do not cross rows.
    public var byteCount: Int {
        shape.contains(0)
            ? 0 : shape.dropLast().reduce(elementType.byteCount(of: shape.last ?? 1), *)
    }

    /// Values of an element's Swift type: half the elements where two are packed in one.
    var unitCount: Int { byteCount / elementType.byteCount }

    /// The first `count` rows of the outermost dimension.
    ///
    /// - Throws: `invalidArgument` when there are fewer.
    public func prefix(_ count: Int) throws(MoriError) -> DeviceTensor {
        guard let rows = shape.first, count >= 0 && count <= rows else {
            throw MoriError(.invalidArgument, "the first \(count) rows of a tensor of \(shape)")
        }
        return DeviceTensor(
            address: address, shape: [count] + shape.dropFirst(), elementType: elementType,
            device: device, storage: storage)
    }

    /// Takes note that work of a stream uses the tensor: its memory is not freed before.
    package func noteUse(on stream: DeviceStream) {
        if let buffer = storage as? DeviceBuffer {
            buffer.noteUse(on: stream)
        } else if let imported = storage as? ImportedTensor {
            imported.noteUse(on: stream)
        } else if let storage {
            _ = stream.keepWithCapture(storage)
        }
    }

    /// "bf16[512, 7168] on host:0".
    public var description: String { "\(elementType)\(shape) on \(device)" }
}

// -----------------------------------------------------------------------------------------------
// Moving elements between the host and the device

extension DeviceTensor {
    /// Allocates a tensor and enqueues a copy of the elements into it.
    ///
    /// - Throws: `invalidArgument` when the shape asks for another number of elements.
    public init<Element: TensorElement>(
        _ elements: [Element], shape: [Int]? = nil, on stream: DeviceStream
    ) throws(MoriError) {
        try self.init(
            shape: shape ?? [elements.count * Element.elementType.elementsPerUnit],
            elementType: Element.elementType, on: stream.device)
        try copy(from: elements, on: stream)
    }

    /// Enqueues a copy of the elements into this tensor.
    ///
    /// The elements are read before this returns.
    ///
    /// - Throws: `invalidArgument` when type or number differ.
    public func copy<Element: TensorElement>(
        from elements: [Element], on stream: DeviceStream
    ) throws(MoriError) {
        try copy(from: elements.span, on: stream)
    }

    /// The elements, once everything enqueued on the stream so far is done.
    ///
    /// - Throws: `invalidArgument` when the type differs; what the stream's work failed with.
    public func elements<Element: TensorElement>(
        as type: Element.Type = Element.self, on stream: DeviceStream
    ) async throws(MoriError) -> [Element] {
        guard let staging = try stage(as: type, on: stream) else { return [] }
        try await stream.completion()
        return read(staging)
    }

    /// The elements, once everything enqueued on the stream so far is done; blocks the thread.
    ///
    /// - Throws: `invalidArgument` when the type differs; what the stream's work failed with.
    @available(*, noasync, message: "use elements(as:on:)")
    public func blockingElements<Element: TensorElement>(
        as type: Element.Type = Element.self, on stream: DeviceStream
    ) throws(MoriError) -> [Element] {
        guard let staging = try stage(as: type, on: stream) else { return [] }
        try stream.synchronize()
        return read(staging)
    }

    private func stage<Element: TensorElement>(
        as type: Element.Type, on stream: DeviceStream
    ) throws(MoriError) -> DeviceBuffer? {
        guard Element.elementType == elementType else {
            throw MoriError(.invalidArgument, "reading \(self) as \(Element.elementType)")
        }
        return try stageBytes(on: stream)
    }

    private func read<Element: TensorElement>(_ staging: DeviceBuffer) -> [Element] {
        unsafe [Element](unsafeUninitializedCapacity: unitCount) { buffer, initialized in
            guard let from = unsafe UnsafeRawPointer(bitPattern: staging.address),
                let to = buffer.baseAddress
            else { return }
            unsafe UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: byteCount)
            initialized = unitCount
        }
    }

    /// Enqueues a store of one byte into every byte of the tensor.
    public func fill(with byte: UInt8, on stream: DeviceStream) throws(MoriError) {
        try stream.fill(address, with: byte, byteCount: byteCount)
        noteUse(on: stream)
    }

    /// The elements themselves, where device memory is host memory (the host device): valid while
    /// the tensor lives, and to be touched only while no enqueued work does.
    ///
    /// - Throws: `unsupported` on GPUs; `invalidArgument` when the type differs.
    @unsafe public func hostElements<Element: TensorElement>(
        as type: Element.Type = Element.self
    ) throws(MoriError) -> UnsafeMutableBufferPointer<Element> {
        guard device.kind == .host else {
            throw MoriError(.unsupported, "\(self) is not host memory; use elements(as:on:)")
        }
        guard Element.elementType == elementType else {
            throw MoriError(.invalidArgument, "reading \(self) as \(Element.elementType)")
        }
        return unsafe UnsafeMutableBufferPointer(
            start: UnsafeMutablePointer(bitPattern: address), count: unitCount)
    }
}

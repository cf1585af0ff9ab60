// Host memory that somebody else owns: copied in, read into.

extension DeviceTensor {
    /// Allocates a tensor and enqueues a copy of the elements into it.
    ///
    /// - Throws: `invalidArgument` when the shape asks for another number of elements.
    public init<Element: TensorElement>(
        _ elements: Span<Element>, shape: [Int]? = nil, on stream: DeviceStream
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
        from elements: Span<Element>, on stream: DeviceStream
    ) throws(MoriError) {
        guard Element.elementType == elementType && elements.count == unitCount else {
            throw MoriError(
                .invalidArgument,
                "\(elements.count) values of \(Element.elementType) into \(self); legal are"
                    + " \(unitCount) of \(elementType)")
        }
        // No element has padding, whose bytes would be undefined.
        try unsafe copyBytes(elements.bytes, on: stream)
    }

    /// Enqueues a copy of the elements into this tensor.
    ///
    /// The elements are read before this returns.
    ///
    /// - Throws: `invalidArgument` when type or number differ.
    public func copy<Element: TensorElement>(
        from elements: borrowing MutableSpan<Element>, on stream: DeviceStream
    ) throws(MoriError) {
        try copy(from: elements.span, on: stream)
    }

    /// Enqueues a copy of bytes into this tensor, whatever its elements are.
    ///
    /// The bytes are read before this returns.
    ///
    /// - Throws: `invalidArgument` unless there are `byteCount` of them.
    public func copy(fromBytes bytes: RawSpan, on stream: DeviceStream) throws(MoriError) {
        guard bytes.byteCount == byteCount else {
            throw MoriError(
                .invalidArgument,
                "\(bytes.byteCount) bytes into \(self); legal are \(byteCount)")
        }
        try copyBytes(bytes, on: stream)
    }

    /// Copies the elements into the caller's memory, once everything enqueued on the stream so far
    /// is done.
    ///
    /// - Throws: `invalidArgument` when type or number differ; what the stream's work failed with.
    public func read<Element: TensorElement>(
        into elements: inout MutableSpan<Element>, on stream: DeviceStream
    ) async throws(MoriError) {
        try check(count: elements.count, of: Element.elementType)
        guard let staging = try stageBytes(on: stream) else { return }
        try await stream.completion()
        unsafe elements.withUnsafeMutableBytes { unsafe copyBytes(of: staging, to: $0) }
    }

    /// Copies the elements into the caller's memory, once everything enqueued on the stream so far
    /// is done; blocks the thread.
    ///
    /// - Throws: `invalidArgument` when type or number differ; what the stream's work failed with.
    @available(*, noasync, message: "use read(into:on:)")
    public func blockingRead<Element: TensorElement>(
        into elements: inout MutableSpan<Element>, on stream: DeviceStream
    ) throws(MoriError) {
        try check(count: elements.count, of: Element.elementType)
        guard let staging = try stageBytes(on: stream) else { return }
        try stream.synchronize()
        unsafe elements.withUnsafeMutableBytes { unsafe copyBytes(of: staging, to: $0) }
    }

    /// Copies the tensor's bytes into the caller's memory, once everything enqueued on the stream
    /// so far is done.
    ///
    /// - Throws: `invalidArgument` unless there is room for exactly `byteCount`; what the stream's
    ///   work failed with.
    public func read(
        intoBytes bytes: inout MutableRawSpan, on stream: DeviceStream
    ) async throws(MoriError) {
        guard bytes.byteCount == byteCount else {
            throw MoriError(
                .invalidArgument,
                "reading \(self) into \(bytes.byteCount) bytes; legal are \(byteCount)")
        }
        guard let staging = try stageBytes(on: stream) else { return }
        try await stream.completion()
        unsafe bytes.withUnsafeMutableBytes { unsafe copyBytes(of: staging, to: $0) }
    }

    private func check(count wanted: Int, of type: ElementType) throws(MoriError) {
        guard type == elementType && wanted == unitCount else {
            throw MoriError(
                .invalidArgument,
                "reading \(self) into \(wanted) values of \(type); legal are \(unitCount) of"
                    + " \(elementType)")
        }
    }

    /// Enqueues a copy of as many bytes as the tensor has.
    private func copyBytes(_ bytes: RawSpan, on stream: DeviceStream) throws(MoriError) {
        guard byteCount > 0 else { return }
        let staging = try DeviceBuffer(byteCount: byteCount, kind: .pinned, on: device)
        unsafe bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe UnsafeMutableRawPointer(bitPattern: staging.address)?
                .copyMemory(from: base, byteCount: source.count)
        }
        try stream.copy(to: address, from: staging.address, byteCount: byteCount)
        staging.noteUse(on: stream)
        noteUse(on: stream)
    }

    /// Enqueues a copy of the tensor into memory of the host; nil when it has no elements.
    func stageBytes(on stream: DeviceStream) throws(MoriError) -> DeviceBuffer? {
        guard byteCount > 0 else { return nil }
        let staging = try DeviceBuffer(byteCount: byteCount, kind: .pinned, on: device)
        try stream.copy(to: staging.address, from: address, byteCount: byteCount)
        staging.noteUse(on: stream)
        noteUse(on: stream)
        return staging
    }

    private func copyBytes(of staging: DeviceBuffer, to bytes: UnsafeMutableRawBufferPointer) {
        guard let source = unsafe UnsafeRawPointer(bitPattern: staging.address) else { return }
        unsafe bytes.baseAddress?.copyMemory(from: source, byteCount: bytes.count)
    }
}

// Tensors of other frameworks become ours without a copy.
public import CDLPack

extension DeviceTensor {
    /// Takes a tensor over from another framework, without a copy.
    ///
    /// Its deleter is called once, from any thread, when the last copy of this tensor is gone and
    /// the work that was enqueued on it is done. When this throws, nothing was taken: the caller
    /// still owns it.
    ///
    /// The memory is not waited for: order the stream that uses the tensor after the work that
    /// fills it.
    ///
    /// - Parameters:
    ///   - managed: What a framework exports (in Python, the pointer of a capsule named
    ///     "dltensor"). Row-major without gaps; any byte offset.
    ///   - device: The device that will use it; nil: the one whose memory it is. Pinned memory
    ///     becomes the host's unless one of its GPUs is given here.
    /// - Throws: `unsupported` for an element type or a device that there is not here;
    ///   `invalidArgument` for strides with gaps, another device than `device`, or a shape or
    ///   pointer that cannot be; `noDevice`.
    ///
    /// The corresponding Python name is `torch.from_dlpack`.
    @unsafe public init(
        takingOwnershipOf managed: UnsafeMutablePointer<DLManagedTensor>, on device: Device? = nil
    ) throws(MoriError) {
        let content = try unsafe DLPackContent(managed.pointee.dl_tensor, on: device)
        try self.init(content, owner: .plain(UInt(bitPattern: managed)))
    }

    /// Takes a tensor over from another framework, without a copy: the form of DLPack 1.
    ///
    /// As the form without a version.
    ///
    /// - Parameters:
    ///   - managed: What a framework exports (in Python, the pointer of a capsule named
    ///     "dltensor_versioned").
    ///   - device: The device that will use it; nil: the one whose memory it is.
    ///   - allowingReadOnly: Whether memory that must not be written is taken: only for what is
    ///     just read, such as an argument of `dispatch`.
    /// - Throws: As the form without a version; `unsupported` for another major version than 1 and
    ///   for small types with padding; `invalidArgument` for read-only memory.
    ///
    /// The corresponding Python name is `torch.from_dlpack`.
    @unsafe public init(
        takingOwnershipOf managed: UnsafeMutablePointer<DLManagedTensorVersioned>,
        on device: Device? = nil, allowingReadOnly: Bool = false
    ) throws(MoriError) {
        // First: in another major version nothing else lies where it is looked for.
        let version = unsafe managed.pointee.version
        guard version.major == UInt32(MORI_DL_MAJOR_VERSION) else {
            throw MoriError(
                .unsupported,
                "a DLPack tensor of version \(version.major).\(version.minor); legal is"
                    + " \(MORI_DL_MAJOR_VERSION). Ask the framework for it (max_version)")
        }
        let flags = unsafe managed.pointee.flags
        guard allowingReadOnly || flags & UInt64(MORI_DL_FLAG_READ_ONLY) == 0 else {
            throw MoriError(
                .invalidArgument,
                "a read-only DLPack tensor; pass allowingReadOnly: true where it is only read, or"
                    + " copy it in the framework first")
        }
        guard flags & UInt64(MORI_DL_FLAG_SUBBYTE_TYPE_PADDED) == 0 else {
            throw MoriError(
                .unsupported,
                "a DLPack tensor whose elements are padded to bytes; legal are packed ones")
        }
        let content = try unsafe DLPackContent(managed.pointee.dl_tensor, on: device)
        try self.init(content, owner: .versioned(UInt(bitPattern: managed)))
    }

    private init(_ content: DLPackContent, owner: DLPackOwner.Managed) throws(MoriError) {
        // A tensor without elements still has an address.
        let placeholder =
            content.address == 0 ? try DeviceBuffer(byteCount: 1, on: content.device) : nil
        self.init(
            address: placeholder?.address ?? content.address, shape: content.shape,
            elementType: content.elementType, device: content.device,
            storage: ImportedTensor(DLPackOwner(owner, placeholder)))
    }
}

/// What a DLPack tensor says, checked.
struct DLPackContent {
    /// 0 only without elements.
    var address: UInt
    var shape: [Int]
    var elementType: ElementType
    var device: Device

    init(_ tensor: DLTensor, on wish: Device?) throws(MoriError) {
        let element = DLPackElement(unsafe tensor.dtype)
        elementType = try ElementType(element)
        device = try DLPackDevice(unsafe tensor.device).device(wish: wish)
        shape = try unsafe Self.shape(tensor, element)
        let base = unsafe UInt(bitPattern: tensor.data)
        let (first, overflow) = base.addingReportingOverflow(
            UInt(truncatingIfNeeded: unsafe tensor.byte_offset))
        guard base != 0 || shape.contains(0) else {
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor of shape \(shape) whose data is NULL; legal only without elements")
        }
        guard !overflow, first % UInt(element.byteCount) == 0 else {
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor of \(elementType) whose byte offset is"
                    + " \(unsafe tensor.byte_offset) from address \(base); its first element must"
                    + " be at a multiple of \(element.byteCount)")
        }
        address = base == 0 ? 0 : first
    }

    /// The shape in elements, which two fp4 of one byte are.
    private static func shape(
        _ tensor: DLTensor, _ element: DLPackElement
    ) throws(MoriError) -> [Int] {
        let dimensions = unsafe Int(tensor.ndim)
        guard dimensions >= 0, unsafe dimensions == 0 || tensor.shape != nil else {
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor of \(dimensions) dimensions without a shape; legal are 0 or more"
                    + " dimensions and the length of each")
        }
        var shape = unsafe values(tensor.shape, dimensions)
        let strides = unsafe tensor.strides == nil ? nil : values(tensor.strides, dimensions)
        var compact: [Int] = []
        // Of bytes or elements, whichever are more: neither may overflow.
        let unit = max(element.byteCount, Int(element.lanes))
        var count = unit
        for (index, length) in shape.enumerated().reversed() {
            compact.insert(count / unit, at: 0)
            let (product, overflow) = count.multipliedReportingOverflow(by: max(length, 1))
            guard length >= 0 && !overflow else {
                throw MoriError(
                    .invalidArgument,
                    "a DLPack tensor of shape \(shape), dimension \(index) of \(length); legal"
                        + " are 0 or more, and a size that 64 bits hold")
            }
            count = product
        }
        // A dimension of 1 is never walked along.
        let isCompact = shape.indices.allSatisfy { index in
            shape[index] == 1 || strides?[index] ?? compact[index] == compact[index]
        }
        guard isCompact || shape.contains(0) else {
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor of shape \(shape) with strides \(strides ?? []); legal is"
                    + " row-major without gaps, \(compact). Make it contiguous in the framework"
                    + " first")
        }
        guard element.isPacked else { return shape }
        // Rows begin at bytes, in which two fp4 are packed.
        let perByte = 8 / Int(element.bits)
        guard let last = shape.last, last * Int(element.lanes) % perByte == 0 else {
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor of shape \(shape) of packed elements; legal is a last dimension"
                    + " that is a multiple of \(perByte)")
        }
        shape[shape.count - 1] = last * Int(element.lanes)
        return shape
    }

    private static func values(_ pointer: UnsafeMutablePointer<Int64>?, _ count: Int) -> [Int] {
        unsafe UnsafeBufferPointer(start: pointer, count: pointer == nil ? 0 : count).map(Int.init)
    }
}

/// Another framework's memory, as a tensor's storage.
final class ImportedTensor: Sendable {
    private let owner: DLPackOwner
    /// The stream whose work used the memory last.
    private let lastUse = Locked<DeviceStream?>(nil)

    init(_ owner: DLPackOwner) { self.owner = owner }

    deinit {
        // Enqueued work may still use it: then it goes when that is done.
        if let stream = lastUse.withLock({ $0 }), !stream.isIdle { stream.retain(owner) }
    }

    /// Takes note that work of a stream uses this memory, as `DeviceBuffer` does.
    func noteUse(on stream: DeviceStream) {
        if stream.keepWithCapture(self) { return }
        let other = lastUse.withLock { last in
            defer { last = stream }
            return last
        }
        // Two streams at once: the former one's work holds on for itself.
        if let other, other !== stream, !other.isIdle { other.retain(self) }
    }
}

/// Calls a DLPack tensor's deleter when it goes: once.
final class DLPackOwner: Sendable {
    /// The address of the tensor, in one of its forms.
    enum Managed: Sendable {
        case plain(UInt)
        case versioned(UInt)
    }

    private let managed: Managed
    /// Stands for memory where there is none.
    private let placeholder: DeviceBuffer?

    init(_ managed: Managed, _ placeholder: DeviceBuffer?) {
        self.managed = managed
        self.placeholder = placeholder
    }

    deinit {
        // A tensor without a deleter needs none.
        switch managed {
        case .plain(let address):
            let tensor = unsafe UnsafeMutablePointer<DLManagedTensor>(bitPattern: address)
            unsafe tensor?.pointee.deleter?(tensor)
        case .versioned(let address):
            let tensor = unsafe UnsafeMutablePointer<DLManagedTensorVersioned>(
                bitPattern: address)
            unsafe tensor?.pointee.deleter?(tensor)
        }
    }
}

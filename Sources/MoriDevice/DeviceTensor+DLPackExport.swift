// Our tensors become other frameworks' without a copy.
public import CDLPack

extension DeviceTensor {
    /// Gives the tensor to another framework, without a copy.
    ///
    /// The memory lives until the framework calls the deleter, which it must do once, from any
    /// thread. Memory that is not this tensor's own is not kept: what was borrowed, and outputs of
    /// an operator, which its next round overwrites.
    ///
    /// Enqueued work is not waited for: await `DeviceStream.completion()`, or make the framework's
    /// stream wait for an event of the tensor's, before it is read.
    ///
    /// - Returns: What a framework imports (in Python, the pointer of a capsule named "dltensor").
    ///   The host's memory is of type CPU, an AMD GPU's ROCm, an NVIDIA GPU's CUDA; strides are
    ///   always there.
    /// - Throws: `unsupported` for an element type that DLPack has no words for; `invalidArgument`
    ///   for packed elements in an odd last dimension.
    ///
    /// The corresponding Python name is `torch.Tensor.__dlpack__`.
    @unsafe public func makeDLManagedTensor()
        throws(MoriError) -> UnsafeMutablePointer<DLManagedTensor>
    {
        let export = try DLPackExport(self)
        let managed = UnsafeMutablePointer<DLManagedTensor>.allocate(capacity: 1)
        unsafe managed.initialize(
            to: DLManagedTensor(
                dl_tensor: export.tensor, manager_ctx: Unmanaged.passRetained(export).toOpaque(),
                deleter: { managed in
                    guard let managed = unsafe managed else { return }
                    unsafe DLPackExport.release(managed.pointee.manager_ctx)
                    unsafe managed.deallocate()
                }))
        return unsafe managed
    }

    /// Gives the tensor to another framework, without a copy: the form of DLPack 1.
    ///
    /// As the form without a version.
    ///
    /// - Returns: What a framework imports (in Python, the pointer of a capsule named
    ///   "dltensor_versioned").
    /// - Throws: As the form without a version.
    ///
    /// The corresponding Python name is `torch.Tensor.__dlpack__`.
    @unsafe public func makeDLManagedTensorVersioned()
        throws(MoriError) -> UnsafeMutablePointer<DLManagedTensorVersioned>
    {
        let export = try DLPackExport(self)
        let managed = UnsafeMutablePointer<DLManagedTensorVersioned>.allocate(capacity: 1)
        unsafe managed.initialize(
            to: DLManagedTensorVersioned(
                version: DLPackVersion(
                    major: UInt32(MORI_DL_MAJOR_VERSION), minor: UInt32(MORI_DL_MINOR_VERSION)),
                manager_ctx: Unmanaged.passRetained(export).toOpaque(),
                deleter: { managed in
                    guard let managed = unsafe managed else { return }
                    unsafe DLPackExport.release(managed.pointee.manager_ctx)
                    unsafe managed.deallocate()
                },
                flags: 0, dl_tensor: export.tensor))
        return unsafe managed
    }
}

/// What another framework holds of a tensor: its memory, and the numbers of its shape.
@safe
private final class DLPackExport {
    private let source: DeviceTensor
    private let element: DLPackElement
    /// Shape, then strides.
    private let numbers: UnsafeMutableBufferPointer<Int64>

    init(_ source: DeviceTensor) throws(MoriError) {
        let element = try source.elementType.dlpackElement()
        var shape = source.shape
        if element.lanes > 1 {
            guard let last = shape.last, last % Int(element.lanes) == 0 else {
                throw MoriError(
                    .invalidArgument,
                    "exporting \(source): \(element.lanes) elements are one of DLPack's; legal is"
                        + " a last dimension that is a multiple of \(element.lanes)")
            }
            shape[shape.count - 1] = last / Int(element.lanes)
        }
        self.source = source
        self.element = element
        unsafe numbers = .allocate(capacity: 2 * shape.count)
        var stride = 1
        for (index, length) in shape.enumerated().reversed() {
            unsafe numbers[index] = Int64(length)
            unsafe numbers[shape.count + index] = Int64(stride)
            stride *= max(length, 1)
        }
    }

    deinit { unsafe numbers.deallocate() }

    /// Valid while this lives.
    var tensor: DLTensor {
        let dimensions = source.shape.count
        let device = DLPackDevice(source.device.kind, ordinal: source.device.ordinal)
        return unsafe DLTensor(
            data: UnsafeMutableRawPointer(bitPattern: source.address), device: device.dlDevice,
            ndim: Int32(dimensions), dtype: element.dlType, shape: numbers.baseAddress,
            strides: numbers.baseAddress.map { unsafe $0 + dimensions }, byte_offset: 0)
    }

    static func release(_ context: UnsafeMutableRawPointer?) {
        guard let context = unsafe context else { return }
        unsafe Unmanaged<DLPackExport>.fromOpaque(context).release()
    }
}

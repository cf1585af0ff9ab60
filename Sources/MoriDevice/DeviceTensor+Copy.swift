extension DeviceTensor {
    /// Enqueues a copy of another tensor's elements into this one, on the device.
    ///
    /// - Parameters:
    ///   - source: On the same device, of the same type and shape.
    ///   - stream: Where the work goes.
    /// - Throws: `invalidArgument` when device, type or shape differ.
    ///
    /// The corresponding Python name is `torch.Tensor.copy_`.
    public func copy(from source: DeviceTensor, on stream: DeviceStream) throws(MoriError) {
        guard
            source.device == device && source.elementType == elementType && source.shape == shape
        else {
            throw MoriError(
                .invalidArgument,
                "copying \(source) into \(self); legal are the same device, type and shape")
        }
        try stream.copy(to: address, from: source.address, byteCount: byteCount)
        source.noteUse(on: stream)
        noteUse(on: stream)
    }
}

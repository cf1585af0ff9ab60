import CHIP

/// A piece of a device's memory, freed when the last reference goes and the work that was enqueued
/// on it is done.
public final class DeviceBuffer: Sendable {
    /// What the memory is for.
    public enum Kind: Hashable, Sendable {
        /// Private to the device.
        case device
        /// Uncached where the device has it; peers can map it.
        case symmetric
        /// Host memory that the device reads and writes.
        case pinned

        package var raw: Int32 {
            switch self {
            case .device: Int32(MORIEP_MEMORY_DEVICE.rawValue)
            case .symmetric: Int32(MORIEP_MEMORY_SYMMETRIC.rawValue)
            case .pinned: Int32(MORIEP_MEMORY_PINNED.rawValue)
            }
        }
    }

    /// Whose memory.
    public let device: Device
    /// What it is for.
    public let kind: Kind
    /// Bytes.
    public let byteCount: Int
    /// The device address of the first byte.
    public let address: UInt
    /// The stream whose work used the memory last.
    private let lastUse = Locked<DeviceStream?>(nil)

    /// Allocates memory; its content is undefined on GPUs and zero on the host device.
    ///
    /// - Throws: `outOfMemory` with the runtime's own words.
    public init(byteCount: Int, kind: Kind = .device, on device: Device) throws(MoriError) {
        guard byteCount > 0 else {
            throw MoriError(.invalidArgument, "a buffer of \(byteCount) bytes; legal is 1 or more")
        }
        var address: UInt64 = 0
        try device.library.check(
            unsafe device.library.table.pointee.memory_allocate(
                Int32(device.ordinal), kind.raw, UInt64(byteCount), &address),
            "allocating \(byteCount) bytes")
        self.device = device
        self.kind = kind
        self.byteCount = byteCount
        self.address = UInt(address)
    }

    /// Allocates pinned memory for words that the host and its device tell each other: it is zero, as
    /// no runtime promises of what it gives.
    package convenience init(zeroedPinnedByteCount byteCount: Int, on device: Device)
        throws(MoriError)
    {
        try self.init(byteCount: byteCount, kind: .pinned, on: device)
        unsafe UnsafeMutableRawPointer(bitPattern: address)?
            .initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }

    deinit {
        let memory = OwnedMemory(device: device, kind: kind, address: address)
        // Enqueued work may still use it: then it goes when that is done.
        if let stream = lastUse.withLock({ $0 }), !stream.isIdle { stream.retain(memory) }
    }

    /// Takes note that work of a stream uses this memory: it is not freed before that is done, and
    /// a graph that is being captured keeps it.
    package func noteUse(on stream: DeviceStream) {
        if stream.keepWithCapture(self) { return }
        let other = lastUse.withLock { last in
            defer { last = stream }
            return last
        }
        // Two streams at once: the former one's work holds on for itself.
        if let other, other !== stream, !other.isIdle { other.retain(self) }
    }

    /// A handle by which another process, or this one, maps this symmetric memory.
    package func export() throws(MoriError) -> [UInt8] {
        var handle = moriep_memory_handle()
        try device.library.check(
            unsafe device.library.table.pointee.memory_export(
                Int32(device.ordinal), UInt64(address), &handle), "memory_export")
        return unsafe withUnsafeBytes(of: &handle) { unsafe Array($0) }
    }

    /// Bytes of a handle.
    package static var handleByteCount: Int { MemoryLayout<moriep_memory_handle>.size }
}

/// Memory that is freed when this goes.
private final class OwnedMemory: Sendable {
    let device: Device
    let kind: DeviceBuffer.Kind
    let address: UInt

    init(device: Device, kind: DeviceBuffer.Kind, address: UInt) {
        self.device = device
        self.kind = kind
        self.address = address
    }

    deinit {
        // A failure to free has nobody to go to; the live counts show it.
        _ = unsafe device.library.table.pointee.memory_free(
            Int32(device.ordinal), kind.raw, UInt64(address))
    }
}

/// A peer's symmetric memory as this process sees it, released when the last reference goes.
package final class ImportedBuffer: Sendable {
    /// The device address of the first byte.
    package let address: UInt
    private let device: Device
    private let handle: moriep_memory_handle

    /// Maps a peer's memory.
    ///
    /// - Throws: `invalidArgument` for bytes that are no handle; what the runtime says.
    package init(_ bytes: [UInt8], on device: Device) throws(MoriError) {
        guard bytes.count == DeviceBuffer.handleByteCount else {
            throw MoriError(
                .invalidArgument,
                "a memory handle of \(bytes.count) bytes; legal is \(DeviceBuffer.handleByteCount)")
        }
        var handle = moriep_memory_handle()
        unsafe withUnsafeMutableBytes(of: &handle) { unsafe $0.copyBytes(from: bytes) }
        var address: UInt64 = 0
        var own = handle
        try device.library.check(
            unsafe device.library.table.pointee.memory_import(
                Int32(device.ordinal), &own, &address), "memory_import")
        self.address = UInt(address)
        self.device = device
        self.handle = handle
    }

    deinit {
        var own = handle
        _ = unsafe device.library.table.pointee.memory_release(
            Int32(device.ordinal), &own, UInt64(address))
    }
}

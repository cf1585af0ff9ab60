import CHIP
import MoriDevice

/// One measured call: when the device ran it, and what its slot said right after.
///
/// Everything comes in the stream's order into pinned memory of the sample's own: nothing is waited for,
/// and a later round in the slot changes nothing. Used again for later calls.
final class RoundSample: Sendable {
    /// What the slot's control block said.
    struct Numbers: Sendable {
        /// Own tokens of the round.
        var tokenCount: Int
        /// Rows received.
        var receivedCount: Int
        /// Rows that found no room here.
        var droppedCount: Int
        /// Whether the round failed: its numbers mean nothing.
        var isVoid: Bool
    }

    private static let controlByteCount = MemoryLayout<moriep_control>.stride

    private let start: DeviceEvent
    private let end: DeviceEvent
    private let worldSize: Int
    /// The control block, the waits by rank, then the expert ids.
    private let staging: DeviceBuffer

    /// Makes room for so many ranks and expert ids.
    init(worldSize: Int, expertIDCount: Int, on device: Device) throws(MoriError) {
        start = try DeviceEvent(on: device, timed: true)
        end = try DeviceEvent(on: device, timed: true)
        self.worldSize = worldSize
        staging = try DeviceBuffer(
            byteCount: Self.controlByteCount + 8 * worldSize + 4 * expertIDCount, kind: .pinned,
            on: device)
    }

    private var waitsAddress: UInt { staging.address + UInt(Self.controlByteCount) }
    private var expertIDsAddress: UInt { waitsAddress + UInt(8 * worldSize) }

    /// Marks where the call begins.
    func begin(on stream: DeviceStream) throws(MoriError) { try stream.record(start) }

    /// Marks where it ends, and takes what is known then.
    func finish(
        slot: Int, of kernels: OperatorKernels, indices: DeviceTensor?, on stream: DeviceStream
    ) throws(MoriError) {
        try stream.record(end)
        staging.noteUse(on: stream)
        try stream.copy(
            to: staging.address, from: kernels.address(kernels.layout.control, slot: slot),
            byteCount: Self.controlByteCount)
        try stream.copy(
            to: waitsAddress, from: kernels.address(kernels.layout.peer_waits, slot: slot),
            byteCount: 8 * worldSize)
        guard let indices else { return }
        try stream.copy(
            to: expertIDsAddress, from: indices.address,
            byteCount: 4 * indices.shape.reduce(1, *))
        indices.noteUse(on: stream)
    }

    // Once the stream has passed the copies:

    /// How long the device took, waits included.
    func duration() throws(MoriError) -> Duration { try end.elapsed(since: start) }

    /// What the control block said.
    var numbers: Numbers {
        guard let control = unsafe UnsafePointer<moriep_control>(bitPattern: staging.address) else {
            return Numbers(tokenCount: 0, receivedCount: 0, droppedCount: 0, isVoid: true)
        }
        return unsafe Numbers(
            tokenCount: Int(control.pointee.token_count),
            receivedCount: Int(control.pointee.received_count),
            droppedCount: Int(control.pointee.dropped_count), isVoid: control.pointee.failed != 0)
    }

    /// How long the slot's warps had waited for each rank since the operator began, in nanoseconds.
    var waits: [UInt64] {
        guard let waits = unsafe UnsafePointer<UInt64>(bitPattern: waitsAddress) else { return [] }
        return unsafe Array(UnsafeBufferPointer(start: waits, count: worldSize))
    }

    /// The first expert ids.
    func expertIDs(_ count: Int) -> [Int32] {
        guard let ids = unsafe UnsafePointer<Int32>(bitPattern: expertIDsAddress) else { return [] }
        return unsafe Array(UnsafeBufferPointer(start: ids, count: count))
    }
}

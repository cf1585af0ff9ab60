import CDLPack
import Synchronization

@testable import MoriDevice

/// A tensor of another framework: makes what such a one exports, and counts its deleters' calls.
final class ForeignTensor: Sendable {
    struct Form {
        var shape: [Int64]? = [2, 3]
        var dimensions: Int32?
        var strides: [Int64]?
        var code: UInt8 = UInt8(kDLFloat.rawValue)
        var bits: UInt8 = 32
        var lanes: UInt16 = 1
        var deviceType: UInt32 = kDLCPU.rawValue
        var deviceNumber: Int32 = 0
        var byteOffset: UInt64 = 0
        var hasData = true
        var hasDeleter = true
        var flags: UInt64 = 0
        var major: UInt32 = 1
    }

    static let byteCount = 4096
    let deletions = Atomic(0)
    private let address: UInt

    /// The content is 0, 1, 2, ... as Float.
    init() {
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: Self.byteCount / 4)
        for index in 0..<Self.byteCount / 4 {
            unsafe (memory + index).initialize(to: Float(index))
        }
        address = UInt(bitPattern: memory)
    }

    deinit {
        unsafe UnsafeMutablePointer<Float>(bitPattern: address)?.deallocate()
    }

    func makeTensor(_ form: Form) -> DLTensor {
        let dimensions = Int(form.dimensions ?? Int32(form.shape?.count ?? 0))
        return unsafe DLTensor(
            data: form.hasData ? UnsafeMutableRawPointer(bitPattern: address) : nil,
            device: DLDevice(
                device_type: DLDeviceType(rawValue: form.deviceType), device_id: form.deviceNumber),
            ndim: Int32(dimensions),
            dtype: DLDataType(code: form.code, bits: form.bits, lanes: form.lanes),
            shape: Self.copy(form.shape), strides: Self.copy(form.strides),
            byte_offset: form.byteOffset)
    }

    func make(_ form: Form = Form()) -> UnsafeMutablePointer<DLManagedTensor> {
        let managed = UnsafeMutablePointer<DLManagedTensor>.allocate(capacity: 1)
        unsafe managed.initialize(
            to: DLManagedTensor(
                dl_tensor: makeTensor(form), manager_ctx: Unmanaged.passRetained(self).toOpaque(),
                deleter: form.hasDeleter
                    ? { managed in
                        guard let managed = unsafe managed else { return }
                        unsafe ForeignTensor.delete(
                            managed.pointee.dl_tensor, managed.pointee.manager_ctx)
                        unsafe managed.deallocate()
                    } : nil))
        return unsafe managed
    }

    func makeVersioned(_ form: Form = Form()) -> UnsafeMutablePointer<DLManagedTensorVersioned> {
        let managed = UnsafeMutablePointer<DLManagedTensorVersioned>.allocate(capacity: 1)
        unsafe managed.initialize(
            to: DLManagedTensorVersioned(
                version: DLPackVersion(major: form.major, minor: 0),
                manager_ctx: Unmanaged.passRetained(self).toOpaque(),
                deleter: { managed in
                    guard let managed = unsafe managed else { return }
                    unsafe ForeignTensor.delete(
                        managed.pointee.dl_tensor, managed.pointee.manager_ctx)
                    unsafe managed.deallocate()
                }, flags: form.flags, dl_tensor: makeTensor(form)))
        return unsafe managed
    }

    /// Frees what `make` made without a deleter.
    static func free(_ managed: UnsafeMutablePointer<DLManagedTensor>) {
        unsafe delete(managed.pointee.dl_tensor, managed.pointee.manager_ctx)
        unsafe managed.deallocate()
    }

    private static func delete(_ tensor: DLTensor, _ context: UnsafeMutableRawPointer?) {
        unsafe tensor.shape?.deallocate()
        unsafe tensor.strides?.deallocate()
        guard let context = unsafe context else { return }
        let foreign = unsafe Unmanaged<ForeignTensor>.fromOpaque(context).takeRetainedValue()
        foreign.deletions.add(1, ordering: .sequentiallyConsistent)
    }

    private static func copy(_ numbers: [Int64]?) -> UnsafeMutablePointer<Int64>? {
        guard let numbers else { return nil }
        let pointer = UnsafeMutablePointer<Int64>.allocate(capacity: max(numbers.count, 1))
        for (index, number) in numbers.enumerated() { unsafe pointer[index] = number }
        return unsafe pointer
    }

    var deletionCount: Int { deletions.load(ordering: .sequentiallyConsistent) }

    /// Waits a while for the deleter: what a stream held lets go in the background.
    func awaitDeletion() async throws {
        for _ in 0..<500 where deletionCount == 0 {
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}

import CPrimitives
import Glibc
import MoriDevice
import MoriTestSupport

/// Runs the primitives of one device alone.
@safe
struct PrimitiveMachine {
    let device: Device
    /// Lanes of a warp.
    let lanes: Int
    private let emulator: Emulator?
    private typealias RunOnGPU =
        @convention(c) (UnsafePointer<primitives_arguments>?, Int32, Int32) -> Int32
    private let runOnGPU: RunOnGPU?

    /// For the device that MORI_EP_DEVICE names, else the host. Nil: what runs them there was not
    /// built, `obstacle` says how.
    init() throws {
        device = try TestDevice.selected()
        lanes = try device.properties().lanesPerWarp
        emulator = device.kind == .emulated ? try Emulator() : nil
        guard device.kind == .amd || device.kind == .nvidia else {
            unsafe runOnGPU = nil
            return
        }
        let folder = device.library.path.split(separator: "/", omittingEmptySubsequences: false)
        let path = (folder.dropLast() + ["libprimitives_\(device.kind).so"]).joined(separator: "/")
        guard let handle = unsafe dlopen(path, RTLD_NOW | RTLD_LOCAL),
            let symbol = unsafe dlsym(handle, "primitives_run_on_gpu")
        else {
            throw Mismatch("\(path) is missing; scripts/build-kernels.sh \(device.kind) primitives")
        }
        unsafe runOnGPU = unsafeBitCast(symbol, to: RunOnGPU.self)
    }

    /// Whether there is a machine to test on: an emulator without the kernels' translation is none.
    static var isThere: Bool { !Emulator.isWanted || Emulator.canExecute }

    /// Runs a call to its end.
    func run(_ arguments: primitives_arguments, blocks: Int = 1, warps: Int = 1) throws {
        if let emulator {
            emulator.setSchedule(seed: UInt64(blocks * 64 + warps), lateStores: 200)
            try emulator.run(
                "primitives", of: "primitives", blocks: blocks, warps: warps,
                sharedByteCount: Int(PRIMITIVES_SHARED_BYTES), arguments)
        } else if let runOnGPU = unsafe runOnGPU {
            let status = unsafe withUnsafePointer(to: arguments) {
                unsafe runOnGPU($0, Int32(blocks), Int32(warps))
            }
            guard status == 0 else { throw Mismatch("the runtime's error \(status)") }
        } else {
            unsafe withUnsafePointer(to: arguments) {
                unsafe primitives_run_on_host($0, Int32(blocks), Int32(warps))
            }
        }
    }
}

/// Memory that the host and the device see at one address, filled with a pattern that no result has.
@safe
final class PrimitiveMemory {
    private let buffer: DeviceBuffer
    private var used = 0
    static let poison: UInt8 = 0xEE

    init(byteCount: Int = 1 << 20, on machine: PrimitiveMachine) throws {
        buffer = try DeviceBuffer(byteCount: byteCount, kind: .pinned, on: machine.device)
        unsafe bytes.initializeMemory(as: UInt8.self, repeating: Self.poison)
    }

    private var bytes: UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(
            start: UnsafeMutableRawPointer(bitPattern: buffer.address), count: buffer.byteCount)
    }

    /// Room for so many bytes, `misalignment` behind a multiple of 16, with 64 bytes of poison between
    /// it and the next.
    func room(_ byteCount: Int, misalignment: Int = 0) throws -> UInt64 {
        let begin = (used + 64 + 15) / 16 * 16 + misalignment
        guard begin + byteCount + 64 <= buffer.byteCount else { throw Mismatch("no room left") }
        used = begin + byteCount
        return UInt64(buffer.address) + UInt64(begin)
    }

    func place<Value: BitwiseCopyable>(_ values: [Value], misalignment: Int = 0) throws -> UInt64 {
        let byteCount = values.count * MemoryLayout<Value>.stride
        let address = try room(byteCount, misalignment: misalignment)
        let at = Int(address) - Int(buffer.address)
        unsafe values.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[at..<at + byteCount])
                .copyMemory(from: source)
        }
        return address
    }

    func values<Value: BitwiseCopyable>(
        _: Value.Type, at address: UInt64, count: Int
    ) -> [Value] {
        let begin = Int(address) - Int(buffer.address)
        let stride = MemoryLayout<Value>.stride
        return (0..<count).map {
            unsafe bytes.loadUnaligned(fromByteOffset: begin + $0 * stride, as: Value.self)
        }
    }

    /// Whether `count` bytes on both sides of a range are as they were.
    func isUntouched(around address: UInt64, byteCount: Int, margin: Int = 48) -> Bool {
        let below = values(UInt8.self, at: address - UInt64(margin), count: margin)
        let above = values(UInt8.self, at: address + UInt64(byteCount), count: margin)
        return (below + above).allSatisfy { $0 == Self.poison }
    }
}

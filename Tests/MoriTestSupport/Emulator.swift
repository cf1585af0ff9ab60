import CStandin
import Glibc
import MoriDevice

/// The emulated device's library, as tests steer it: the stand-in of HIP, and the machine that runs
/// gfx942's code.
///
/// Both are one for the whole process, so suites that steer them are serialized.
@safe
package struct Emulator: Sendable {
    /// The stand-in's own functions.
    nonisolated(unsafe) private let control: UnsafePointer<standin_control>

    /// Whether MORI_EP_DEVICE asks for it; `make test-emulated` does.
    package static var isWanted: Bool { ProcessVariables.all["MORI_EP_DEVICE"] == "emulated" }

    /// Whether it is wanted, and kernels can be executed.
    package static var canExecute: Bool {
        guard isWanted, let emulator = try? Emulator() else { return false }
        return emulator.obstacle == nil
    }

    /// Opens the library, as `Device` does.
    package init() throws {
        let library = try KernelLibrary.load(.emulated)
        guard let handle = unsafe dlopen(library.path, RTLD_NOW | RTLD_LOCAL),
            let symbol = unsafe dlsym(handle, "standin_get_control")
        else { throw Mismatch("\(library.path) has no stand-in of HIP in it") }
        typealias GetControl = @convention(c) () -> UnsafePointer<standin_control>?
        guard let found = unsafe unsafeBitCast(symbol, to: GetControl.self)(),
            unsafe Int(found.pointee.byte_count) == MemoryLayout<standin_control>.size
        else { throw Mismatch("\(library.path) is of another version; make emulator") }
        unsafe control = found
    }

    /// Why nothing can be executed; nil: it can.
    package var obstacle: String? {
        let words = unsafe control.pointee.obstacle().map { unsafe String(cString: $0) } ?? ""
        return words.isEmpty ? nil : words
    }

    /// Why the last launch that failed did; "": none did.
    package var lastLaunchError: String {
        unsafe control.pointee.last_launch_error().map { unsafe String(cString: $0) } ?? ""
    }

    /// Forgets what was called and what was to fail, and runs the library's own kernels again.
    package func reset() { unsafe control.pointee.reset() }

    // Executing ------------------------------------------------------------------------------------

    /// The order of the waves that run from now on, and how late their stores are visible: each
    /// instruction lets one of a wave's stores arrive with a chance of one in so many; 0: at once.
    package func setSchedule(seed: UInt64, lateStores: UInt64) {
        unsafe control.pointee.set_schedule(seed, lateStores)
    }

    /// Lets the device's clock go as this host's from now on, ahead of it by so much, and gain so many
    /// nanoseconds in a million; `reset` lets it count instructions again.
    package func setClock(ahead: Duration, gain: Int64) {
        unsafe control.pointee.set_clock(1, Int64(ahead.nanoseconds), gain)
    }

    /// Lets kernels whose names begin so take this many vector registers, as far as what fits at once is
    /// asked; until `reset`.
    package func setRegisters(ofKernels prefix: String, _ count: Int) {
        unsafe control.pointee.set_registers(prefix, UInt32(count))
    }

    /// Runs the kernels of a code object beside the library, by name, in place of its own.
    package func useKernels(_ name: String) throws {
        let path = try codeObject(name)
        guard unsafe control.pointee.use_kernels(path) != 0 else {
            throw Mismatch("\(path): \(lastLaunchError)")
        }
    }

    /// Runs one kernel of such a code object to its end; `arguments` is its parameter.
    @discardableResult
    package func run<Arguments>(
        _ kernel: String, of name: String, blocks: Int, warps: Int, sharedByteCount: Int,
        _ arguments: Arguments
    ) throws -> LaunchCounts {
        let path = try codeObject(name)
        var counts = standin_launch_counts()
        let status = unsafe withUnsafePointer(to: arguments) { pointer in
            unsafe control.pointee.run(
                path, kernel, UInt32(blocks), UInt32(warps * 64), UInt32(sharedByteCount),
                UnsafeRawPointer(pointer), &counts)
        }
        guard status == 0 else { throw Mismatch("\(kernel): \(lastLaunchError)") }
        return LaunchCounts(counts)
    }

    private func codeObject(_ name: String) throws -> String { try file("\(name).co") }

    /// A file that lies with the library's code objects.
    package func file(_ name: String) throws -> String {
        let library = try KernelLibrary.load(.emulated).path
        let folder = library.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        return (folder.map(String.init) + ["emulated", name]).joined(separator: "/")
    }

    /// How the launches of a kernel went since `reset`; nil: those of all kernels.
    package func launched(_ kernel: String? = nil) -> LaunchCounts {
        var counts = standin_launch_counts()
        if let kernel {
            unsafe control.pointee.launched(kernel, &counts)
        } else {
            unsafe control.pointee.launched(nil, &counts)
        }
        return LaunchCounts(counts)
    }

    // Failing --------------------------------------------------------------------------------------

    /// How often a function of the runtime was called since `reset`; nil: any.
    package func calls(of function: String? = nil) -> Int {
        if let function { return Int(unsafe control.pointee.calls(function)) }
        return Int(unsafe control.pointee.calls(nil))
    }

    /// Lets calls of a function fail after the first `skipping`; `times` of them, 0: all that come.
    /// Nil: calls of any function, as on a device that is gone.
    package func fail(
        _ function: String?, with error: Int32, skipping: Int = 0, times: Int = 1
    ) {
        if let function {
            unsafe control.pointee.fail(function, UInt64(skipping), error, UInt64(times))
        } else {
            unsafe control.pointee.fail(nil, UInt64(skipping), error, UInt64(times))
        }
    }

    /// What the device says it is, "gfx942:sramecc+:xnack-".
    package func setArchitecture(_ name: String) {
        unsafe control.pointee.set_architecture(name)
    }

    /// The version that the driver says it has, as hipDriverGetVersion gives it.
    package func setDriverVersion(_ version: Int32) {
        unsafe control.pointee.set_driver_version(version)
    }

    /// What the runtime still holds, by name.
    package var live: [String: Int] {
        var counts = standin_live_counts()
        unsafe control.pointee.live(&counts)
        return [
            "allocations": Int(counts.allocations), "imports": Int(counts.imports),
            "streams": Int(counts.streams), "events": Int(counts.events),
            "graphs": Int(counts.graphs), "executables": Int(counts.executables),
        ]
    }
}

/// How launches went.
package struct LaunchCounts: Hashable, Sendable {
    /// How many.
    package var launches: Int
    /// Of all of them.
    package var waves: Int
    /// Of all waves.
    package var instructions: Int
    /// Of the wave that ran the most.
    package var mostOfOneWave: Int

    init(_ counts: standin_launch_counts) {
        launches = Int(counts.launches)
        waves = Int(counts.waves)
        instructions = Int(counts.instructions)
        mostOfOneWave = Int(counts.most_of_one_wave)
    }
}

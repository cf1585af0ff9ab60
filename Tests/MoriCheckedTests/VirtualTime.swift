#if Checked
import CHIP
import MoriDevice
import MoriHostKernels

/// The host device's virtual clock (Kernels/Runtime/Host/Checked/Clock.h).
///
/// Held but while ranks run their rounds: whoever makes a world takes no time.
enum VirtualTime {
    /// Starts the clock once, held.
    static func start() { _ = started }

    private static let started: Bool = {
        moriep_hold_time()
        moriep_start_virtual_clock()
        return true
    }()

    /// Since the clock began.
    static var now: Duration { .nanoseconds(Int64(moriep_virtual_now())) }

    /// Keeps time from passing, once more.
    static func hold() { moriep_hold_time() }

    /// Lets it pass, as far as nobody else holds it.
    static func release() { moriep_release_time() }
}

/// What happens on a stream's own thread, between its commands.
enum StreamCall {
    /// The stream does nothing for so long.
    static func pause(_ stream: DeviceStream, for duration: Duration) throws(MoriError) {
        let status = unsafe stream.device.library.table.pointee.stream_callback(
            stream.handle,
            { moriep_sleep_virtually(UInt64(UInt(bitPattern: $0))) },
            UnsafeMutableRawPointer(bitPattern: Int(duration.nanoseconds)))
        try stream.device.library.check(status, "stream_callback")
    }

    /// The next launch finds no memory.
    static func failNextLaunch(_ stream: DeviceStream) throws(MoriError) {
        let status = unsafe stream.device.library.table.pointee.stream_callback(
            stream.handle, { _ in moriep_fail_next_launch() }, nil)
        try stream.device.library.check(status, "stream_callback")
    }
}
#endif

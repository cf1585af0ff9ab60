import CHIP
import Glibc
public import MoriDevice
import Synchronization

/// Holds a stream back until it is opened, so that work enqueued behind it is surely under way.
///
/// A gate that is dropped opens.
public final class StreamGate: Sendable {
    private let state = State()

    private final class State: Sendable {
        let isOpen = Atomic(false)
    }

    /// Enqueues the gate.
    public init(on stream: DeviceStream) throws {
        let box = unsafe Unmanaged.passRetained(state)
        let status = unsafe stream.device.library.table.pointee.stream_callback(
            stream.handle,
            { context in
                guard let context = unsafe context else { return }
                let state = unsafe Unmanaged<State>.fromOpaque(context).takeRetainedValue()
                while !state.isOpen.load(ordering: .acquiring) { usleep(200) }
            }, box.toOpaque())
        try stream.device.library.check(status, "stream_callback")
    }

    deinit { open() }

    /// Lets the stream go on.
    public func open() { state.isOpen.store(true, ordering: .releasing) }
}

import CHIP

/// A mark in a stream, which others can wait for.
@safe
public final class DeviceEvent: Sendable {
    /// The device whose streams can record it.
    public let device: Device
    nonisolated(unsafe) let handle: OpaquePointer

    /// Makes an event; only timed ones can tell the time between them.
    public init(on device: Device, timed: Bool = false) throws(MoriError) {
        var handle: OpaquePointer?
        try device.library.check(
            unsafe device.library.table.pointee.event_create(
                Int32(device.ordinal), timed ? 1 : 0, &handle), "event_create")
        guard let handle = unsafe handle else {
            throw MoriError(.deviceFailure, "\(device): event_create gave no event")
        }
        self.device = device
        unsafe self.handle = handle
    }

    deinit { _ = unsafe device.library.table.pointee.event_destroy(handle) }

    /// Whether the device has passed the event's last record; true when it was never recorded.
    public func isReached() throws(MoriError) -> Bool {
        let status = unsafe device.library.table.pointee.event_query(handle)
        if status == MORIEP_NOT_READY { return false }
        try device.library.check(status, "event_query")
        return true
    }

    /// Blocks the calling thread until the device has passed the event's last record.
    @available(*, noasync, message: "use DeviceStream.completion()")
    public func synchronize() throws(MoriError) {
        try device.library.check(
            unsafe device.library.table.pointee.event_synchronize(handle), "event_synchronize")
    }

    /// The time from an earlier event to this one; both are timed and were reached.
    public func elapsed(since earlier: DeviceEvent) throws(MoriError) -> Duration {
        var nanoseconds: Int64 = 0
        try device.library.check(
            unsafe device.library.table.pointee.event_elapsed_ns(
                earlier.handle, handle, &nanoseconds), "event_elapsed_ns")
        return .nanoseconds(nanoseconds)
    }
}

/// Work that was recorded once and can be replayed as often as wanted.
@safe
public final class DeviceGraph: Sendable {
    /// What a graph keeps alive and may forbid it to run.
    package protocol Dependency: AnyObject, Sendable {
        /// Throws why the recorded work must not run any more.
        func checkLaunchable() throws(MoriError)
    }

    /// The device that it runs on.
    public let device: Device
    private nonisolated(unsafe) let handle: OpaquePointer
    /// The memory that the recorded work uses.
    private let kept: [any AnyObject & Sendable]
    private let dependencies: [any Dependency]
    private let lastLaunch = Locked<DeviceStream?>(nil)

    init(
        handle: OpaquePointer, on device: Device, keeping kept: [any AnyObject & Sendable]
    ) {
        unsafe self.handle = handle
        self.device = device
        self.kept = kept
        // One operator keeps itself once a call.
        var known: Set<ObjectIdentifier> = []
        dependencies = kept.compactMap { $0 as? any Dependency }.filter {
            known.insert(ObjectIdentifier($0)).inserted
        }
    }

    deinit {
        _ = unsafe device.library.table.pointee.graph_destroy(handle)
        if let stream = lastLaunch.withLock({ $0 }), !stream.isIdle {
            for object in kept { stream.retain(object) }
        }
    }

    /// Enqueues the recorded work.
    ///
    /// - Throws: `aborted` for work of an operator whose world has recovered since.
    public func launch(on stream: DeviceStream) throws(MoriError) {
        for dependency in dependencies { try dependency.checkLaunchable() }
        let other = lastLaunch.withLock { last in
            defer { last = stream }
            return last
        }
        // Two streams at once: what the former one's launch uses stays until that is done.
        if let other, other !== stream, !other.isIdle {
            for object in kept { other.retain(object) }
        }
        try device.library.check(
            unsafe device.library.table.pointee.graph_launch(handle, stream.handle),
            "graph_launch")
    }
}

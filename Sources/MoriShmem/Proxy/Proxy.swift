package import MoriDevice

/// The thread that sends what kernels ask for: it serves the channels of one rank, or of all ranks
/// of a world of threads.
///
/// The thread starts with the first channel and ends with the last, or when the proxy goes.
package final class Proxy: Sendable {
    private let doorbell: DeviceBuffer
    private let thread: ProxyThread

    /// Prepares a proxy; no thread runs yet.
    ///
    /// - Parameters:
    ///   - device: Whose kernels push the descriptors.
    ///   - settings: As the channels'.
    ///   - processors: Gives the processors that the thread stays on, called when it starts; nil
    ///     or none: wherever the system puts it.
    /// - Throws: `outOfMemory` when there is no room for the doorbell.
    package init(
        on device: Device, settings: ProxySettings = ProxySettings(),
        processors: (@Sendable () -> [Int32])? = nil
    ) throws(MoriError) {
        doorbell = try DeviceBuffer(zeroedPinnedByteCount: 64, on: device)
        thread = try ProxyThread(
            doorbell: doorbell, settings: settings, processors: processors)
    }

    deinit { thread.stop() }

    /// The address of the doorbell, a u64 in pinned memory, for `moriep_operator.doorbell`.
    ///
    /// Its low half is 1 while the thread sleeps or is about to. A producer that finds it so after
    /// it stored a descriptor (and a seq_cst fence) adds 1 to the upper half and wakes the thread.
    package var doorbellAddress: UInt { doorbell.address }

    /// Begins to serve a channel.
    ///
    /// - Throws: `outOfMemory` when the system gives no thread.
    package func attach(_ channel: ProxyChannel) throws(MoriError) { try thread.attach(channel) }

    /// Ends the service of a channel once nothing of it is left to do, or when the deadline passes;
    /// afterwards the thread does not touch it, its link and its memory any more.
    ///
    /// - Returns: Whether nothing was left to do.
    @discardableResult
    package func detach(_ channel: ProxyChannel, within deadline: Duration) async -> Bool {
        await thread.detach(channel, within: deadline)
    }
}

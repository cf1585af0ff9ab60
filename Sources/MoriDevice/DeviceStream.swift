import CHIP
import Glibc

#if Checked
import MoriHostKernels
#endif

/// Work of a device in order.
///
/// Enqueueing never blocks. `completion()` waits and throws what an operator of this stream has to
/// say about its rounds since: a deadline that passed, a peer that was lost.
@safe
public final class DeviceStream: Sendable {
    /// Something whose failure a waiting stream reports.
    package protocol FaultSource: AnyObject, Sendable {
        /// The failure of a round, if there was one.
        var fault: MoriError? { get }
        /// Finds out what is not known yet about a failure; for a moment, and only after one.
        func settleFault() async
        /// Whether nothing is left to find out.
        var isFaultSettled: Bool { get }
    }

    /// The device whose work it orders.
    public let device: Device
    package nonisolated(unsafe) let handle: OpaquePointer
    private let sources = Locked<[WeakSource]>([])
    /// What the graph that is being captured has to keep alive; nil while there is none.
    private let captured = Locked<[any AnyObject & Sendable]?>(nil)

    private struct WeakSource: Sendable {
        weak var source: (any FaultSource)?
    }

    /// Makes a stream of its own.
    public init(on device: Device) throws(MoriError) {
        var handle: OpaquePointer?
        try device.library.check(
            unsafe device.library.table.pointee.stream_create(Int32(device.ordinal), &handle),
            "stream_create")
        guard let handle = unsafe handle else {
            throw MoriError(.deviceFailure, "\(device): stream_create gave no stream")
        }
        self.device = device
        unsafe self.handle = handle
    }

    /// Wraps a framework's `hipStream_t` or `cudaStream_t`, which stays the framework's and must
    /// live longer than this object.
    ///
    /// - Throws: `unsupported` on the host device.
    @unsafe public init(borrowing native: UInt, on device: Device) throws(MoriError) {
        var handle: OpaquePointer?
        try device.library.check(
            unsafe device.library.table.pointee.stream_borrow(
                Int32(device.ordinal), UInt64(native), &handle), "stream_borrow")
        guard let handle = unsafe handle else {
            throw MoriError(.deviceFailure, "\(device): stream_borrow gave no stream")
        }
        self.device = device
        unsafe self.handle = handle
    }

    deinit {
        // Does not block: what was enqueued still runs.
        _ = unsafe device.library.table.pointee.stream_destroy(handle)
    }

    /// Reports the source's failures from this stream's waits.
    package func report(_ source: any FaultSource) {
        sources.withLock { known in
            if known.contains(where: { $0.source === source }) { return }
            known.removeAll { $0.source == nil }
            known.append(WeakSource(source: source))
        }
    }

    /// Blocks until the sources know what there is to know about their failures.
    private func settleFaults() {
        let known = sources.withLock { $0.compactMap(\.source) }
        // Far longer than it takes: whoever finds it out must not end this wait.
        let end = ContinuousClock.now + .seconds(1)
        while !known.allSatisfy(\.isFaultSettled), ContinuousClock.now < end { usleep(1000) }
    }

    private func throwFault() throws(MoriError) {
        let faults = sources.withLock { $0.compactMap { $0.source?.fault } }
        if let fault = faults.first { throw fault }
    }

    /// Suspends until everything enqueued so far is done.
    ///
    /// - Throws: the failure of a round of an operator that used this stream.
    public func completion() async throws(MoriError) {
        guard try !isCapturing() else {
            throw MoriError(
                .invalidArgument, "a stream that captures cannot be awaited; end the capture first")
        }
        let result = device.kind == .host ? await calledBack() : try await awaitedByThread()
        try result.get()
        for source in sources.withLock({ $0.compactMap(\.source) }) { await source.settleFault() }
        try throwFault()
    }

    /// Lets `body` enqueue work, and suspends until that is done, also when `body` or the wait
    /// throws: memory that the work names may go afterwards.
    ///
    /// - Throws: what `body` or `completion()` throws.
    package func finish(_ body: () throws(MoriError) -> Void) async throws(MoriError) {
        let enqueued = Result(catching: body)
        do {
            try await completion()
        } catch {
            _ = try? await isDone(before: .now + Self.longestWork)
            throw error
        }
        try enqueued.get()
    }

    /// How long work is awaited that nobody can call back for, before its device counts as lost.
    private static let longestWork = Duration.seconds(60)

    /// Waits on the host device: its streams call back in every case.
    private func calledBack() async -> Result<Void, MoriError> {
        await withCheckedContinuation { continuation in
            let box = unsafe Unmanaged.passRetained(Resumption(continuation))
            let status = unsafe device.library.table.pointee.stream_callback(
                handle,
                { context in
                    guard let context = unsafe context else { return }
                    let resumption = unsafe Unmanaged<Resumption>.fromOpaque(context)
                        .takeRetainedValue()
                    #if Checked
                    moriep_hold_time()  // before the stream goes on: whoever waited has a turn
                    #endif
                    resumption.continuation.resume(returning: .success(()))
                }, box.toOpaque())
            if status == MORIEP_SUCCESS {
                #if Checked
                moriep_release_time()  // the stream has everything that is waited for
                #endif
            } else {
                unsafe box.release()
                continuation.resume(
                    returning: Result { () throws(MoriError) in
                        try device.library.check(status, "stream_callback")
                    })
            }
        }
    }

    /// Waits on a GPU: a thread of its own blocks on an event, because a runtime whose device has
    /// failed no longer calls back.
    private func awaitedByThread() async throws(MoriError) -> Result<Void, MoriError> {
        let event = try DeviceEvent(on: device)
        try record(event)
        return try await BackgroundThread.run {
            Result { () throws(MoriError) in try event.synchronize() }
        }
    }

    /// Lets `body` enqueue work, and blocks the calling thread until everything enqueued so far is
    /// done.
    ///
    /// The same as `body` and then `synchronize()`, with the least latency: the host device runs the
    /// work on this thread, and wakes no other for it. `body` only enqueues: what it would wait for
    /// may begin 10 ms later than elsewhere.
    ///
    /// - Throws: what `body` throws, which is not waited for then; else the failure of a round of an
    ///   operator that used this stream.
    @available(*, noasync, message: "enqueue, and use completion()")
    public func synchronize<Success: ~Copyable>(
        _ body: () throws(MoriError) -> Success
    ) throws(MoriError) -> Success {
        try expectWait(true)
        let success: Success
        do {
            success = try body()
        } catch {
            try expectWait(false)
            throw error
        }
        let outcome = Result { () throws(MoriError) in try synchronize() }
        try expectWait(false)
        try outcome.get()
        return success
    }

    private func expectWait(_ expects: Bool) throws(MoriError) {
        try device.library.check(
            unsafe device.library.table.pointee.stream_expect_wait(handle, expects ? 1 : 0),
            "stream_expect_wait")
    }

    /// Blocks the calling thread until everything enqueued so far is done.
    ///
    /// On the host device it runs what the stream's own thread has not begun: the least latency for a
    /// thread that waits anyway.
    ///
    /// - Throws: the failure of a round of an operator that used this stream.
    @available(*, noasync, message: "use completion()")
    public func synchronize() throws(MoriError) {
        try device.library.check(
            unsafe device.library.table.pointee.stream_synchronize(handle), "stream_synchronize")
        settleFaults()
        try throwFault()
    }

    /// Makes later work of this stream wait for an event of another one.
    public func wait(for event: DeviceEvent) throws(MoriError) {
        try device.library.check(
            unsafe device.library.table.pointee.stream_wait_event(handle, event.handle),
            "stream_wait_event")
    }

    /// Marks this point of the stream.
    public func record(_ event: DeviceEvent) throws(MoriError) {
        try device.library.check(
            unsafe device.library.table.pointee.event_record(event.handle, handle), "event_record")
    }

    /// Whether work is being recorded instead of run.
    public func isCapturing() throws(MoriError) -> Bool {
        var active: Int32 = 0
        try device.library.check(
            unsafe device.library.table.pointee.capture_active(handle, &active), "capture_active")
        return active != 0
    }

    /// Records what `body` enqueues on this stream, without running it, as a graph.
    ///
    /// - Throws: what `body` throws; the capture is ended then and its content dropped.
    public func capture(_ body: () throws(MoriError) -> Void) throws(MoriError) -> DeviceGraph {
        try device.library.check(
            unsafe device.library.table.pointee.capture_begin(handle), "capture_begin")
        captured.withLock { $0 = [] }
        let outcome = Result(catching: body)
        let kept = captured.withLock { kept in
            defer { kept = nil }
            return kept ?? []
        }
        var graph: OpaquePointer?
        let status = unsafe device.library.table.pointee.capture_end(handle, &graph)
        if case .failure(let error) = outcome {
            if let graph = unsafe graph, status == MORIEP_SUCCESS {
                _ = unsafe device.library.table.pointee.graph_destroy(graph)
            }
            throw error
        }
        try device.library.check(status, "capture_end")
        guard let graph = unsafe graph else {
            throw MoriError(.deviceFailure, "\(device): capture_end gave no graph")
        }
        return unsafe DeviceGraph(handle: graph, on: device, keeping: kept)
    }

    /// Copies bytes between addresses that the device can reach.
    package func copy(to destination: UInt, from source: UInt, byteCount: Int) throws(MoriError) {
        guard byteCount > 0 else { return }
        try device.library.check(
            unsafe device.library.table.pointee.memory_copy(
                handle, UInt64(destination), UInt64(source), UInt64(byteCount)), "memory_copy")
    }

    /// Stores one byte into a range of memory.
    package func fill(_ address: UInt, with byte: UInt8, byteCount: Int) throws(MoriError) {
        guard byteCount > 0 else { return }
        try device.library.check(
            unsafe device.library.table.pointee.memory_fill(
                handle, UInt64(address), byte, UInt64(byteCount)), "memory_fill")
    }

    /// Whether everything enqueued so far is done, as far as a query can tell.
    package var isIdle: Bool {
        unsafe device.library.table.pointee.stream_query(handle) == MORIEP_SUCCESS
    }

    /// Waits until everything enqueued so far is done, as far as a query can tell; false: it was not
    /// before the deadline.
    ///
    /// - Throws: what the query says of a device that is lost: nothing goes on there.
    package func isDone(
        before deadline: ContinuousClock.Instant
    ) async throws(MoriError) -> Bool {
        while true {
            let status = unsafe device.library.table.pointee.stream_query(handle)
            if status != MORIEP_NOT_READY {
                try device.library.check(status, "stream_query")
                return true
            }
            guard ContinuousClock.now < deadline else { return false }
            try? await Task.sleep(for: .milliseconds(1))
        }
    }

    /// While a capture is active: keeps an object alive as long as the graph, and says so.
    package func keepWithCapture(_ object: any AnyObject & Sendable) -> Bool {
        captured.withLock { kept in
            kept?.append(object)
            return kept != nil
        }
    }

    /// Calls `body` on a thread of the runtime once everything enqueued so far is done.
    ///
    /// It must be short and must not call the runtime, which GPU runtimes forbid there.
    package func notify(_ body: @escaping @Sendable () -> Void) throws(MoriError) {
        let box = unsafe Unmanaged.passRetained(Notification(body))
        let status = unsafe device.library.table.pointee.stream_callback(
            handle,
            { context in
                guard let context = unsafe context else { return }
                unsafe Unmanaged<Notification>.fromOpaque(context).takeRetainedValue().body()
            }, box.toOpaque())
        if status != MORIEP_SUCCESS { unsafe box.release() }
        try device.library.check(status, "stream_callback")
    }

    /// Keeps an object alive until everything enqueued so far is done.
    package func retain(_ object: any AnyObject & Sendable) {
        if keepWithCapture(object) { return }
        let keeper = Keeper(object)
        do {
            // Not on the runtime's thread: GPU runtimes forbid calls, such as freeing, there.
            try notify { Task.detached { keeper.release() } }
        } catch {
            // No memory for a callback: the stream is asked instead, until its work is done or its
            // device is lost.
            Task.detached {
                _ = try? await self.isDone(before: .now + Self.longestWork)
                keeper.release()
            }
        }
    }
}

private final class Resumption: Sendable {
    let continuation: CheckedContinuation<Result<Void, MoriError>, Never>

    init(_ continuation: CheckedContinuation<Result<Void, MoriError>, Never>) {
        self.continuation = continuation
    }
}

private final class Notification: Sendable {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

private final class Keeper: Sendable {
    private let object: Locked<(any AnyObject & Sendable)?>

    init(_ object: any AnyObject & Sendable) { self.object = Locked(object) }

    func release() { object.withLock { $0 = nil } }
}

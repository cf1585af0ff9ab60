import Glibc

/// Threads for work that blocks, which Swift's own pool must not do.
package enum BackgroundThread {
    /// Runs `body` on a thread of its own and gives what it returns.
    ///
    /// - Throws: `outOfMemory` when the system gives no thread.
    package static func run<Success: Sendable>(
        _ body: @escaping @Sendable () -> Success
    ) async throws(MoriError) -> Success {
        let result: Result<Success, MoriError> = await withCheckedContinuation { continuation in
            do throws(MoriError) {
                try start { continuation.resume(returning: .success(body())) }
            } catch {
                continuation.resume(returning: .failure(error))
            }
        }
        return try result.get()
    }

    /// Runs `body` on a thread of its own, which nobody waits for.
    ///
    /// - Throws: `outOfMemory` when the system gives no thread; `body` is not called then.
    package static func start(_ body: @escaping @Sendable () -> Void) throws(MoriError) {
        let box = unsafe Unmanaged.passRetained(Body(body))
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard status == 0 else {
            unsafe box.release()
            throw MoriError(
                .outOfMemory, "the system gives this process no further thread",
                cause: .errno(call: "pthread_create", code: status))
        }
        pthread_detach(thread)
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

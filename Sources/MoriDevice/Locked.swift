import Glibc

/// A value that only its lock's holder touches.
///
/// `Synchronization.Mutex` has the same interface, but on Linux ThreadSanitizer does not see it
/// (Swift 6.3: a correct program of twenty lines gets several reports), and a sanitizer that cries
/// wolf checks nothing. This one is a pthread mutex, which it knows.
///
/// No function is put here other than in a struct: lent as a generic value, it would be wrapped for the
/// closure and once more when it comes back, for good, with each access (Swift 6.3).
@safe
package final class Locked<Value>: @unchecked Sendable {
    // A pthread mutex must not move: it has memory of its own. So has the value, for which a
    // property's accesses would be checked once more at run time.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let value: UnsafeMutablePointer<Value>

    /// Puts a value under a lock.
    package init(_ value: consuming sending Value) {
        unsafe mutex = .allocate(capacity: 1)
        unsafe pthread_mutex_init(mutex, nil)
        unsafe self.value = .allocate(capacity: 1)
        unsafe self.value.initialize(to: value)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
        unsafe value.deinitialize(count: 1)
        unsafe value.deallocate()
    }

    /// Runs `body` with the value, alone.
    ///
    /// Not reentrant, and nothing in it may wait.
    ///
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws.
    package func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try unsafe body(&value.pointee)
    }
}

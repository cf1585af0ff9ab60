import CMoriSystem
import Glibc
import MoriDevice

/// A file descriptor that is closed with its owner and is not inherited by programs.
struct Descriptor: ~Copyable {
    let number: Int32

    init(owning number: Int32) { self.number = number }

    deinit { _ = close(number) }

    /// The two ends of a new pipe.
    static func pipe() throws(MoriError) -> Pipe {
        var ends: [Int32] = [-1, -1]
        let failure = unsafe mori_pipe(&ends)
        guard failure == 0 else {
            throw MoriError(
                .outOfMemory, "the system gives this process no further pipe",
                cause: .errno(call: "pipe2", code: failure))
        }
        return Pipe(read: Descriptor(owning: ends[0]), write: Descriptor(owning: ends[1]))
    }

    /// /dev/null, for reading.
    static func null() throws(MoriError) -> Descriptor {
        let number = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard number >= 0 else {
            throw MoriError(
                .outOfMemory, "/dev/null cannot be opened",
                cause: .errno(call: "open", code: errno))
        }
        return Descriptor(owning: number)
    }
}

/// The two ends of a pipe.
struct Pipe: ~Copyable {
    let read: Descriptor
    let write: Descriptor
}

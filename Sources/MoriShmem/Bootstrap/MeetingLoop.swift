import Glibc
import MoriDevice
import NIOPosix

/// The event loop of one meeting of ranks, with a thread of its own.
enum MeetingLoop {
    /// An event loop opens three; the others are for threads that open some at the same time.
    private static let descriptors = 8

    /// Starts an event loop.
    ///
    /// NIO ends the process where an event loop gets no descriptors, so they are asked for before.
    ///
    /// - Throws: `.bootstrapFailed` where this process may open no more.
    static func start() throws(MoriError) -> MultiThreadedEventLoopGroup {
        var opened: [CInt] = []
        defer { for descriptor in opened { close(descriptor) } }
        while opened.count < descriptors {
            let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            let descriptor = socket(AF_UNIX, type, 0)
            guard descriptor >= 0 else {
                let cause = MoriError.Cause.errno(call: "socket", code: errno)
                throw MoriError(
                    .bootstrapFailed,
                    "this process can open \(opened.count) more descriptors, and to meet other ranks it"
                        + " needs \(descriptors); raise the limit with `ulimit -n`, or close some",
                    cause: cause)
            }
            opened.append(descriptor)
        }
        return MultiThreadedEventLoopGroup(numberOfThreads: 1)
    }
}

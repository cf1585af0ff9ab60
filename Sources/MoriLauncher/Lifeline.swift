import CMoriSystem
import Glibc
public import MoriDevice

/// How a rank learns that its launcher is gone, even when that was killed with -9.
///
/// The launcher holds the write end of a pipe and never writes; each rank holds the read end, which
/// reaches its end when the launcher does.
public enum Lifeline {
    /// Names the descriptor of the read end.
    public static let variable = "MORI_LIFELINE_FD"

    /// Ends this process, without any clean-up, as soon as its launcher is gone.
    ///
    /// Call it first thing in a program that is a rank. Without a launcher of this package, which
    /// sets `MORI_LIFELINE_FD`, it does nothing.
    ///
    /// - Throws: `invalidConfiguration` when the variable names no descriptor.
    public static func watch() throws(MoriError) {
        guard let text = ProcessVariables.all[variable], !text.isEmpty else { return }
        guard let descriptor = Int32(text), fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
            throw MoriError(
                .invalidConfiguration,
                "\(variable) is \"\(text)\", which is no open descriptor; only the launcher sets it"
            )
        }
        try BackgroundThread.start {
            var byte: UInt8 = 0
            while true {
                let count = unsafe read(descriptor, &byte, 1)
                // The end of the pipe; anything else is a signal, or a stray byte.
                if count == 0 { _exit(exitStatus) }
                if count < 0 && errno != EINTR { return }
            }
        }
    }

    /// The status of a rank that ended because its launcher was gone.
    public static let exitStatus: Int32 = 113
}

import Glibc

/// This process's own output, without buffers that a later `_exit` would lose.
package enum Console {
    /// Writes text to standard output.
    package static func print(_ text: String) { write(Array(text.utf8), to: STDOUT_FILENO) }

    /// Writes text to standard error.
    package static func error(_ text: String) { write(Array(text.utf8), to: STDERR_FILENO) }

    /// Whether standard error is a terminal, on which progress can be shown.
    package static var errorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// Writes all bytes; gives up when nobody reads them any more.
    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0 && errno != EINTR { return }
            rest = rest.dropFirst(max(count, 0))
        }
    }
}

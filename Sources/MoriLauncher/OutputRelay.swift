import Glibc

/// One output of one process, on its way to this process's own or into memory.
struct OutputRelay: ~Copyable {
    /// Whose output.
    let process: Int
    /// STDOUT_FILENO or STDERR_FILENO.
    let stream: Int32
    private let prefix: [UInt8]?
    private let source: Descriptor
    private var isOpen = true
    /// What was collected, or an unfinished line.
    private(set) var bytes: [UInt8] = []

    /// The most that is collected, so that a program gone wild does not fill the memory.
    private static let mostCollected = 16 << 20
    /// A line longer than this is written in parts.
    private static let longestLine = 64 << 10

    init(_ source: consuming Descriptor, process: Int, stream: Int32, prefix: String?) {
        self.source = source
        self.process = process
        self.stream = stream
        self.prefix = prefix.map { Array($0.utf8) }
        // The reader asks poll first, and at the end takes what is there without waiting.
        _ = fcntl(self.source.number, F_SETFL, O_NONBLOCK)
    }

    /// The descriptor to poll; nil after the output's end.
    var pollable: Int32? { isOpen ? source.number : nil }

    /// Takes everything that is there now.
    mutating func drain() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while isOpen {
            let count = unsafe read(source.number, &buffer, buffer.count)
            if count > 0 {
                take(buffer[..<count])
            } else if count < 0 && errno == EINTR {
                continue
            } else if count < 0 && errno == EAGAIN {
                return
            } else {
                isOpen = false
            }
        }
    }

    private mutating func take(_ part: ArraySlice<UInt8>) {
        guard prefix != nil else {
            bytes += part.prefix(max(0, Self.mostCollected - bytes.count))
            return
        }
        bytes += part
        while let newline = bytes.firstIndex(of: UInt8(ascii: "\n")) {
            writeLine(bytes[...newline])
            bytes.removeFirst(newline + 1)
        }
        if bytes.count > Self.longestLine { flush() }
    }

    /// Writes an unfinished line.
    mutating func flush() {
        guard prefix != nil, !bytes.isEmpty else { return }
        writeLine(bytes[...] + [UInt8(ascii: "\n")])
        bytes = []
    }

    /// In one call, so that lines of several ranks do not mix.
    private func writeLine(_ line: ArraySlice<UInt8>) {
        Console.write((prefix ?? []) + line, to: stream)
    }
}

import CMoriSystem
import Glibc

/// The processes that ranks start, which may outlive them.
package enum Descendants {
    /// From now on this process becomes the parent of descendants whose own parent ends: so they can be
    /// found, also those that went into a session of their own.
    package static func adopt() { _ = mori_adopt_orphans() }

    /// Kills every child that is left, and theirs, once all ranks were reaped.
    ///
    /// Gives up after two seconds, on what not even a kill ends.
    package static func end() {
        let deadline = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < deadline {
            let children = children()
            guard !children.isEmpty else { return }
            // Theirs become ours with their end.
            for child in children { kill(child, SIGKILL) }
            while waitpid(-1, nil, WNOHANG) > 0 {}
            usleep(1000)
        }
    }

    /// The processes whose parent this one is.
    private static func children() -> [Int32] {
        guard let folder = unsafe opendir("/proc") else { return [] }
        defer { unsafe closedir(folder) }
        var found: [Int32] = []
        let own = getpid()
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let id = Int32(name), parent(of: id) == own { found.append(id) }
        }
        return found
    }

    /// The fourth field of "12 (a name) S 1 ...", whose second may have anything in it.
    private static func parent(of id: Int32) -> Int32? {
        let file = unsafe open("/proc/\(id)/stat", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 512)
        let count = unsafe read(file, &buffer, buffer.count)
        let text = String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return nil }
        return text[end...].split(separator: " ").dropFirst(2).first.flatMap { Int32($0) }
    }
}

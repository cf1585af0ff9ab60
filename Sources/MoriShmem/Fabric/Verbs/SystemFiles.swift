import Glibc

/// Small files below a root: sysfs and procfs, or a test's copy of them.
package struct SystemFiles: Sendable {
    /// The root; "" for the system's own.
    package var root = ""

    /// Looks below a root.
    package init(root: String = "") { self.root = root }

    /// The first 64 KiB of a file; empty where it cannot be read.
    package func bytes(of path: String) -> [UInt8] {
        let file = unsafe open(root + path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { _ = Glibc.close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        // procfs gives its files in pieces.
        while bytes.count < 64 << 10 {
            let count = unsafe read(file, &buffer, buffer.count)
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        return bytes
    }

    /// The text of a file without the blanks around it; nil where it is empty or cannot be read.
    package func text(of path: String) -> String? {
        let blanks: [UInt8] = [0x0a, 0x20, 0x09, 0]
        let bytes = bytes(of: path).drop { blanks.contains($0) }
        let end = bytes.lastIndex { !blanks.contains($0) }
        return end.map { String(decoding: bytes[...$0], as: UTF8.self) }
    }

    /// The names in a folder, sorted as people count; none where it cannot be read.
    package func entries(of folder: String) -> [String] {
        guard let stream = unsafe opendir(root + folder) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted { $0.isBefore($1) }
    }

    /// The last name of what a link leads to; nil where it is none.
    package func linkName(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink(root + path, &buffer, buffer.count)
        guard count > 0 else { return nil }
        let target = String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
        return target.split(separator: "/").last.map(String.init)
    }

    /// Whether there is such a file or folder.
    package func exists(_ path: String) -> Bool { unsafe access(root + path, F_OK) == 0 }

    /// Whether this user may read and write a file.
    package func mayReadAndWrite(_ path: String) -> Bool {
        unsafe access(root + path, R_OK | W_OK) == 0
    }

    /// The first line of a file that begins with a word, without that word.
    package func line(_ word: String, of path: String) -> String? {
        text(of: path)?.split(separator: "\n").first { $0.hasPrefix(word) }
            .map { String($0.dropFirst(word.count)).trimmingBlanks }
    }

    /// Where a PCI device is, from its folder ("/sys/class/infiniband/mlx5_0/device").
    package func location(ofDevice folder: String) -> HostLocation {
        var location = HostLocation()
        // -1 where the firmware does not tell.
        if let node = text(of: folder + "/numa_node").flatMap(Int.init), node >= 0 {
            location.numaNode = node
        }
        if let path = unsafe realpath(root + folder, nil) {
            defer { unsafe free(path) }
            let parts = unsafe String(cString: path).split(separator: "/")
            location.pciPath = parts.filter(Self.isOnPCI).map(String.init)
        }
        return location
    }

    /// "pci0000:00" and "0000:3b:00.1", not "virtual" or "net".
    private static func isOnPCI(_ part: Substring) -> Bool {
        if part.hasPrefix("pci") { return part.contains(":") }
        let halves = part.split(separator: ":", omittingEmptySubsequences: false)
        return halves.count == 3 && halves[2].contains(".")
            && part.allSatisfy { $0.isHexDigit || $0 == ":" || $0 == "." }
    }

    /// What the processes of one running machine have in common: its boot's number and its name.
    var hostIdentity: [UInt8] {
        bytes(of: "/proc/sys/kernel/random/boot_id") + bytes(of: "/proc/sys/kernel/hostname")
    }

    /// The host's name, for people.
    var hostName: String { text(of: "/proc/sys/kernel/hostname") ?? "an unnamed host" }
}

extension String {
    /// The text without the blanks around it.
    package var trimmingBlanks: String {
        let isBlank = { (character: Character) in character == " " || character == "\t" }
        let rest = drop(while: isBlank)
        guard let last = rest.lastIndex(where: { !isBlank($0) }) else { return "" }
        return String(rest[...last])
    }
}

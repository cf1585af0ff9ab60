import Glibc

/// Small files below a root: sysfs and procfs, or a test's copy of them.
struct SystemFiles: Sendable {
    /// The root; "" for the system's own.
    var root = ""

    /// The first bytes of a file; empty where it cannot be read.
    func bytes(of path: String) -> [UInt8] {
        let file = unsafe open(root + path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { _ = Glibc.close(file) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(file, &buffer, buffer.count)
        return Array(buffer.prefix(max(count, 0)))
    }

    /// The text of a file without the blanks around it; nil where it is empty or cannot be read.
    func text(of path: String) -> String? {
        let blanks: [UInt8] = [0x0a, 0x20, 0x09, 0]
        let bytes = bytes(of: path).drop { blanks.contains($0) }
        let end = bytes.lastIndex { !blanks.contains($0) }
        return end.map { String(decoding: bytes[...$0], as: UTF8.self) }
    }

    /// Where a PCI device is, from its folder ("/sys/class/infiniband/mlx5_0/device").
    func location(ofDevice folder: String) -> HostLocation {
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

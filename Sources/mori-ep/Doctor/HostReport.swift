import Glibc
import MoriShmem

/// What the host's kernel says of itself: the part of `mori-ep doctor` that needs no library.
struct HostReport: Encodable {
    /// Pages of one size.
    struct HugePages: Encodable {
        var pageBytes: Int
        var total: Int
        var free: Int
    }

    /// One NUMA node.
    struct NUMANode: Encodable {
        var node: Int
        /// As the kernel lists them: "0-63,128-191".
        var processors: String
        var memoryBytes: Int?
        /// To each node, 10 to itself.
        var distances: [Int]
    }

    var name: String
    var kernel: String?
    var processors: Int
    var memoryBytes: Int?
    var availableMemoryBytes: Int?
    /// nil: unlimited, or not told; `lockedMemoryIsLimited` says which holds.
    var lockedMemoryLimitBytes: Int?
    var lockedMemoryIsLimited: Bool
    /// Whether this process may lock any amount, whatever the limit says.
    var mayLockAnyMemory: Bool
    var openFileLimit: Int?
    /// The size of /dev/shm; nil where it is not mounted.
    var sharedMemoryBytes: Int?
    var hugePages: [HugePages]
    /// "always", "madvise" or "never".
    var transparentHugePages: String?
    var numaNodes: [NUMANode]

    init(_ files: SystemFiles) {
        name = files.text(of: "/proc/sys/kernel/hostname") ?? "an unnamed host"
        kernel = files.text(of: "/proc/sys/kernel/osrelease")
        processors = Self.processorCount(
            files.text(of: "/sys/devices/system/cpu/online") ?? "")
        memoryBytes = Self.kibibytes(files.line("MemTotal:", of: "/proc/meminfo"))
        availableMemoryBytes = Self.kibibytes(files.line("MemAvailable:", of: "/proc/meminfo"))
        let limit = Self.softLimit(files.line("Max locked memory", of: "/proc/self/limits"))
        lockedMemoryLimitBytes = limit.flatMap { Int($0) }
        lockedMemoryIsLimited = lockedMemoryLimitBytes != nil
        // CAP_IPC_LOCK is bit 14.
        let capabilities = files.line("CapEff:", of: "/proc/self/status").flatMap {
            UInt64($0, radix: 16)
        }
        mayLockAnyMemory = (capabilities ?? 0) >> 14 & 1 == 1
        openFileLimit = Self.softLimit(files.line("Max open files", of: "/proc/self/limits"))
            .flatMap { Int($0) }
        sharedMemoryBytes = Self.sharedMemory(files)
        hugePages = files.entries(of: "/sys/kernel/mm/hugepages").compactMap {
            Self.hugePages($0, files)
        }
        transparentHugePages = files.text(of: "/sys/kernel/mm/transparent_hugepage/enabled")
            .flatMap { text in
                // The one in force is in brackets: "always [madvise] never".
                text.split(separator: " ").first { $0.hasPrefix("[") }
                    .map { String($0.dropFirst().dropLast()) }
            }
        numaNodes = files.entries(of: "/sys/devices/system/node").compactMap {
            Self.numaNode($0, files)
        }
    }

    /// "0-3,8" are five processors.
    static func processorCount(_ list: String) -> Int {
        list.split(separator: ",").reduce(0) { sum, range in
            let ends = range.split(separator: "-").compactMap { Int($0) }
            // No kernel counts further.
            guard let first = ends.first, let last = ends.last, last >= first, last < 1 << 20
            else { return sum }
            return sum + last - first + 1
        }
    }

    /// "32768 kB" in bytes.
    private static func kibibytes(_ text: String?) -> Int? {
        text?.split(separator: " ").first.flatMap { Int($0) }.flatMap { product($0, 1024) }
    }

    /// nil: no number can be as large, or it is none of bytes.
    private static func product(_ a: Int, _ b: Int) -> Int? {
        let (product, overflow) = a.multipliedReportingOverflow(by: b)
        return overflow || product < 0 ? nil : product
    }

    /// The first column behind the name: "8388608   8388608   bytes".
    private static func softLimit(_ text: String?) -> String? {
        text?.split(separator: " ").first.map(String.init)
    }

    /// The size of the file system on /dev/shm: as it was mounted, or as the kernel counts it.
    private static func sharedMemory(_ files: SystemFiles) -> Int? {
        let mounts = files.text(of: "/proc/mounts") ?? ""
        let mounted = mounts.split(separator: "\n").last {
            $0.split(separator: " ").dropFirst().first == "/dev/shm"
        }
        guard let fields = mounted?.split(separator: " "), fields.count > 3 else { return nil }
        let size = fields[3].split(separator: ",").first { $0.hasPrefix("size=") }
        if let size, let bytes = ByteCount.parse(String(size.dropFirst(5))) { return bytes }
        var status = statvfs()
        guard unsafe statvfs(files.root + "/dev/shm", &status) == 0 else { return nil }
        return product(Int(clamping: status.f_blocks), Int(clamping: status.f_frsize))
    }

    /// "hugepages-2048kB".
    private static func hugePages(_ name: String, _ files: SystemFiles) -> HugePages? {
        let folder = "/sys/kernel/mm/hugepages/\(name)"
        guard name.hasPrefix("hugepages-"), name.hasSuffix("kB"),
            let size = Int(name.dropFirst(10).dropLast(2)).flatMap({ product($0, 1024) }),
            let total = files.text(of: folder + "/nr_hugepages").flatMap({ Int($0) })
        else { return nil }
        return HugePages(
            pageBytes: size, total: total,
            free: files.text(of: folder + "/free_hugepages").flatMap { Int($0) } ?? 0)
    }

    /// "node0".
    private static func numaNode(_ name: String, _ files: SystemFiles) -> NUMANode? {
        guard name.hasPrefix("node"), let node = Int(name.dropFirst(4)) else { return nil }
        let folder = "/sys/devices/system/node/\(name)"
        return NUMANode(
            node: node, processors: files.text(of: folder + "/cpulist") ?? "",
            memoryBytes: kibibytes(
                files.line("Node \(node) MemTotal:", of: folder + "/meminfo")),
            distances: (files.text(of: folder + "/distance") ?? "").split(separator: " ")
                .compactMap { Int($0) })
    }
}

import FoundationEssentials
import Glibc

/// The memory of all ranks together, with pages that several of them map counted once.
enum PeakMemory {
    /// This process's share in bytes, 0 where procfs does not tell.
    ///
    /// The kernel divides each page among the processes that map it.
    static func proportionalBytes() -> Int {
        guard let data = try? Data(contentsOf: URL(filePath: "/proc/self/smaps_rollup")) else {
            return 0
        }
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n")
        where line.hasPrefix("Pss:") {
            let kilobytes = line.split(separator: " ").dropFirst().first.flatMap { Int($0) }
            return (kilobytes ?? 0) * 1024
        }
        return 0
    }
}

/// Pages that this process touched for the first time, where the kernel had to do nothing but note
/// them in its page table.
enum PageFaults {
    /// How many there were until now.
    static func count() -> Int {
        var usage = rusage()
        guard unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
        return usage.ru_minflt
    }

    static let pageByteCount = Int(sysconf(Int32(_SC_PAGESIZE)))
}

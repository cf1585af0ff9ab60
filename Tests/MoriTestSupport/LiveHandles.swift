public import CHIP
import MoriDevice

extension moriep_live_counts {
    /// Whether the process holds nothing of the library.
    public var isZero: Bool {
        allocations == 0 && allocated_bytes == 0 && imports == 0 && streams == 0 && events == 0
            && graphs == 0
    }

    /// Whether there is no more of anything than in `other`.
    public func isWithin(_ other: moriep_live_counts) -> Bool {
        allocations <= other.allocations && allocated_bytes <= other.allocated_bytes
            && imports <= other.imports && streams <= other.streams && events <= other.events
            && graphs <= other.graphs
    }

    /// All counts, by name.
    public var words: String {
        "\(allocations) allocations of \(allocated_bytes) bytes, \(imports) imports,"
            + " \(streams) streams, \(events) events, \(graphs) graphs"
    }
}

/// What the process holds of the host device. Only a test that has its process for itself (an exit
/// test) can expect anything of it.
public func liveCounts() throws -> moriep_live_counts {
    try KernelLibrary.load(.host).liveCounts()
}

/// Throws unless the process holds nothing of the host device, after what is being released in the
/// background had its time.
public func requireNothingLive() async throws {
    var counts = try liveCounts()
    for _ in 0..<6000 where !counts.isZero {
        try await Task.sleep(for: .milliseconds(10))
        counts = try liveCounts()
    }
    guard counts.isZero else { throw Mismatch("still alive: \(counts.words)") }
}

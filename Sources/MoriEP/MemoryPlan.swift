/// The memory that an operator allocates on one rank, to the byte.
public struct MemoryPlan: Hashable, Sendable, CustomStringConvertible {
    /// Bytes of the symmetric heap: what peers write to and read from.
    public let symmetricByteCount: Int
    /// Bytes of the rank's own device memory: routes, state and results.
    public let deviceByteCount: Int
    /// Bytes of pinned host memory: the failure record.
    public let pinnedByteCount: Int

    /// All of them.
    public var byteCount: Int { symmetricByteCount + deviceByteCount + pinnedByteCount }

    /// The three parts and their sum.
    public var description: String {
        "\(byteCount) bytes (\(symmetricByteCount) symmetric, \(deviceByteCount) device,"
            + " \(pinnedByteCount) pinned)"
    }
}

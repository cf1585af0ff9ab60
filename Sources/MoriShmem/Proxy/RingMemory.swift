/// Where one rank's rings and counts lie: addresses of the operator's pinned memory.
package struct RingMemory: Hashable, Sendable {
    /// u64 `[ringCount][entryCount][Descriptor.wordCount]`, zero at the start.
    package var descriptors: UInt
    /// u64 `[ringCount]`, 64 bytes apart, zero at the start: descriptors taken, in the upper half.
    package var ringConsumed: UInt
    /// u64 `[slotCount]`, 64 bytes apart, zero at the start: descriptors complete, likewise.
    package var slotCompleted: UInt
    /// Rings, 1 or more.
    package var ringCount: Int
    /// Descriptors of one ring, a power of two.
    package var entryCount: Int
    /// Slots of the operator.
    package var slotCount: Int

    /// Bytes between two counts.
    package static let countStride = 64

    /// Creates a description of ring memory.
    package init(
        descriptors: UInt, ringConsumed: UInt, slotCompleted: UInt, ringCount: Int, entryCount: Int,
        slotCount: Int
    ) {
        self.descriptors = descriptors
        self.ringConsumed = ringConsumed
        self.slotCompleted = slotCompleted
        self.ringCount = ringCount
        self.entryCount = entryCount
        self.slotCount = slotCount
    }
}

import CMoriSystem
package import MoriDevice

/// What a world is made of between two recoveries: who takes part, how they meet, their memory.
///
/// The mask never changes inside a generation (protocol rule P17): recovery makes a new one, of new
/// memory that a rank which was left behind has never mapped, and this one is void.
package final class WorldGeneration: Sendable {
    /// 0, and one more with each recovery.
    package let number: Int
    /// How its ranks meet.
    package let bootstrap: any Bootstrap
    /// Where operators allocate.
    package let heap: SymmetricHeap
    /// Symmetric u64 [worldSize] by which ranks end each other's rounds, one word a writer.
    package let abortWords: SymmetricBuffer
    /// Pinned u64 by which this rank's own host ends them.
    package let hostAbort: DeviceBuffer
    /// Who failed, when a wait reached its deadline.
    let inquest = Inquest()
    /// The ranks that failed, when waits reached their deadline and that is known.
    package var culprits: [Int]? { inquest.culprits }

    /// The ranks that take part, ascending.
    package var activeRanks: [Int] { bootstrap.members }

    /// The ranks that do not, because they were left behind.
    package var maskedRanks: Set<Int> {
        Set(0..<bootstrap.worldSize).subtracting(bootstrap.members)
    }

    /// Whether some of its ranks are on different hosts.
    package var spansHosts: Bool {
        Set(activeRanks.map { heap.hosts[$0] }).count > 1
    }

    /// Allocates what every generation has.
    ///
    /// Collective.
    init(_ number: Int, bootstrap: any Bootstrap, heap: SymmetricHeap) async throws(MoriError) {
        self.number = number
        self.bootstrap = bootstrap
        self.heap = heap
        let worldSize = bootstrap.worldSize
        hostAbort = try DeviceBuffer(zeroedPinnedByteCount: 8, on: heap.device)
        abortWords = try await heap.allocate(
            byteCount: 8 * worldSize, for: "the world's abort words")
        try await heap.zero(abortWords, byteCount: 8 * worldSize)
    }

    /// Why this rank's host ends waits; moriep_failure_reason in moriep_operator.h.
    enum AbortReason: UInt64 {
        /// Some rank's wait reached its deadline, and it is not known yet who failed.
        case timedOut = 1
        /// It is known.
        case aborted = 4
    }

    /// Ends every wait of this rank's kernels, for good.
    func raiseAbort(_ reason: AbortReason = .aborted, culprit: Int?) {
        // reason | culprit + 1; see moriep_operator.h.
        let word = reason.rawValue << 32 | UInt64((culprit ?? -1) + 1)
        guard let pointer = unsafe UnsafeMutablePointer<UInt64>(bitPattern: hostAbort.address)
        else { return }
        unsafe mori_store_release_u64(pointer, word)
    }
}

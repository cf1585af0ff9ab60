package import MoriDevice

/// The symmetric memory that a world's ranks have in this process: one rank's, or in a world of
/// threads all ranks', so that none is freed while another rank's kernel may reach it.
///
/// Kept by generation: that of a generation goes when all its ranks in this process are through with
/// it, also those that were left behind and may still run kernels.
final class HeapKeeper: Sendable {
    private struct Kept: Sendable {
        var ranks: Set<Int> = []
        var buffers: [ObjectIdentifier: SymmetricBuffer] = [:]
    }

    private let generations = Locked<[Int: Kept]>([:])

    /// A rank of this process begins to take part in a generation.
    func begin(_ generation: Int, _ rank: Int) {
        generations.withLock { _ = $0[generation, default: Kept()].ranks.insert(rank) }
    }

    func keep(_ buffer: SymmetricBuffer, in generation: Int) {
        generations.withLock { $0[generation]?.buffers[ObjectIdentifier(buffer)] = buffer }
    }

    func forget(_ buffer: SymmetricBuffer, in generation: Int) {
        _ = generations.withLock {
            $0[generation]?.buffers.removeValue(forKey: ObjectIdentifier(buffer))
        }
    }

    /// A rank has no kernel left that reaches a generation's memory.
    func leave(_ generation: Int, _ rank: Int) {
        // Freed outside the lock.
        let gone = generations.withLock { known -> Kept? in
            known[generation]?.ranks.remove(rank)
            guard known[generation]?.ranks.isEmpty == true else { return nil }
            return known.removeValue(forKey: generation)
        }
        _ = gone
    }
}

/// One rank's symmetric memory: allocated by all ranks in the same order, and checked to be so.
///
/// Each allocation is a segment of its own, so that what is allocated is what operators planned,
/// to the byte, and goes when they close; the heap's size is only a limit.
package final class SymmetricHeap: Sendable {
    /// Whose memory.
    let device: Device
    /// Bytes that may be allocated in all.
    let byteLimit: Int
    /// How long to wait for a rank that does not come.
    let timeout: Duration
    let bootstrap: any Bootstrap

    private let stream: DeviceStream
    private let keeper: HeapKeeper
    private let generation: Int
    private let reservedBytes = Locked(0)
    /// Each rank's host, as the lowest rank that was on it.
    ///
    /// Memory of other hosts cannot be mapped.
    package let hosts: [Int]

    private var rank: Int { bootstrap.rank }

    init(
        device: Device, byteLimit: Int, timeout: Duration, bootstrap: any Bootstrap,
        keeper: HeapKeeper, generation: Int, hosts: [Int]
    ) throws(MoriError) {
        self.generation = generation
        self.device = device
        self.byteLimit = byteLimit
        self.timeout = timeout
        self.bootstrap = bootstrap
        self.keeper = keeper
        self.hosts = hosts
        self.stream = try DeviceStream(on: device)
    }

    /// What one rank says when memory is allocated.
    private struct Offer {
        var byteCount: Int
        var handle: [UInt8]
        var problem: String

        var bytes: [UInt8] { UInt64(byteCount).littleEndianBytes + handle + Array(problem.utf8) }

        init(byteCount: Int, handle: [UInt8], problem: String) {
            self.byteCount = byteCount
            self.handle = handle
            self.problem = problem
        }

        init?(_ bytes: [UInt8]) {
            let end = 8 + DeviceBuffer.handleByteCount
            guard bytes.count >= end else { return nil }
            byteCount = Int(UInt64(littleEndianBytes: bytes[..<8]))
            handle = Array(bytes[8..<end])
            problem = String(decoding: bytes[end...], as: UTF8.self)
        }
    }

    /// Allocates memory on every rank and maps that of every rank of this host on this one.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - byteCount: Bytes, the same on every rank.
    ///   - purpose: What for, in words, for the errors.
    /// - Returns: The memory of all ranks, as this one sees it.
    /// - Throws: `outOfMemory` on every rank when one has no room, with the size to set;
    ///   `ranksDisagree` when the sizes differ.
    package func allocate(byteCount: Int, for purpose: String) async throws(MoriError)
        -> SymmetricBuffer
    {
        var own: DeviceBuffer?
        let noHandle = [UInt8](repeating: 0, count: DeviceBuffer.handleByteCount)
        var offer = Offer(byteCount: byteCount, handle: noHandle, problem: "")
        do {
            try reserve(byteCount, for: purpose)
            let buffer = try DeviceBuffer(byteCount: byteCount, kind: .symmetric, on: device)
            offer.handle = try buffer.export()
            own = buffer
        } catch {
            // Said to everyone instead of thrown: the others are waiting.
            offer.problem = error.description
        }
        do {
            return try await exchange(offer, own: own, for: purpose)
        } catch {
            if own != nil { unreserve(byteCount) }
            throw error
        }
    }

    private func exchange(
        _ offer: Offer, own: DeviceBuffer?, for purpose: String
    ) async throws(MoriError) -> SymmetricBuffer {
        let answers = try await bootstrap.allGather(
            "symmetric allocation", offer.bytes, timeout: timeout)
        let offers = answers.map { Offer($0) }
        for rank in bootstrap.members {
            guard let other = offers[rank] else {
                throw MoriError(
                    .ranksDisagree, "rank \(rank) sent no offer of memory", ranks: [rank])
            }
            guard other.problem.isEmpty else {
                throw MoriError(
                    .outOfMemory, "rank \(rank) has no memory for \(purpose): \(other.problem)",
                    ranks: [rank])
            }
            guard other.byteCount == offer.byteCount else {
                throw MoriError(
                    .ranksDisagree,
                    "\(purpose): rank \(self.rank) allocates \(offer.byteCount) bytes, rank \(rank)"
                        + " \(other.byteCount); ranks must allocate the same, in the same order",
                    ranks: [self.rank, rank])
            }
        }
        guard let own else {
            throw MoriError(.outOfMemory, "\(purpose): \(offer.problem)", ranks: [rank])
        }
        // Importing can fail on one rank alone, so its outcome is exchanged too.
        let imported = Result { () throws(MoriError) -> SymmetricBuffer in
            var peers: [ImportedBuffer?] = []
            for (rank, other) in offers.enumerated() {
                guard bootstrap.members.contains(rank), let other,
                    hosts[rank] == hosts[bootstrap.rank]
                else {
                    peers.append(nil)
                    continue
                }
                peers.append(try ImportedBuffer(other.handle, on: device))
            }
            let table = try DeviceBuffer(byteCount: 8 * bootstrap.worldSize, on: device)
            return SymmetricBuffer(own: own, peers: peers, addressTable: table)
        }
        var problem = ""
        if case .failure(let error) = imported { problem = error.description }
        let outcomes = try await bootstrap.allGather(
            "symmetric import", Array(problem.utf8), timeout: timeout)
        for (rank, outcome) in outcomes.enumerated() where !outcome.isEmpty {
            throw MoriError(
                .deviceFailure,
                "rank \(rank) cannot reach its peers' memory for \(purpose): "
                    + String(decoding: outcome, as: UTF8.self), ranks: [rank])
        }
        let buffer = try imported.get()
        try await upload(buffer.addresses.map(UInt64.init), to: buffer.addressTable)
        keeper.keep(buffer, in: generation)
        return buffer
    }

    /// Frees memory on every rank.
    ///
    /// Collective: no rank's goes while another may still read it.
    package func free(_ buffer: SymmetricBuffer) async throws(MoriError) {
        // When a rank does not come, the memory stays with the world: somebody may still read it.
        try await bootstrap.barrier("symmetric free", timeout: timeout)
        keeper.forget(buffer, in: generation)
        unreserve(buffer.byteCount)
    }

    /// Copies words into device memory and waits until they are there.
    package func upload(_ words: [UInt64], to buffer: DeviceBuffer) async throws(MoriError) {
        let staging = try DeviceBuffer(byteCount: 8 * words.count, kind: .pinned, on: device)
        unsafe words.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe UnsafeMutableRawPointer(bitPattern: staging.address)?
                .copyMemory(from: base, byteCount: source.count)
        }
        try await stream.finish { () throws(MoriError) in
            try stream.copy(
                to: buffer.address, from: staging.address, byteCount: 8 * words.count)
        }
    }

    /// Zeroes the first bytes of this rank's part and waits until that is done.
    package func zero(_ buffer: SymmetricBuffer, byteCount: Int) async throws(MoriError) {
        try await stream.finish { () throws(MoriError) in
            try stream.fill(buffer.addresses[rank], with: 0, byteCount: byteCount)
        }
    }

    private func reserve(_ byteCount: Int, for purpose: String) throws(MoriError) {
        try reservedBytes.withLock { (reserved) throws(MoriError) in
            guard byteCount <= byteLimit - reserved else {
                throw MoriError(
                    .outOfMemory,
                    "\(purpose) needs \(byteCount) bytes of symmetric memory; the heap is"
                        + " \(byteLimit) bytes, of which \(reserved) are in use: set"
                        + " MORI_SHMEM_HEAP_SIZE to \(reserved + byteCount) or more")
            }
            reserved += byteCount
        }
    }

    private func unreserve(_ byteCount: Int) {
        reservedBytes.withLock { $0 -= byteCount }
    }
}

extension UInt64 {
    var littleEndianBytes: [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) }
    }

    init(littleEndianBytes bytes: ArraySlice<UInt8>) {
        self = bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

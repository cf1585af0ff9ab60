import CHIP
import MoriDevice
import MoriShmem

/// The memory of one rank's operator while it is made ready.
struct OperatorMemory {
    let shape: moriep_shape
    let layout: moriep_layout
    let symmetric: SymmetricBuffer
    let local: DeviceBuffer
    let pinned: DeviceBuffer

    /// Zeroes words and state, and fills the tables of proxies and experts.
    ///
    /// Nothing else: buffers are touched when rows come.
    ///
    /// - Parameters:
    ///   - nodes: Who takes part, and how they are spread.
    ///   - config: What for.
    ///   - rank: Whose memory.
    ///   - base: The number that the first round follows.
    /// - Throws: what the device throws.
    func initialize(
        _ nodes: OperatorShape, _ config: EPDispatchCombineConfig, rank: Int, base: UInt32
    ) async throws(MoriError) {
        let stream = try DeviceStream(on: local.device)
        try await stream.finish { () throws(MoriError) in
            try enqueueInitialization(nodes, config, rank: rank, base: base, on: stream)
        }
    }

    private func enqueueInitialization(
        _ nodes: OperatorShape, _ config: EPDispatchCombineConfig, rank: Int, base: UInt32,
        on stream: DeviceStream
    ) throws(MoriError) {
        let worldSize = nodes.proxies.worldSize
        let masked = nodes.proxies.masked
        let experts = experts(config, worldSize: worldSize, masked: masked)
        let tails = Int(layout.local_bytes - layout.ring_tails)
        if tails > 0 {
            try stream.fill(local.address + UInt(layout.ring_tails), with: 0, byteCount: tails)
        }
        for slot in 0..<Int(shape.slots) {
            try stream.fill(
                symmetric.addresses[rank] + UInt(slot) * UInt(layout.symmetric_slot_bytes),
                with: 0, byteCount: Int(layout.words_end))
            let block = local.address + UInt(slot) * UInt(layout.local_slot_bytes)
            try stream.fill(
                block + UInt(layout.control), with: 0, byteCount: Int(layout.local_zero_end))
            // As if the last round had been combined: no barrier is needed before the next.
            try upload(
                [base, base].map(Int32.init(bitPattern:)), block + UInt(layout.control), stream)
            try upload(
                (0..<worldSize).map { masked.contains($0) ? 0 : 1 },
                block + UInt(layout.active_ranks), stream)
            if shape.expert_map != 0 {
                try upload(experts, block + UInt(layout.expert_ranks), stream)
                try upload(
                    Self.places(of: experts, worldSize: worldSize),
                    block + UInt(layout.expert_places), stream)
            }
            guard nodes.kernelType.forwards else { continue }
            let table = nodes.proxies
            try upload(table.proxies(of: rank), block + UInt(layout.proxies), stream)
            try upload(table.sections(of: rank), block + UInt(layout.proxy_sections), stream)
            try upload(
                table.sectionSources(of: rank), block + UInt(layout.section_sources), stream)
        }
    }

    /// Where each expert lives; -1 for those of masked ranks.
    private func experts(
        _ config: EPDispatchCombineConfig, worldSize: Int, masked: Set<Int>
    ) -> [Int32] {
        (0..<config.totalExpertCount(worldSize: worldSize)).map { expert in
            let rank = config.rank(ofExpert: expert)
            return masked.contains(rank) ? -1 : Int32(rank)
        }
    }

    /// The place of each expert among those of its rank, in the order of experts.
    private static func places(of ranks: [Int32], worldSize: Int) -> [Int32] {
        var hosted = Array(repeating: Int32(0), count: worldSize)
        return ranks.map { rank in
            guard rank >= 0 else { return -1 }
            defer { hosted[Int(rank)] += 1 }
            return hosted[Int(rank)]
        }
    }

    private func upload(
        _ words: [Int32], _ address: UInt, _ stream: DeviceStream
    ) throws(MoriError) {
        guard !words.isEmpty else { return }
        let staging = try DeviceBuffer(byteCount: 4 * words.count, kind: .pinned, on: stream.device)
        unsafe words.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe UnsafeMutableRawPointer(bitPattern: staging.address)?
                .copyMemory(from: base, byteCount: source.count)
        }
        try stream.copy(to: address, from: staging.address, byteCount: 4 * words.count)
        staging.noteUse(on: stream)
    }

    /// Connects with the ranks of other nodes; nil where no rank has one.
    ///
    /// Collective.
    func connect(
        _ nodes: OperatorShape, _ config: EPDispatchCombineConfig, in world: SymmetricMemory,
        generation: WorldGeneration, onTick: @escaping @Sendable () -> Void
    ) async throws(MoriError) -> NetworkConnection? {
        guard nodes.rings > 0 else { return nil }
        let rings = RingMemory(
            descriptors: pinned.address + UInt(layout.ring_descriptors),
            ringConsumed: pinned.address + UInt(layout.ring_consumed),
            slotCompleted: pinned.address + UInt(layout.slot_completed), ringCount: nodes.rings,
            entryCount: nodes.ringEntries, slotCount: config.slots)
        return try await NetworkConnection(
            NetworkConnection.Request(
                memory: symmetric, rings: rings, ringOwner: pinned,
                peers: nodes.peers(of: world.rank), queuesPerPeer: config.queuePairsPerPeer,
                purpose: "an operator of \(config.kernelType)"), in: world, generation: generation,
            onTick: onTick)
    }
}

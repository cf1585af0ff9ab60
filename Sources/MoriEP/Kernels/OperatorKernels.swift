import CHIP
import CMoriSystem
import MoriDevice
import MoriShmem

// The one folder of this module that speaks the C ABI: it turns an operator's settings into the structs
// of moriep_operator.h, calls the verbs (+Launches, +Received), and reads the failure record.

/// One rank's memory for an operator and the verbs over it.
final class OperatorKernels: Sendable {
    let plan: MemoryPlan
    let shape: moriep_shape
    let layout: moriep_layout
    let fields: moriep_operator
    let device: Device
    /// What the operator's memory belongs to: when the world goes on to another one, these are void.
    let generation: WorldGeneration
    // Held, not read: kernels use them by address.
    private let world: SymmetricMemory
    private let symmetric: SymmetricBuffer
    let local: DeviceBuffer
    /// The failure record, then the rings.
    private let pinned: DeviceBuffer
    /// Where the memory lies that kernels may load and store: every rank's of the own node.
    private let reachable: DeviceBuffer?
    /// The queues to other nodes; nil where there are none.
    let network: NetworkConnection?
    /// Where kernels find their trace, as long as any of them may look.
    private let trace = Locked<TraceMemory?>(nil)

    /// The layout that a configuration needs, without allocating anything.
    static func layout(
        _ config: EPDispatchCombineConfig, worldSize: Int, masked: Set<Int> = []
    ) throws(MoriError) -> (shape: moriep_shape, layout: moriep_layout) {
        let nodes = OperatorShape(config, worldSize: worldSize, masked: masked)
        var shape = moriep_shape()
        shape.kernel_type = Int32(config.kernelType.rawValue)
        shape.world_size = Int32(worldSize)
        shape.max_tokens = Int32(config.maxInputTokensPerRank)
        shape.max_received = Int32(config.maxReceivedTokens(worldSize: worldSize))
        shape.experts_per_rank = Int32(config.expertsPerRank)
        shape.expert_count = Int32(config.totalExpertCount(worldSize: worldSize))
        shape.top_k = Int32(config.expertsPerToken)
        shape.slots = Int32(config.slots)
        shape.node_ranks = Int32(nodes.proxies.devicesPerNode)
        shape.queue_pairs = Int32(config.queuePairsPerPeer)
        shape.landing_sections = Int32(nodes.landingSections)
        shape.rings = Int32(nodes.rings)
        shape.ring_entries = Int32(nodes.ringEntries)
        // The experts of masked ranks are dropped by a map that puts them nowhere.
        shape.expert_map = config.expertRanks == nil && masked.isEmpty ? 0 : 1
        // InterNode and AsyncLL receive in this order in any case.
        shape.is_ordered = config.receiveOrder == .source && config.kernelType == .intraNode ? 1 : 0
        shape.overflow_fails = config.overflow == .fail ? 1 : 0
        shape.quantization = config.quantization.raw
        shape.quantization_block = Int32(config.quantizationBlock)
        shape.dispatch_row_bytes = Int64(config.dispatchRowByteCount)
        shape.combine_row_bytes = Int64(config.combineRowByteCount)
        shape.scale_bytes = Int64(config.scaleRowByteCount)
        var layout = moriep_layout()
        let library = try KernelLibrary.host.get()
        try library.check(unsafe library.table.pointee.plan(&shape, &layout), "plan")
        return (shape, layout)
    }

    /// The bytes that an operator allocates.
    static func plan(
        _ config: EPDispatchCombineConfig, worldSize: Int
    ) throws(MoriError) -> MemoryPlan {
        plan(try layout(config, worldSize: worldSize).layout, config, worldSize: worldSize)
    }

    private static func plan(
        _ layout: moriep_layout, _ config: EPDispatchCombineConfig, worldSize: Int
    ) -> MemoryPlan {
        // Tables of addresses lie beside the local block: everyone's, and those that kernels may use.
        let tables = config.kernelType == .intraNode ? 1 : 2
        return MemoryPlan(
            symmetricByteCount: Int(layout.symmetric_bytes),
            deviceByteCount: Int(layout.local_bytes) + tables * 8 * worldSize,
            pinnedByteCount: Int(layout.pinned_bytes))
    }

    /// Allocates.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - config: What for.
    ///   - world: Whose ranks.
    ///   - generation: Where the memory comes from, and who takes part.
    ///   - base: The number that the first round follows.
    ///   - timeout: The deadline of waits; nil: the configuration's, else the world's.
    /// - Throws: `outOfMemory`, `ranksDisagree`, `timedOut`; what the fabric throws.
    init(
        _ config: EPDispatchCombineConfig, in world: SymmetricMemory,
        generation: WorldGeneration, base: UInt32 = 0, timeout: Duration? = nil
    ) async throws(MoriError) {
        let masked = generation.maskedRanks
        let (shape, layout) = try Self.layout(
            config, worldSize: world.worldSize, masked: masked)
        let nodes = OperatorShape(config, worldSize: world.worldSize, masked: masked)
        self.generation = generation
        self.shape = shape
        self.layout = layout
        self.world = world
        device = world.device
        plan = Self.plan(layout, config, worldSize: world.worldSize)
        symmetric = try await generation.heap.allocate(
            byteCount: Int(layout.symmetric_bytes), for: "an operator")
        local = try DeviceBuffer(byteCount: Int(layout.local_bytes), on: world.device)
        pinned = try DeviceBuffer(
            zeroedPinnedByteCount: Int(layout.pinned_bytes), on: world.device)
        var fields = moriep_operator()
        fields.shape = shape
        fields.layout = layout
        fields.rank = Int32(world.rank)
        fields.abort_peers = UInt64(generation.abortWords.addressTable.address)
        fields.host_abort = UInt64(generation.hostAbort.address)
        fields.local = UInt64(local.address)
        fields.failure = UInt64(pinned.address)
        fields.words_wake = 1
        let memory = OperatorMemory(
            shape: shape, layout: layout, symmetric: symmetric, local: local, pinned: pinned)
        try await memory.initialize(nodes, config, rank: world.rank, base: base)
        let watched = Locked(Watched())
        if config.kernelType == .intraNode {
            reachable = nil
            network = nil
            fields.peers = UInt64(symmetric.addressTable.address)
        } else {
            // What crosses nodes goes over the network, also where it could be mapped.
            let table = try DeviceBuffer(byteCount: 8 * world.worldSize, on: world.device)
            let near = nodes.reachable(from: world.rank)
            try await generation.heap.upload(
                symmetric.addresses.enumerated().map { near.contains($0) ? UInt64($1) : 0 },
                to: table)
            reachable = table
            fields.peers = UInt64(table.address)
            network = try await memory.connect(
                nodes, config, in: world, generation: generation
            ) {
                watched.withLock { $0.kernels }?.tellOtherHosts()
            }
            fields.doorbell = UInt64(network?.doorbellAddress ?? 0)
            fields.words_wake = network?.wordsWake == false ? 0 : 1
        }
        self.fields = fields
        try await setInitialTimeout(timeout ?? config.timeout ?? world.roundTimeout)
        watched.withLock { $0.kernels = self }
    }

    private func setInitialTimeout(_ timeout: Duration?) async throws(MoriError) {
        let stream = try DeviceStream(on: device)
        try await stream.finish { () throws(MoriError) in
            try setTimeout(timeout, on: stream)
        }
    }

    /// Closes the queues and gives the symmetric memory back.
    ///
    /// Collective.
    func free() async throws(MoriError) {
        try await network?.close(within: .seconds(5)) { () async throws(MoriError) in
            try await world.barrier()
        }
        try await generation.heap.free(symmetric)
    }

    /// Whether these are void: what was captured with them must not run any more.
    private let isRetired = Locked(false)

    /// Ends the service of the network, and keeps graphs from running; the streams are drained.
    func retire() async {
        isRetired.withLock { $0 = true }
        await network?.cut()
    }

    /// How far the rounds came; nothing may run.
    func roundNumbers() async throws(MoriError) -> RoundNumbers {
        let controls = try await readControls()
        return RoundNumbers(
            begun: controls.map(\.epoch).max() ?? 0,
            complete: controls.map(\.combined_epoch).min() ?? 0)
    }

    private func readControls() async throws(MoriError) -> [moriep_control] {
        let byteCount = MemoryLayout<moriep_control>.size
        let staging = try DeviceBuffer(
            byteCount: byteCount * Int(shape.slots), kind: .pinned, on: device)
        let stream = try DeviceStream(on: device)
        try await stream.finish { () throws(MoriError) in
            for slot in 0..<Int(shape.slots) {
                try stream.copy(
                    to: staging.address + UInt(slot * byteCount),
                    from: address(layout.control, slot: slot), byteCount: byteCount)
            }
        }
        guard let controls = unsafe UnsafePointer<moriep_control>(bitPattern: staging.address)
        else { return [] }
        return (0..<Int(shape.slots)).map { unsafe controls[$0] }
    }

    /// What this rank asked of the network so far; nil where there is none.
    var networkStatistics: NetworkStatistics? { network?.statistics() }

    /// Whether everything that was pushed is complete.
    var networkIsDrained: Bool { network?.isDrained ?? true }

    func resetNetworkPhases() { network?.resetPhases() }

    /// Holds the memory of a trace that kernels know by its address.
    func keep(_ memory: TraceMemory) { trace.withLock { $0 = memory } }

    // -------------------------------------------------------------------------------------------
    // Addresses

    func address(_ offset: UInt64, slot: Int) -> UInt {
        local.address + UInt(slot) * UInt(layout.local_slot_bytes) + UInt(offset)
    }

    private func symmetricAddress(_ offset: UInt64, slot: Int) -> UInt {
        symmetric.addresses[world.rank] + UInt(slot) * UInt(layout.symmetric_slot_bytes)
            + UInt(offset)
    }

    /// An operator's buffer, by name.
    enum Buffer {
        case receivedTokens, receivedWeights, receivedScales, receivedIndices, receivedSources
        case receivedCount, droppedCount, combineInput, combineOutput, combineOutputWeights
    }

    /// One of this rank's buffers as a tensor, which keeps the operator's memory alive.
    func tensor(
        _ buffer: Buffer, slot: Int, shape: [Int], elementType: ElementType
    ) -> DeviceTensor {
        let control = MemoryLayout<moriep_control>.self
        let address: UInt =
            switch buffer {
            case .receivedTokens: symmetricAddress(layout.received_tokens, slot: slot)
            case .receivedWeights: symmetricAddress(layout.received_weights, slot: slot)
            case .receivedScales: symmetricAddress(layout.received_scales, slot: slot)
            case .receivedIndices: symmetricAddress(layout.received_indices, slot: slot)
            case .receivedSources: symmetricAddress(layout.received_sources, slot: slot)
            case .combineInput: symmetricAddress(layout.combine_input, slot: slot)
            case .receivedCount:
                self.address(layout.control, slot: slot)
                    + UInt(control.offset(of: \.received_count) ?? 0)
            case .droppedCount:
                self.address(layout.control, slot: slot)
                    + UInt(control.offset(of: \.dropped_count) ?? 0)
            case .combineOutput: self.address(layout.combine_output, slot: slot)
            case .combineOutputWeights: self.address(layout.combine_output_weights, slot: slot)
            }
        return DeviceTensor(
            address: address, shape: shape, elementType: elementType, device: device,
            storage: self)
    }

    // -------------------------------------------------------------------------------------------
    // Failures

    /// What the failure record says, once some warp has written it.
    var recordedFailure: MoriError? { failureRecord?.error(blaming: generation.culprits) }

    /// Whom a proxy's thread looks after: itself, from when it is whole until it goes.
    private struct Watched: Sendable {
        weak var kernels: OperatorKernels?
    }

    /// Says that a kernel failed here, to ranks of other hosts, who cannot be told by memory.
    private func tellOtherHosts() {
        guard world.fault == nil, let record = failureRecord else { return }
        if record.isUndecided {
            world.search(in: generation)
        } else if generation.spansHosts {
            let failure = record.error
            world.failEverywhere(failure, culprit: failure.ranks.first, in: generation)
        }
    }

    /// The failure record, once some warp has written it.
    var failureRecord: moriep_failure? {
        guard let pointer = unsafe UnsafePointer<moriep_failure>(bitPattern: pinned.address),
            // Pairs with storeHost in the kernels' failRound.
            unsafe mori_load_acquire_u32(
                UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt32.self)) == 1
        else { return nil }
        return unsafe pointer.pointee
    }
}

extension OperatorKernels: DeviceGraph.Dependency {
    /// Refuses to launch a graph that was captured before the world recovered.
    func checkLaunchable() throws(MoriError) { try checkNotRetired("this graph was captured") }

    /// Refuses what belongs to the time before the world recovered.
    func checkNotRetired(_ subject: String) throws(MoriError) {
        guard isRetired.withLock({ $0 }) else { return }
        throw MoriError(
            .aborted, "\(subject) before the world recovered, and its memory is void; make it anew")
    }
}

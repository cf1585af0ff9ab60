import CHIP
import CMoriSystem
import MoriDevice
import MoriShmem

// The one file of this module that speaks the C ABI: it turns an operator's settings into the
// structs of moriep.h, calls the verbs, and reads the failure record.

/// The memory of one rank's operator while it is made ready.
private struct OperatorMemory {
    let shape: moriep_shape
    let layout: moriep_layout
    let symmetric: SymmetricBuffer
    let local: DeviceBuffer
    let pinned: DeviceBuffer

    /// Zeroes words, state and rings, and fills the proxies' tables.
    ///
    /// Nothing else: buffers are touched when rows come.
    func initialize(
        _ nodes: OperatorShape, in world: SymmetricMemory
    ) async throws(MoriError) {
        let stream = try DeviceStream(on: world.device)
        unsafe UnsafeMutableRawPointer(bitPattern: pinned.address)?
            .initializeMemory(as: UInt8.self, repeating: 0, count: pinned.byteCount)
        let tails = Int(layout.local_bytes - layout.ring_tails)
        if tails > 0 {
            try stream.fill(local.address + UInt(layout.ring_tails), with: 0, byteCount: tails)
        }
        for slot in 0..<Int(shape.slots) {
            try stream.fill(
                symmetric.addresses[world.rank] + UInt(slot) * UInt(layout.symmetric_slot_bytes),
                with: 0, byteCount: Int(layout.words_end))
            let block = local.address + UInt(slot) * UInt(layout.local_slot_bytes)
            try stream.fill(
                block + UInt(layout.control), with: 0, byteCount: Int(layout.local_zero_end))
            guard nodes.kernelType.forwards else { continue }
            let table = nodes.proxies
            try upload(table.proxies(of: world.rank), block + UInt(layout.proxies), stream)
            try upload(table.sections(of: world.rank), block + UInt(layout.proxy_sections), stream)
            try upload(
                table.sectionSources(of: world.rank), block + UInt(layout.section_sources), stream)
        }
        try await stream.completion()
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
        onTick: @escaping @Sendable () -> Void
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
                purpose: "an operator of \(config.kernelType)"), in: world, onTick: onTick)
    }
}

/// One rank's memory for an operator and the verbs over it.
final class OperatorKernels: Sendable {
    let plan: MemoryPlan
    private let shape: moriep_shape
    private let layout: moriep_layout
    private let fields: moriep_operator
    private let device: Device
    // Held, not read: kernels use them by address.
    private let world: SymmetricMemory
    private let symmetric: SymmetricBuffer
    private let local: DeviceBuffer
    /// The failure record, then the rings.
    private let pinned: DeviceBuffer
    /// Where the memory lies that kernels may load and store: every rank's of the own node.
    private let reachable: DeviceBuffer?
    /// The queues to other nodes; nil where there are none.
    private let network: NetworkConnection?

    /// The layout that a configuration needs, without allocating anything.
    static func layout(
        _ config: EPDispatchCombineConfig, worldSize: Int
    ) throws(MoriError) -> (shape: moriep_shape, layout: moriep_layout) {
        let nodes = OperatorShape(config, worldSize: worldSize)
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
    init(
        _ config: EPDispatchCombineConfig, in world: SymmetricMemory
    ) async throws(MoriError) {
        let (shape, layout) = try Self.layout(config, worldSize: world.worldSize)
        let nodes = OperatorShape(config, worldSize: world.worldSize)
        self.shape = shape
        self.layout = layout
        self.world = world
        device = world.device
        plan = Self.plan(layout, config, worldSize: world.worldSize)
        symmetric = try await world.heap.allocate(
            byteCount: Int(layout.symmetric_bytes), for: "an operator")
        local = try DeviceBuffer(byteCount: Int(layout.local_bytes), on: world.device)
        pinned = try DeviceBuffer(
            byteCount: Int(layout.pinned_bytes), kind: .pinned, on: world.device)
        var fields = moriep_operator()
        fields.shape = shape
        fields.layout = layout
        fields.rank = Int32(world.rank)
        fields.abort_peers = UInt64(world.abortWords.addressTable.address)
        fields.host_abort = UInt64(world.hostAbort.address)
        fields.local = UInt64(local.address)
        fields.failure = UInt64(pinned.address)
        fields.words_wake = 1
        let memory = OperatorMemory(
            shape: shape, layout: layout, symmetric: symmetric, local: local, pinned: pinned)
        try await memory.initialize(nodes, in: world)
        let tick = Locked<(@Sendable () -> Void)?>(nil)
        if config.kernelType == .intraNode {
            reachable = nil
            network = nil
            fields.peers = UInt64(symmetric.addressTable.address)
        } else {
            // What crosses nodes goes over the network, also where it could be mapped.
            let table = try DeviceBuffer(byteCount: 8 * world.worldSize, on: world.device)
            let near = nodes.reachable(from: world.rank)
            try await world.heap.upload(
                symmetric.addresses.enumerated().map { near.contains($0) ? UInt64($1) : 0 },
                to: table)
            reachable = table
            fields.peers = UInt64(table.address)
            network = try await memory.connect(nodes, config, in: world) {
                tick.withLock { $0 }?()
            }
            fields.doorbell = UInt64(network?.doorbellAddress ?? 0)
            fields.words_wake = network?.wordsWake == false ? 0 : 1
        }
        self.fields = fields
        try await setInitialTimeout(config.timeout ?? world.roundTimeout)
        // Ranks of other hosts cannot be told by memory that a kernel failed here.
        tick.withLock { tick in
            tick = { [weak self, weak world] in
                guard let world, world.spansHosts, world.fault == nil,
                    let failure = self?.recordedFailure
                else { return }
                world.failEverywhere(failure, culprit: failure.ranks.first)
            }
        }
    }

    private func setInitialTimeout(_ timeout: Duration?) async throws(MoriError) {
        let stream = try DeviceStream(on: device)
        try setTimeout(timeout, on: stream)
        try await stream.completion()
    }

    /// Closes the queues and gives the symmetric memory back.
    ///
    /// Collective.
    func free() async throws(MoriError) {
        try await network?.close(within: .seconds(5)) { () async throws(MoriError) in
            try await world.barrier()
        }
        try await world.heap.free(symmetric)
    }

    /// What this rank asked of the network so far; nil where there is none.
    var networkStatistics: NetworkStatistics? { network?.statistics() }

    /// Whether everything that was pushed is complete.
    var networkIsDrained: Bool { network?.isDrained ?? true }

    func resetNetworkPhases() { network?.resetPhases() }

    // -------------------------------------------------------------------------------------------
    // Addresses

    private func address(_ offset: UInt64, slot: Int) -> UInt {
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
    // Launches

    /// Sets the deadline of later waits; a replayed graph sees it too.
    ///
    /// nil: the default, with more for the first round, because ranks start at different times.
    func setTimeout(_ timeout: Duration?, on stream: DeviceStream) throws(MoriError) {
        let staging = try DeviceBuffer(byteCount: 16, kind: .pinned, on: device)
        guard let words = unsafe UnsafeMutablePointer<UInt64>(bitPattern: staging.address) else {
            return
        }
        unsafe words[0] = (timeout ?? SymmetricMemory.defaultRoundTimeout).wholeNanoseconds
        unsafe words[1] = (timeout ?? SymmetricMemory.firstRoundTimeout).wholeNanoseconds
        let offset = MemoryLayout<moriep_control>.offset(of: \.timeout_ns) ?? 0
        for slot in 0..<Int(shape.slots) {
            try stream.copy(
                to: address(layout.control, slot: slot) + UInt(offset), from: staging.address,
                byteCount: 16)
        }
        staging.noteUse(on: stream)
    }

    /// What differs from call to call.
    struct Call {
        var verb: Verb
        var slot: Int
        var launch: LaunchConfiguration
        var elementType: ElementType
        var hiddenDim: Int
        var timeout: Duration?
        var hasWeights: Bool
        var half = Half.both
    }

    /// What a dispatch reads; a receiving half reads nothing.
    struct DispatchInput {
        var tokens: DeviceTensor
        var weights: DeviceTensor?
        var scales: DeviceTensor?
        var indices: DeviceTensor
        var validTokenCount: DeviceTensor?
    }

    /// What a combine reads, unless it is the registered buffer; a receiving half reads nothing.
    struct CombineRows {
        var output: DeviceTensor
        var weights: DeviceTensor?
    }

    /// Which half of a verb a call runs.
    enum Half: Int32, Sendable {
        case send = 1
        case receive = 2
        case both = 3
    }

    /// Which verb's occupancy and signature.
    enum Verb: Int32, Sendable {
        case dispatch = 0
        case combine = 1
    }

    /// Enqueues a dispatch, or half of one; everything was validated.
    func dispatch(
        _ call: Call, _ input: DispatchInput?, hasScales: Bool, tokenCount: Int,
        on stream: DeviceStream
    ) throws(MoriError) {
        var arguments = moriep_dispatch_arguments()
        arguments.op = fields
        arguments.op.slot = Int32(call.slot)
        arguments.launch = call.launch.raw
        arguments.call = record(call)
        arguments.call.scale_bytes = hasScales ? Int32(shape.scale_bytes) : 0
        arguments.signature = signature(arguments.call)
        arguments.token_count = Int32(tokenCount)
        arguments.row_bytes = Int64(call.elementType.byteCount(of: call.hiddenDim))
        arguments.valid_token_count = UInt64(input?.validTokenCount?.address ?? 0)
        arguments.tokens = UInt64(input?.tokens.address ?? 0)
        arguments.weights = UInt64(input?.weights?.address ?? 0)
        arguments.scales = UInt64(input?.scales?.address ?? 0)
        arguments.indices = UInt64(input?.indices.address ?? 0)
        arguments.timeout_ns = call.timeout?.wholeNanoseconds ?? 0
        arguments.half = call.half.rawValue
        try device.library.check(
            unsafe device.library.table.pointee.dispatch(stream.handle, &arguments), "dispatch")
        // Callers may let go of their tensors at once.
        input?.tokens.noteUse(on: stream)
        input?.weights?.noteUse(on: stream)
        input?.scales?.noteUse(on: stream)
        input?.indices.noteUse(on: stream)
        input?.validTokenCount?.noteUse(on: stream)
        _ = stream.keepWithCapture(self)
    }

    /// Enqueues a combine, or half of one; everything was validated.
    ///
    /// What is not external is the registered buffer.
    func combine(
        _ call: Call, _ rows: CombineRows?, inputRows: Int, isExternal: Bool,
        on stream: DeviceStream
    ) throws(MoriError) {
        var arguments = moriep_combine_arguments()
        arguments.op = fields
        arguments.op.slot = Int32(call.slot)
        arguments.launch = call.launch.raw
        arguments.call = record(call)
        arguments.call.external_input = isExternal ? 1 : 0
        arguments.signature = signature(arguments.call)
        arguments.input_rows = Int32(clamping: inputRows)
        arguments.row_bytes = Int64(call.elementType.byteCount(of: call.hiddenDim))
        arguments.input = isExternal ? UInt64(rows?.output.address ?? 0) : 0
        arguments.weights = UInt64(rows?.weights?.address ?? 0)
        arguments.timeout_ns = call.timeout?.wholeNanoseconds ?? 0
        arguments.half = call.half.rawValue
        try device.library.check(
            unsafe device.library.table.pointee.combine(stream.handle, &arguments), "combine")
        rows?.output.noteUse(on: stream)
        rows?.weights?.noteUse(on: stream)
        _ = stream.keepWithCapture(self)
    }

    private func record(_ call: Call) -> moriep_call {
        var record = moriep_call()
        record.verb = call.verb.rawValue
        record.element_type = call.elementType.raw
        record.hidden = Int32(call.hiddenDim)
        record.top_k = shape.top_k
        record.has_weights = call.hasWeights ? 1 : 0
        return record
    }

    /// 8 bits over everything in a call that ranks must agree on: FNV-1a, then murmur3's finalizer,
    /// without which calls that differ a little often share their folded bits.
    private func signature(_ call: moriep_call) -> UInt32 {
        var hash: UInt32 = 0x811C_9DC5
        for field in [
            call.verb, call.element_type, call.hidden, call.top_k, call.scale_bytes,
            call.has_weights, call.external_input,
        ] {
            for shift in stride(from: 0, to: 32, by: 8) {
                hash ^= (UInt32(bitPattern: field) >> UInt32(shift)) & 0xFF
                hash = hash &* 0x0100_0193
            }
        }
        hash = (hash ^ hash >> 16) &* 0x85EB_CA6B
        hash = (hash ^ hash >> 13) &* 0xC2B2_AE35
        return (hash ^ hash >> 16) & 0xFF
    }

    /// Blocks of a verb that can be resident at once with so many warps each.
    func maxResidentBlocks(_ verb: Verb, warpsPerBlock: Int) throws(MoriError) -> Int {
        var blocks: Int32 = 0
        try device.library.check(
            unsafe device.library.table.pointee.max_resident_blocks(
                Int32(device.ordinal), shape.kernel_type, verb.rawValue, Int32(warpsPerBlock),
                &blocks), "max_resident_blocks")
        return Int(blocks)
    }

    // -------------------------------------------------------------------------------------------
    // Failures

    /// The failure record, once some warp has written it.
    var recordedFailure: MoriError? {
        guard let pointer = unsafe UnsafePointer<moriep_failure>(bitPattern: pinned.address),
            // Pairs with storeHost in the kernels' failRound.
            unsafe mori_load_acquire_u32(
                UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt32.self)) == 1
        else { return nil }
        return unsafe pointer.pointee.error
    }
}

extension LaunchConfiguration {
    fileprivate var raw: moriep_launch {
        var raw = moriep_launch()
        raw.blocks = Int32(blocks)
        raw.warps_per_block = Int32(warpsPerBlock)
        raw.rdma_blocks = Int32(rdmaBlocks)
        return raw
    }
}

extension ElementType {
    fileprivate var raw: Int32 {
        let type =
            switch self {
            case .float32: MORIEP_FLOAT32
            case .float16: MORIEP_FLOAT16
            case .float8E4M3: MORIEP_FLOAT8_E4M3
            case .float8E4M3FNUZ: MORIEP_FLOAT8_E4M3FNUZ
            case .float8E5M2: MORIEP_FLOAT8_E5M2
            case .float4E2M1: MORIEP_FLOAT4_E2M1
            // Combine takes token types only; dispatch moves bytes.
            case .bfloat16, .int32, .uint8: MORIEP_BFLOAT16
            }
        return Int32(type.rawValue)
    }
}

extension Duration {
    /// Nanoseconds, at least 1; what 64 bits cannot hold is for ever.
    fileprivate var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (nanoseconds, carry) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflow || carry ? UInt64(Int64.max) : UInt64(max(1, nanoseconds))
    }
}

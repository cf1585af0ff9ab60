import CHIP
import MoriDevice

// Calls of the two verbs, as structs of moriep_operator.h.

extension OperatorKernels {
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
        staging.noteUse(on: stream)  // first: a copy may be enqueued when the next one fails
        let offset = MemoryLayout<moriep_control>.offset(of: \.timeout_ns) ?? 0
        for slot in 0..<Int(shape.slots) {
            try stream.copy(
                to: address(layout.control, slot: slot) + UInt(offset), from: staging.address,
                byteCount: 16)
        }
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
        var replays = false
        /// Whether a dispatch quantizes bf16 tokens to `elementType`.
        var quantizes = false
        /// Whether the kernels leave records.
        var isTraced = false
    }

    /// What a dispatch reads; a receiving half reads nothing.
    struct DispatchInput {
        var tokens: DeviceTensor
        var weights: DeviceTensor?
        var scales: DeviceTensor?
        var indices: DeviceTensor
        var validTokenCount: DeviceTensor?
        /// The round whose routes it takes; `indices` are that round's.
        var record: RoutingRecord?
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
        /// What is done with received rows on their own rank.
        case received = 2
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
        arguments.launch.traced = call.isTraced ? 1 : 0
        arguments.call = record(call)
        arguments.call.scale_bytes = hasScales ? Int32(shape.scale_bytes) : 0
        arguments.call.replays = call.replays ? 1 : 0
        arguments.signature = signature(arguments.call)
        arguments.token_count = Int32(tokenCount)
        arguments.call.quantization = Int32(
            call.quantizes
                ? MORIEP_QUANTIZATION_FP8_BLOCKWISE.rawValue : MORIEP_QUANTIZATION_NONE.rawValue)
        arguments.row_bytes = Int64(call.elementType.byteCount(of: call.hiddenDim))
        let inputType = call.quantizes ? .bfloat16 : call.elementType
        arguments.input_row_bytes = Int64(inputType.byteCount(of: call.hiddenDim))
        arguments.valid_token_count = UInt64(input?.validTokenCount?.address ?? 0)
        arguments.tokens = UInt64(input?.tokens.address ?? 0)
        arguments.weights = UInt64(input?.weights?.address ?? 0)
        arguments.scales = UInt64(input?.scales?.address ?? 0)
        arguments.indices = UInt64(input?.indices.address ?? 0)
        arguments.timeout_ns = call.timeout?.wholeNanoseconds ?? 0
        arguments.half = call.half.rawValue
        if let record = input?.record {
            try copyRoutes(from: record, toSlot: call.slot, on: stream)
        }
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
        arguments.launch.traced = call.isTraced ? 1 : 0
        arguments.call = record(call)
        arguments.call.external_input = isExternal ? 1 : 0
        arguments.call.quantization = shape.quantization
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

    /// 8 bits over everything in a call that ranks must agree on.
    ///
    /// Types and switches have 112 combinations, so calls that differ in these only never share their
    /// bits; the hidden size is hashed (FNV-1a, then murmur3's finalizer, without which sizes that
    /// differ a little often share theirs), so calls that differ in it do once in 256. The rest is the
    /// configuration's, which was compared in full.
    private func signature(_ call: moriep_call) -> UInt32 {
        let switches: [(value: Int32, count: UInt32)] = [
            (call.element_type, 7), (call.has_weights, 2), (call.external_input, 2),
            (call.scale_bytes == 0 ? 0 : 1, 2), (call.replays, 2),
            // What a peer receives is the same whether its sender quantized or was given fp8.
        ]
        let number = switches.reduce(UInt32(0)) { $0 * $1.count + UInt32($1.value) }
        var hash: UInt32 = 0x811C_9DC5
        for field in [call.verb, call.hidden] {
            for shift in stride(from: 0, to: 32, by: 8) {
                hash ^= (UInt32(bitPattern: field) >> UInt32(shift)) & 0xFF
                hash = hash &* 0x0100_0193
            }
        }
        hash = (hash ^ hash >> 16) &* 0x85EB_CA6B
        hash = (hash ^ hash >> 13) &* 0xC2B2_AE35
        return ((hash ^ hash >> 16) &+ number) & 0xFF
    }

    /// Blocks of a verb that can be resident at once with so many warps each.
    func maxResidentBlocks(
        _ verb: Verb, warpsPerBlock: Int, isTraced: Bool = false
    ) throws(MoriError) -> Int {
        var blocks: Int32 = 0
        try device.library.check(
            unsafe device.library.table.pointee.max_resident_blocks(
                Int32(device.ordinal), shape.kernel_type, verb.rawValue, Int32(warpsPerBlock),
                isTraced ? 1 : 0, &blocks), "max_resident_blocks")
        return Int(blocks)
    }
}

extension LaunchConfiguration {
    var raw: moriep_launch {
        var raw = moriep_launch()
        raw.blocks = Int32(blocks)
        raw.warps_per_block = Int32(warpsPerBlock)
        raw.rdma_blocks = Int32(rdmaBlocks)
        return raw
    }
}

extension CombineQuantization {
    var raw: Int32 {
        let value =
            switch self {
            case .none: MORIEP_QUANTIZATION_NONE
            case .fp8DirectCast: MORIEP_QUANTIZATION_FP8_DIRECT_CAST
            case .fp8Blockwise: MORIEP_QUANTIZATION_FP8_BLOCKWISE
            case .fp4Blockwise: MORIEP_QUANTIZATION_FP4_BLOCKWISE
            }
        return Int32(value.rawValue)
    }
}

extension ElementType {
    var raw: Int32 {
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
    /// Nanoseconds, at least 1: 0 means the operator's own timeout to kernels.
    fileprivate var wholeNanoseconds: UInt64 { UInt64(max(1, nanoseconds)) }
}

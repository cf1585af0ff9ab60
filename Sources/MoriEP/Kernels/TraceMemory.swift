import CHIP
import MoriDevice

/// Where one rank's traced kernels put their records (moriep_trace.h), and how they are read.
final class TraceMemory: Sendable {
    /// A record, taken apart.
    struct Record: Sendable {
        enum Kind: Int, Sendable {
            case begin, end, signal, came, gaveUp, value
        }
        var time: UInt64
        var kind: Kind
        /// moriep_trace_phase, or of a wait moriep_phase.
        var phase: Int
        var slot: Int
        var warp: Int
        var block: Int
        var epoch: Int
        var peer: Int
        var index: Int
        var value: Int
    }

    /// Everything recorded so far.
    struct Content: Sendable {
        var records: [Record] = []
        var lost = 0
        /// How often this rank's tokens chose each expert.
        var chosen: [Int] = []
    }

    private let device: Device
    private let capacity: Int
    private let expertCount: Int
    private let slotCount: Int
    /// A moriep_trace, and behind it the experts' counts.
    let header: DeviceBuffer
    private let records: DeviceBuffer
    /// The slots' moriep_control when the trace began.
    private let controls: DeviceBuffer
    /// Where the device tells its time.
    ///
    /// It stays as long as the rest: a runtime may wait for kernels before it gives memory back.
    let clockWord: DeviceBuffer

    init(capacity: Int, expertCount: Int, slotCount: Int, on device: Device) throws(MoriError) {
        self.device = device
        self.capacity = capacity
        self.expertCount = expertCount
        self.slotCount = slotCount
        header = try DeviceBuffer(
            byteCount: MemoryLayout<moriep_trace>.size + 4 * expertCount, on: device)
        records = try DeviceBuffer(
            zeroedPinnedByteCount: capacity * MemoryLayout<moriep_trace_record>.stride, on: device)
        controls = try DeviceBuffer(
            zeroedPinnedByteCount: slotCount * MemoryLayout<moriep_control>.stride, on: device)
        clockWord = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
    }

    /// Enqueues what makes the kernels of an operator record here from then on.
    func attach(to kernels: OperatorKernels, on stream: DeviceStream) throws(MoriError) {
        let staging = try DeviceBuffer(zeroedPinnedByteCount: header.byteCount, on: device)
        guard let trace = unsafe UnsafeMutablePointer<moriep_trace>(bitPattern: staging.address)
        else { return }
        unsafe trace.pointee.records = UInt64(records.address)
        unsafe trace.pointee.capacity = UInt64(capacity)
        for buffer in [staging, header, records, controls] { buffer.noteUse(on: stream) }
        try stream.copy(to: header.address, from: staging.address, byteCount: header.byteCount)
        let size = MemoryLayout<moriep_control>.stride
        for slot in 0..<slotCount {
            try stream.copy(
                to: controls.address + UInt(slot * size),
                from: kernels.address(kernels.layout.control, slot: slot), byteCount: size)
        }
        try kernels.point(toTrace: header.address, on: stream)
    }

    /// Reads it; the work that is to be seen is done.
    func read() async throws(MoriError) -> Content {
        let staging = try DeviceBuffer(byteCount: header.byteCount, kind: .pinned, on: device)
        let stream = try DeviceStream(on: device)
        try await stream.finish { () throws(MoriError) in
            try stream.copy(to: staging.address, from: header.address, byteCount: header.byteCount)
        }
        var content = Content()
        guard let trace = unsafe UnsafePointer<moriep_trace>(bitPattern: staging.address),
            let first = unsafe UnsafePointer<moriep_trace_record>(bitPattern: records.address),
            let control = unsafe UnsafePointer<moriep_control>(bitPattern: controls.address)
        else { return content }
        let claimed = Int(clamping: unsafe trace.pointee.claimed)
        let kept = min(claimed, capacity)
        content.lost = claimed - kept
        let counts = unsafe UnsafeRawPointer(trace + 1).assumingMemoryBound(to: UInt32.self)
        content.chosen = (0..<expertCount).map { unsafe Int(counts[$0]) }
        content.records.reserveCapacity(kept)
        for place in 0..<kept {
            let raw = unsafe first[place]
            // A launch that runs still may have taken a place and not filled it, or a part of it.
            guard raw.time_ns != 0, raw.what != 0, var record = Record(raw), record.slot < slotCount
            else {
                content.lost += 1
                continue
            }
            let base = unsafe Int(control[record.slot].epoch)
            record.epoch = base + (record.epoch - base) & 0xFFFF
            content.records.append(record)
        }
        return content
    }
}

extension TraceMemory.Record {
    /// nil for what no kernel writes.
    fileprivate init?(_ raw: moriep_trace_record) {
        func bits(_ from: UInt64, _ count: UInt64) -> Int {
            Int(raw.what >> from & (1 << count - 1))
        }
        guard let kind = Kind(rawValue: bits(0, 3)) else { return nil }
        time = raw.time_ns
        self.kind = kind
        phase = bits(3, 6)
        slot = bits(9, 4)
        warp = bits(13, 5)
        epoch = bits(18, 16)
        value = kind == .value ? bits(34, 30) : 0
        peer = kind == .value || bits(34, 9) == 0x1FF ? -1 : bits(34, 9)
        index = kind == .value ? 0 : bits(43, 10)
        block = kind == .value ? 0 : bits(53, 11)
    }

    /// What a phase is called.
    var name: String {
        Self.names[UInt32(phase)] ?? "phase \(phase)"
    }

    /// Whether it belongs to a wait, else to a launch.
    var isWait: Bool { phase < MORIEP_TRACE_DISPATCH_BEGIN.rawValue }

    /// Whether the value is the number of rows that a round received.
    var isReceivedRows: Bool { phase == Int(MORIEP_TRACE_RECEIVED_ROWS.rawValue) }

    private static let names: [UInt32: String] = [
        MORIEP_PHASE_ROUND_BARRIER.rawValue: "barrier",
        MORIEP_PHASE_DISPATCH_RECEIVE.rawValue: "wait for dispatch",
        MORIEP_PHASE_COMBINE_READY.rawValue: "wait for combine",
        MORIEP_PHASE_DISPATCH_FORWARD.rawValue: "wait for chunks",
        MORIEP_PHASE_COMBINE_RECEIVE.rawValue: "wait for sums",
        MORIEP_PHASE_STAGING.rawValue: "wait for own network: staging",
        MORIEP_PHASE_RING.rawValue: "wait for own network: ring",
        MORIEP_PHASE_DISPATCH_ORDER.rawValue: "wait for counts",
        MORIEP_TRACE_DISPATCH_BEGIN.rawValue: "dispatch begin",
        MORIEP_TRACE_DISPATCH_COUNT.rawValue: "dispatch count",
        MORIEP_TRACE_DISPATCH_ORDER.rawValue: "dispatch order",
        MORIEP_TRACE_DISPATCH_SEND.rawValue: "dispatch send",
        MORIEP_TRACE_DISPATCH_PLACE.rawValue: "dispatch place",
        MORIEP_TRACE_DISPATCH_AWAIT.rawValue: "dispatch await",
        MORIEP_TRACE_DISPATCH_FORWARD.rawValue: "dispatch forward",
        MORIEP_TRACE_DISPATCH_RECEIVE.rawValue: "dispatch receive",
        MORIEP_TRACE_DISPATCH_UNPACK.rawValue: "dispatch unpack",
        MORIEP_TRACE_COMBINE_SEND.rawValue: "combine send",
        MORIEP_TRACE_COMBINE_WAIT.rawValue: "combine wait",
        MORIEP_TRACE_COMBINE_FORWARD.rawValue: "combine forward",
        MORIEP_TRACE_COMBINE_OWN.rawValue: "combine own",
        MORIEP_TRACE_COMBINE_RECEIVE.rawValue: "combine receive",
        MORIEP_TRACE_COMBINE_REDUCE.rawValue: "combine reduce",
        MORIEP_TRACE_COUNT_EXPERTS.rawValue: "count experts",
        MORIEP_TRACE_PACK_EXPERTS.rawValue: "pack experts",
        MORIEP_TRACE_SUM_EXPERTS.rawValue: "sum experts",
    ]
}

/// What a trace's numbers of phases mean, for whoever reads the file.
package enum TracePhase {
    /// Whether a wait, or the signal that ends one, is of combine, else of dispatch.
    package static func isOfCombine(_ phase: Int) -> Bool {
        let ofCombine = [MORIEP_PHASE_COMBINE_READY, MORIEP_PHASE_COMBINE_RECEIVE]
        return ofCombine.contains { Int($0.rawValue) == phase }
    }
}

extension OperatorKernels {
    /// Enqueues that the slots' kernels find their trace there; 0: none.
    func point(toTrace address: UInt, on stream: DeviceStream) throws(MoriError) {
        let staging = try DeviceBuffer(byteCount: 8, kind: .pinned, on: device)
        guard let word = unsafe UnsafeMutablePointer<UInt64>(bitPattern: staging.address) else {
            return
        }
        unsafe word.pointee = UInt64(address)
        staging.noteUse(on: stream)
        let offset = MemoryLayout<moriep_control>.offset(of: \.trace) ?? 0
        for slot in 0..<Int(shape.slots) {
            try stream.copy(
                to: self.address(layout.control, slot: slot) + UInt(offset), from: staging.address,
                byteCount: 8)
        }
    }

    /// What the proxy does for this operator; nil where there is no network.
    var networkTrace: NetworkTrace? { network?.trace }
}

import CHIP
import MoriDevice
import MoriTestSupport
import Testing

/// The C ABI as both sides see it.
@Suite struct LayoutTests {
    private static func table() throws -> moriep_device_api {
        unsafe try KernelLibrary.load(.host).table.pointee
    }

    @Test func theTableTellsTheSizesOfSwiftsStructs() throws {
        let table = try Self.table()
        #expect(table.version == UInt32(MORIEP_API_VERSION))
        #expect(Int(table.byte_count) == MemoryLayout<moriep_device_api>.size)
        #expect(table.kind == Int32(MORIEP_DEVICE_HOST.rawValue))
        let sizes: [(UInt32, Int)] = [
            (table.size_of_properties, MemoryLayout<moriep_device_properties>.size),
            (table.size_of_shape, MemoryLayout<moriep_shape>.size),
            (table.size_of_layout, MemoryLayout<moriep_layout>.size),
            (table.size_of_control, MemoryLayout<moriep_control>.size),
            (table.size_of_failure, MemoryLayout<moriep_failure>.size),
            (table.size_of_operator, MemoryLayout<moriep_operator>.size),
            (table.size_of_dispatch, MemoryLayout<moriep_dispatch_arguments>.size),
            (table.size_of_combine, MemoryLayout<moriep_combine_arguments>.size),
            (table.size_of_received, MemoryLayout<moriep_received_arguments>.size),
            (table.size_of_clock_reading, MemoryLayout<moriep_clock_reading>.size),
        ]
        for (found, expected) in sizes { #expect(Int(found) == expected) }
    }

    /// What a framework's own code may rely on: no padding that a compiler could place otherwise.
    @Test func fieldsLieWhereTheHeaderPutsThem() throws {
        #expect(MemoryLayout<moriep_memory_handle>.size == 128)
        #expect(MemoryLayout<moriep_shape>.offset(of: \.dispatch_row_bytes) == 72)
        #expect(MemoryLayout<moriep_shape>.size == 96)
        #expect(MemoryLayout<moriep_call>.size == 40)
        #expect(MemoryLayout<moriep_launch>.size == 16)
        #expect(MemoryLayout<moriep_control>.offset(of: \.received_count) == 12)
        #expect(MemoryLayout<moriep_control>.offset(of: \.dropped_count) == 16)
        let timeout = try #require(MemoryLayout<moriep_control>.offset(of: \.timeout_ns))
        let first = try #require(MemoryLayout<moriep_control>.offset(of: \.first_timeout_ns))
        #expect(timeout % 8 == 0 && first == timeout + 8)
        #expect(MemoryLayout<moriep_failure>.offset(of: \.state) == 0)
        #expect(MemoryLayout<moriep_failure>.offset(of: \.expected) == 32)
        #expect(MemoryLayout<moriep_dispatch_arguments>.offset(of: \.op) == 0)
        #expect(MemoryLayout<moriep_combine_arguments>.offset(of: \.op) == 0)
    }

    static let shapes: [moriep_shape] = [
        shape(1, 1, 1, topK: 1, experts: 1, rows: (2, 2), scales: 0),
        shape(8, 128, 1024, topK: 8, experts: 256, rows: (14336, 28672), scales: 128),
        shape(3, 7, 5, topK: 5, experts: 9, rows: (130, 260), scales: 13),
        shape(64, 33, 2112, topK: 64, experts: 64, rows: (6, 12), scales: 1),
        shape(65, 4, 260, topK: 3, experts: 65, rows: (2, 4), scales: 0),
        shape(256, 16, 100, topK: 256, experts: 256, rows: (34, 34), scales: 8, slots: 3),
        shape(
            6, 9, 54, topK: 3, experts: 17, rows: (64, 64), scales: 0, isOrdered: true,
            hasMap: true),
        shape(
            5, 65, 300, topK: 3, experts: 10, rows: (130, 260), scales: 3,
            network: Network(kernelType: MORIEP_INTERNODE, nodeRanks: 2, queuePairs: 3)),
        shape(
            8, 1, 8, topK: 8, experts: 64, rows: (14336, 14336), scales: 0, slots: 2,
            network: Network(kernelType: MORIEP_ASYNC_LL, nodeRanks: 8, queuePairs: 1)),
        shape(
            12, 130, 1560, topK: 8, experts: 24, rows: (2, 6), scales: 1,
            network: Network(
                kernelType: MORIEP_INTERNODE_V1, nodeRanks: 5, queuePairs: 2, sections: 4)),
        shape(
            128, 64, 900, topK: 32, experts: 128, rows: (2048, 4096), scales: 64, slots: 2,
            network: Network(
                kernelType: MORIEP_INTERNODE_V1LL, nodeRanks: 8, queuePairs: 1, sections: 30)),
    ]

    /// What a shape has beyond IntraNode's.
    private struct Network {
        var kernelType = MORIEP_INTRANODE
        var nodeRanks: Int32
        var queuePairs: Int32 = 1
        var sections: Int32 = 0
    }

    private static func shape(
        _ ranks: Int32, _ tokens: Int32, _ received: Int32, topK: Int32, experts: Int32,
        rows: (Int64, Int64), scales: Int64, slots: Int32 = 1, network: Network? = nil,
        isOrdered: Bool = false, hasMap: Bool = false
    ) -> moriep_shape {
        let network = network ?? Network(nodeRanks: ranks)
        var shape = moriep_shape()
        shape.kernel_type = Int32(network.kernelType.rawValue)
        shape.world_size = ranks
        shape.max_tokens = tokens
        shape.max_received = received
        shape.experts_per_rank = (experts + ranks - 1) / ranks
        shape.expert_count = experts
        shape.top_k = topK
        shape.slots = slots
        shape.node_ranks = network.nodeRanks
        shape.queue_pairs = network.queuePairs
        shape.landing_sections = network.sections
        if network.kernelType != MORIEP_INTRANODE {
            shape.rings = 4
            shape.ring_entries = 256
        }
        shape.is_ordered = isOrdered ? 1 : 0
        shape.expert_map = hasMap ? 1 : 0
        shape.dispatch_row_bytes = rows.0
        shape.combine_row_bytes = rows.1
        shape.scale_bytes = scales
        return shape
    }

    /// Buffers are as large as their rows, aligned, and none begins before another ends.
    @Test(arguments: shapes.indices)
    func buffersHaveRoomAndDoNotOverlap(index: Int) throws {
        var shape = Self.shapes[index]
        var layout = moriep_layout()
        let library = try KernelLibrary.load(.host)
        try library.check(unsafe library.table.pointee.plan(&shape, &layout), "plan")
        let expected = ExpectedBuffers(shape)
        for buffers in [expected.symmetric(layout), expected.local(layout)] {
            for (name, offset, _) in buffers { #expect(offset % 256 == 0, "\(name)") }
            for (one, next) in zip(buffers, buffers.dropFirst()) {
                #expect(one.1 + one.2 <= next.1, "\(one.0) reaches into \(next.0)")
                #expect(next.1 < one.1 + one.2 + 256, "waste between \(one.0) and \(next.0)")
            }
        }
        let slots = UInt64(shape.slots)
        let rings = UInt64(shape.rings)
        #expect(layout.symmetric_bytes == slots * layout.symmetric_slot_bytes)
        #expect(layout.ring_tails == slots * layout.local_slot_bytes)
        #expect(layout.local_bytes == layout.ring_tails + rings * 64)
        let pinned: [(String, UInt64, UInt64)] = [
            ("failure", 0, UInt64(MemoryLayout<moriep_failure>.size)),
            ("consumed", layout.ring_consumed, rings * 64),
            ("completed", layout.slot_completed, rings > 0 ? slots * 64 : 0),
            ("descriptors", layout.ring_descriptors, rings * UInt64(shape.ring_entries) * 32),
            ("end", layout.pinned_bytes, 0),
        ]
        for (one, next) in zip(pinned, pinned.dropFirst()) {
            #expect(one.1 + one.2 <= next.1, "\(one.0) reaches into \(next.0)")
            #expect(next.1 < one.1 + one.2 + 256, "waste between \(one.0) and \(next.0)")
        }
    }

    @Test func shapesOfNothingHaveNoPlan() throws {
        let library = try KernelLibrary.load(.host)
        let changes: [(inout moriep_shape) -> Void] = [
            { $0.world_size = 0 }, { $0.world_size = 257 }, { $0.max_tokens = 0 },
            { $0.max_received = 0 }, { $0.top_k = 0 }, { $0.slots = 0 },
        ]
        for change in changes {
            var shape = Self.shapes[1]
            change(&shape)
            var layout = moriep_layout()
            #expect(
                unsafe library.table.pointee.plan(&shape, &layout) == MORIEP_INVALID_ARGUMENT)
        }
    }
}

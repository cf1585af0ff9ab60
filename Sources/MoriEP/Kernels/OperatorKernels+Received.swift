import CHIP
import MoriDevice

// What is done with received rows on their own rank, and the routes that a replay needs.

extension OperatorKernels {
    /// Which work on received rows.
    enum ReceivedWork: Int32 {
        case countExperts = 0
        case packExperts = 1
        case sumExperts = 2
    }

    /// The tensors of one such work; those that it does not need are nil.
    struct ReceivedTensors {
        var tokens: DeviceTensor?
        var indices: DeviceTensor?
        var weights: DeviceTensor?
        var scales: DeviceTensor?
        var layout: StandardMoELayout?
        var packed: DeviceTensor?
        var counts: DeviceTensor?
        var output: DeviceTensor?
    }

    /// Enqueues work on a slot's received rows; everything was validated.
    func received(
        _ work: ReceivedWork, _ tensors: ReceivedTensors, elementType: ElementType, rowBytes: Int,
        scaleBytes: Int, slot: Int, launch: LaunchConfiguration, isTraced: Bool,
        on stream: DeviceStream
    ) throws(MoriError) {
        var arguments = moriep_received_arguments()
        arguments.op = fields
        arguments.op.slot = Int32(slot)
        arguments.launch = launch.raw
        arguments.launch.traced = isTraced ? 1 : 0
        arguments.work = work.rawValue
        arguments.element_type = elementType.raw
        arguments.capacity = Int32(tensors.layout?.capacity ?? 0)
        arguments.row_bytes = Int64(rowBytes)
        arguments.scale_bytes = Int64(scaleBytes)
        let layout = tensors.layout
        let counts = tensors.counts ?? layout?.counts
        let packed = tensors.packed ?? layout?.tokens
        arguments.tokens = UInt64(tensors.tokens?.address ?? 0)
        arguments.indices = UInt64(tensors.indices?.address ?? 0)
        arguments.weights = UInt64(tensors.weights?.address ?? 0)
        arguments.scales = UInt64(tensors.scales?.address ?? 0)
        arguments.packed = UInt64(packed?.address ?? 0)
        arguments.packed_scales = UInt64(layout?.scales?.address ?? 0)
        arguments.packed_sources = UInt64(layout?.sources.address ?? 0)
        arguments.counts = UInt64(counts?.address ?? 0)
        arguments.overflow = UInt64(layout?.overflow.address ?? 0)
        arguments.output = UInt64(tensors.output?.address ?? 0)
        try device.library.check(
            unsafe device.library.table.pointee.received(stream.handle, &arguments), "received")
        // Callers may let go of their tensors at once.
        for tensor in [
            tensors.tokens, tensors.indices, tensors.weights, tensors.scales, packed, counts,
            layout?.scales, layout?.sources, layout?.overflow, tensors.output,
        ] {
            tensor?.noteUse(on: stream)
        }
        _ = stream.keepWithCapture(self)
    }

    /// Bytes of the routes of one round.
    var routeByteCount: Int { Int(layout.routes_end - layout.routes_begin) }

    private func routes(ofSlot slot: Int) -> UInt { address(layout.routes_begin, slot: slot) }

    /// Enqueues the copy of a slot's routes into a record.
    func copyRoutes(
        fromSlot slot: Int, to record: RoutingRecord, on stream: DeviceStream
    ) throws(MoriError) {
        try stream.copy(
            to: record.routes.address, from: routes(ofSlot: slot), byteCount: routeByteCount)
        record.routes.noteUse(on: stream)
    }

    /// Enqueues the copy of a record's routes into a slot.
    func copyRoutes(
        from record: RoutingRecord, toSlot slot: Int, on stream: DeviceStream
    ) throws(MoriError) {
        try stream.copy(
            to: routes(ofSlot: slot), from: record.routes.address, byteCount: routeByteCount)
        record.routes.noteUse(on: stream)
    }
}

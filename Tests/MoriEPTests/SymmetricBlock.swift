import CHIP
@testable import MoriEP
import MoriTestSupport

/// One rank's symmetric block of an operator with one slot, seen as bytes: for tests that must
/// know what was written where.
struct SymmetricBlock {
    let layout: moriep_layout
    private let start: UInt
    private let device: Device

    init(of op: EPDispatchCombineOp) throws {
        layout = try OperatorKernels.layout(op.config, worldSize: op.world.worldSize).layout
        start = try op.registeredCombineInput().address - UInt(layout.combine_input)
        device = op.world.device
    }

    /// The bytes between two offsets.
    func bytes(from: UInt64, to: UInt64) -> DeviceTensor {
        unsafe DeviceTensor(
            borrowing: start + UInt(from), shape: [Int(to - from)], elementType: .uint8,
            on: device)
    }

    /// Every byte behind the words.
    var buffers: DeviceTensor {
        bytes(from: layout.words_end, to: layout.symmetric_slot_bytes)
    }
}

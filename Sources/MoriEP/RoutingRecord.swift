import Synchronization

/// Where the tokens of one round went, to send others the same way.
///
/// A backward pass dispatches gradients to the rows where their tokens lay, and combines them back. The
/// record is this rank's part; every rank records the same round and replays it together.
///
/// The corresponding Python name is the routing handle of `dispatch(return_routing=True)`.
public final class RoutingRecord: Sendable {
    /// Whose rounds it can hold.
    let kernels: OperatorKernels
    /// A copy of the round's routes.
    let routes: DeviceBuffer
    /// A copy of its expert ids, i32 [maxInputTokensPerRank, top-k].
    let indices: DeviceTensor
    private let recorded: Locked<Int?>

    init(_ kernels: OperatorKernels, indices: DeviceTensor) throws(MoriError) {
        self.kernels = kernels
        self.indices = indices
        routes = try DeviceBuffer(byteCount: kernels.routeByteCount, on: indices.device)
        recorded = Locked(nil)
    }

    /// Tokens of the recorded round; nil: none was recorded yet.
    public var tokenCount: Int? { recorded.withLock { $0 } }

    func note(tokenCount: Int) { recorded.withLock { $0 = tokenCount } }
}

extension EPDispatchCombineOp {
    /// Allocates a record for a round of this operator.
    ///
    /// It may be recorded into as often as wanted; several may exist at once.
    ///
    /// - Throws: `outOfMemory`; `aborted`, `closed`.
    public func makeRoutingRecord() throws(MoriError) -> RoutingRecord {
        try checkUsable()
        let indices = try DeviceTensor(
            shape: [config.maxInputTokensPerRank, config.expertsPerToken], elementType: .int32,
            on: world.device)
        return try RoutingRecord(kernels, indices: indices)
    }

    /// Sends each token where the token of the same number went in a recorded round, into the same
    /// received row.
    ///
    /// Every rank replays its record of the same round. Does not block, does not synchronize, and may
    /// be captured in a graph.
    ///
    /// - Parameters:
    ///   - tokens: [n, hidden] with n the recorded round's; any hidden size and type that fits.
    ///   - weights: f32 [n, top-k], carried along; nil: none. All ranks alike.
    ///   - scales: As of `dispatch`.
    ///   - record: What an earlier `dispatch` recorded.
    ///   - launch: Blocks and warps of this call; nil: the configuration's.
    ///   - timeout: The deadline of this call's waits; nil: the operator's.
    ///   - stream: Where the work goes.
    /// - Returns: What this rank received, as `dispatch` gives it.
    /// - Throws: `invalidArgument` for a record of another operator, an empty one, or another number
    ///   of tokens; else as `dispatch`.
    ///
    /// The corresponding Python call is `dispatch` with `routing`.
    public func dispatch(
        _ tokens: DeviceTensor, weights: DeviceTensor? = nil, scales: DeviceTensor? = nil,
        replaying record: RoutingRecord, launch: LaunchConfiguration? = nil,
        timeout: Duration? = nil, on stream: DeviceStream
    ) throws(MoriError) -> DispatchOutput {
        try check(record)
        guard let count = record.tokenCount else {
            throw MoriError(
                .invalidArgument, "this record is empty; pass it to a dispatch as `recording` first"
            )
        }
        guard tokens.shape.first == count else {
            throw MoriError(
                .invalidArgument,
                "tokens are \(tokens); the recorded round had \(count) of them, and so must this")
        }
        let input = OperatorKernels.DispatchInput(
            tokens: tokens, weights: weights, scales: scales,
            indices: try record.indices.prefix(count), validTokenCount: nil, record: record)
        let (slot, round) = try begin(
            input, half: .both, launch: launch, timeout: timeout, on: stream)
        return output(of: round, slot: slot)
    }

    func check(_ record: RoutingRecord) throws(MoriError) {
        guard record.kernels === kernels else {
            try record.kernels.checkNotRetired("this record is of a round")
            throw MoriError(
                .invalidArgument,
                "this record is of another operator; make one with makeRoutingRecord() of this one")
        }
    }

    /// Enqueues the record of the round that was just enqueued.
    func record(
        _ record: RoutingRecord, slot: Int, indices: DeviceTensor, on stream: DeviceStream
    ) throws(MoriError) {
        try kernels.copyRoutes(fromSlot: slot, to: record, on: stream)
        let count = indices.shape[0]
        if count > 0 {
            try stream.copy(
                to: record.indices.address, from: indices.address, byteCount: indices.byteCount)
            record.indices.noteUse(on: stream)
            indices.noteUse(on: stream)
        }
        record.note(tokenCount: count)
    }
}

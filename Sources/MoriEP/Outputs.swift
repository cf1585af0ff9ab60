import Synchronization

/// What one rank received in a round.
///
/// Combined exactly once, or discarded.
///
/// Everything stays on the device. The tensors have the operator's full capacity; the first
/// `receivedTokenCount` rows are valid, once the work enqueued on the stream is done, until the
/// round is combined. They belong to the operator: its next round in the same slot overwrites them.
///
/// An output that is dropped is not lost: `EPDispatchCombineOp.reclaim()` gives it back.
public struct DispatchOutput: ~Copyable, Sendable {
    /// Received tokens, [capacity, hidden].
    public let tokens: DeviceTensor
    /// Their expert weights, f32 [capacity, top-k]: each source token's full row; nil when dispatch
    /// had none.
    public let weights: DeviceTensor?
    /// Their scales, [capacity, scaleDim] of the type given, or of their bytes as given; nil when dispatch
    /// had none.
    public let scales: DeviceTensor?
    /// Their expert ids, i32 [capacity, top-k]: each source token's full row, global ids.
    public let indices: DeviceTensor
    /// How many rows are valid, i32 [1].
    public let receivedTokenCount: DeviceTensor
    /// Tokens that this rank itself gave to dispatch.
    public let tokenCount: Int

    let lease: RoundLease
}

/// The sums that came back to one rank.
///
/// The tensors belong to the operator: its next round in the same slot overwrites them.
public struct CombineOutput: Sendable {
    /// One row for each token given to dispatch, [tokens, hidden]: the plain sum over the distinct
    /// ranks that it went to, in ascending order of ranks, in fp32, rounded once.
    ///
    /// A token that went nowhere gives zeros.
    public let tokens: DeviceTensor
    /// The sums of the weight rows given to combine, f32 [tokens, top-k]; nil when it had none.
    public let weights: DeviceTensor?
}

/// Where a received row came from.
public struct TokenPosition: Hashable, Sendable {
    /// The rank that sent it.
    public let rank: Int
    /// Its number among that rank's tokens.
    public let token: Int

    /// rank * maxInputTokensPerRank + token: the guide's encoding.
    public let rawValue: Int32
}

/// A dispatch whose packets are on their way: `dispatchReceive` takes them in.
///
/// Nothing of the device is held in between. Received exactly once, or discarded; one that is dropped
/// is not lost: `EPDispatchCombineOp.reclaimPendingDispatch()` gives it back.
///
/// The corresponding Python call is `dispatch_send`.
public struct PendingDispatch: ~Copyable, Sendable {
    /// Tokens that this rank gave to `dispatchSend`.
    public var tokenCount: Int { lease.round.tokenCount }

    let lease: RoundLease
}

/// A combine whose packets are on their way: `combineReceive` sums them.
///
/// Received exactly once, or discarded; one that is dropped is not lost:
/// `EPDispatchCombineOp.reclaimPendingCombine()` gives it back.
///
/// The corresponding Python call is `combine_send`.
public struct PendingCombine: ~Copyable, Sendable {
    let lease: RoundLease
}

/// Says of one round whether it was combined or discarded; a round that was neither is abandoned.
final class RoundLease: Sendable {
    let slot: Int
    let round: DispatchRound
    let stage: RoundStage
    /// Of the operator that it belongs to, which must outlive it to be told apart from others.
    let kernels: OperatorKernels
    private let abandon: @Sendable (RoundLease) -> Void
    private let isSettled = Atomic(false)

    init(
        slot: Int, round: DispatchRound, stage: RoundStage, kernels: OperatorKernels,
        abandon: @escaping @Sendable (RoundLease) -> Void
    ) {
        self.slot = slot
        self.round = round
        self.stage = stage
        self.kernels = kernels
        self.abandon = abandon
    }

    /// The round went on to its next stage, or ended.
    func settle() { isSettled.store(true, ordering: .releasing) }

    deinit {
        if !isSettled.load(ordering: .acquiring) { abandon(self) }
    }
}

/// How far a round is.
enum RoundStage: Hashable, Sendable {
    /// Between `dispatchSend` and `dispatchReceive`.
    case dispatchSent
    /// Received; the experts have it.
    case received
    /// Between `combineSend` and `combineReceive`.
    case combineSent(CombineCall)

    /// What stands for such a round.
    var name: String {
        switch self {
        case .dispatchSent: "a pending dispatch"
        case .received: "an output of dispatch"
        case .combineSent: "a pending combine"
        }
    }

    /// What gives it back.
    var reclaim: String {
        switch self {
        case .dispatchSent: "reclaimPendingDispatch()"
        case .received: "reclaim()"
        case .combineSent: "reclaimPendingCombine()"
        }
    }
}

/// What `combineReceive` must know of its `combineSend`.
struct CombineCall: Hashable, Sendable {
    /// Tokens that this rank gave to dispatch.
    var tokenCount: Int
    var elementType: ElementType
    var hiddenDim: Int
    var inputRows: Int
    var isExternal: Bool
    var hasWeights: Bool
}

/// What combine must know of the dispatch it belongs to.
struct DispatchRound: Hashable, Sendable {
    var tokenCount: Int
    var hiddenDim: Int
    var elementType: ElementType
    var scaleElementType: ElementType?
    var hasWeights: Bool
}

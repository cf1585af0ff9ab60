package import CHIP

// The failure record of moriep_operator.h as an error.

extension moriep_failure {
    private var phaseName: String {
        switch phase {
        case MORIEP_PHASE_ROUND_BARRIER.rawValue: "dispatch begin"
        case MORIEP_PHASE_DISPATCH_RECEIVE.rawValue: "dispatch receive"
        case MORIEP_PHASE_COMBINE_READY.rawValue: "combine ready"
        case MORIEP_PHASE_DISPATCH_FORWARD.rawValue: "dispatch forward"
        case MORIEP_PHASE_COMBINE_RECEIVE.rawValue: "combine receive"
        case MORIEP_PHASE_STAGING.rawValue: "dispatch begin (staging)"
        case MORIEP_PHASE_RING.rawValue: "descriptor ring"
        case MORIEP_PHASE_DISPATCH_ORDER.rawValue: "dispatch order"
        default: "phase \(phase)"
        }
    }

    /// Whether the wait was for this rank's own proxy.
    private var waitsForNetwork: Bool {
        phase == MORIEP_PHASE_STAGING.rawValue || phase == MORIEP_PHASE_RING.rawValue
    }

    /// Whether the peer's call could be read: it has a hidden size then.
    private var quotesPeer: Bool { peer_call.hidden != 0 }

    /// Whether a wait reached its deadline, here or at the rank that ended this round: then whoever was
    /// waited for may be a bystander.
    package var isUndecided: Bool {
        reason == MORIEP_FAILURE_TIMED_OUT.rawValue
            || reason == MORIEP_FAILURE_ABORTED.rawValue
                && cause == MORIEP_FAILURE_TIMED_OUT.rawValue
    }

    /// Whether some rank's host ended the round: it said why to the other hosts.
    package var wasEndedByHost: Bool {
        reason == MORIEP_FAILURE_ABORTED.rawValue && cause == MORIEP_FAILURE_ABORTED.rawValue
    }

    /// The ranks whose words had not come.
    package var waitsFor: [Int] {
        let words = [waits_for.0, waits_for.1, waits_for.2, waits_for.3]
        return (0..<256).filter { words[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
    }

    /// What the record says, for people and programs.
    package var error: MoriError { error(blaming: nil) }

    /// What the record says once it is known which ranks failed; nil: it is not.
    package func error(blaming culprits: [Int]?) -> MoriError {
        var error = ownError
        guard isUndecided, let culprits, !culprits.isEmpty else { return error }
        error.ranks = culprits
        let names = culprits.map(String.init).joined(separator: ", ")
        if reason == MORIEP_FAILURE_ABORTED.rawValue {
            let by = reporter >= 0 && reporter != rank ? "rank \(reporter)" : "a rank"
            error.message =
                "\(phaseName): \(by) reached the deadline of a wait and ended the round because of"
                + " rank \(names)"
        } else if !culprits.contains(Int(peer)) {
            error.message += "; that rank waited too, and rank \(names) is whom all waited for"
        }
        return error
    }

    private var ownError: MoriError {
        let wait = MoriError.Wait(
            phase: phaseName, rank: Int(rank), peer: Int(peer), expected: expected, found: found,
            epoch: Int(epoch))
        let milliseconds = waited_ns / 1_000_000
        let about = peer >= 0 ? [Int(peer)] : []
        switch reason {
        case MORIEP_FAILURE_TIMED_OUT.rawValue where waitsForNetwork:
            return MoriError(
                .timedOut,
                "\(phaseName): rank \(rank) waited \(milliseconds) ms in round \(epoch) for its own"
                    + " network to take or complete what it was given; is a peer's host or link"
                    + " down?", wait: wait, ranks: about)
        case MORIEP_FAILURE_TIMED_OUT.rawValue:
            return MoriError(
                .timedOut,
                "\(phaseName): rank \(rank) waited \(milliseconds) ms for rank \(peer) in round"
                    + " \(epoch); its last signal was of round \(found >> 32)", wait: wait,
                ranks: about)
        case MORIEP_FAILURE_LATER_EPOCH.rawValue:
            return MoriError(
                .ranksDisagree,
                "\(phaseName): rank \(rank) is in round \(epoch), rank \(peer) already in round"
                    + " \(found >> 32); every rank must dispatch and combine every round",
                wait: wait, ranks: [Int(rank), Int(peer)])
        case MORIEP_FAILURE_OTHER_CALL.rawValue:
            return MoriError(
                .ranksDisagree,
                "\(phaseName): rank \(rank) called with \(own_call.words), rank \(peer) with"
                    + " \(quotesPeer ? peer_call.words : "something else, on another node");"
                    + " all ranks must call alike", wait: wait,
                ranks: [Int(rank), Int(peer)])
        case MORIEP_FAILURE_TOKEN_COUNT.rawValue:
            return MoriError(
                .invalidArgument,
                "the device-side token count of rank \(rank) is"
                    + " \(Int64(bitPattern: found)); legal is 0 to \(expected)", wait: wait,
                ranks: [Int(rank)])
        case MORIEP_FAILURE_INPUT_ROWS.rawValue:
            return MoriError(
                .invalidArgument,
                "combine's input on rank \(rank) has \(found) rows; \(expected) were received",
                wait: wait, ranks: [Int(rank)])
        case MORIEP_FAILURE_OVERFLOW.rawValue:
            return MoriError(
                .capacityExceeded,
                "\(found) rows came for rank \(rank), which has room for \(expected); set"
                    + " maxTotalReceivedTokens to \(found) or more, or overflow to .drop",
                wait: wait, ranks: [Int(rank)])
        case MORIEP_FAILURE_RESOURCES.rawValue:
            return MoriError(
                .outOfMemory, "rank \(rank) had no memory or threads for a launch", wait: wait,
                ranks: [Int(rank)])
        default:
            let by = reporter >= 0 ? "rank \(reporter)" : "a rank"
            let because = peer >= 0 ? " because of rank \(peer)" : ""
            return MoriError(
                .aborted, "\(phaseName): \(by) ended the round\(because)", wait: wait,
                ranks: about)
        }
    }
}

extension moriep_call {
    fileprivate var words: String {
        let type = ElementType.named[element_type] ?? "type \(element_type)"
        let weights = has_weights != 0 ? "weights" : "no weights"
        let quantized = quantization == 0 ? "" : ", quantization \(quantization)"
        let tail =
            verb == Int32(MORIEP_VERB_COMBINE.rawValue)
            ? (external_input != 0 ? "external input" : "the registered buffer") + quantized
            : "\(scale_bytes) bytes of scales"
        let replay = replays != 0 ? ", replaying a recorded round" : ""
        return "\(type) of hidden \(hidden), \(weights), \(tail)\(replay)"
    }
}

extension ElementType {
    /// Names of the C ABI's element types.
    fileprivate static let named: [Int32: String] = Dictionary(
        uniqueKeysWithValues: [
            (MORIEP_BFLOAT16, ElementType.bfloat16), (MORIEP_FLOAT32, .float32),
            (MORIEP_FLOAT16, .float16), (MORIEP_FLOAT8_E4M3, .float8E4M3),
            (MORIEP_FLOAT8_E4M3FNUZ, .float8E4M3FNUZ), (MORIEP_FLOAT8_E5M2, .float8E5M2),
            (MORIEP_FLOAT4_E2M1, .float4E2M1),
        ].map { (Int32($0.0.rawValue), $0.1.description) })
}

import MoriDevice

/// What a launch moves: what tuning rules are looked up by.
struct LaunchWorkload: Hashable, Sendable {
    /// The tokens' element type, as `ElementType` spells it.
    var elementType: String
    /// Tokens of this rank.
    var tokenCount: Int
    /// Elements of a token.
    var hiddenDim: Int
    /// Top-k.
    var expertsPerToken: Int
    /// Whether combine reads its input in place; false for dispatch.
    var isZeroCopy = false
    /// How rows are quantized on their way: "none", "fp8_direct_cast", ...
    var quantization = "none"
}

/// A launch that was found to be fast for a workload.
struct TuningRule: Hashable, Sendable {
    /// The element type, or "fp8" for every fp8 format.
    var elementType: String
    var tokenCount: Int
    var hiddenDim: Int
    /// nil: any.
    var expertsPerToken: Int?
    /// nil: either.
    var isZeroCopy: Bool?
    /// nil: any.
    var quantization: String?
    var launch: LaunchConfiguration
    /// GB/s that whoever wrote the rule got; nil: unknown.
    var bandwidth: Double?
    /// Microseconds that whoever wrote the rule got; nil: unknown.
    var latency: Double?
    /// Where it stands in its file.
    var line: Int

    /// Names that a rule's dtype may have.
    static let elementTypes = [
        "bf16", "f16", "f32", "fp8_e4m3", "fp8_e4m3fnuz", "fp8_e5m2", "fp8", "fp4",
    ]
    /// Names that a rule's quant_type may have.
    static let quantizations = ["none", "fp8_direct_cast", "fp8_blockwise", "fp4_blockwise"]

    /// Whether the rule may be used for a workload at all.
    func covers(_ workload: LaunchWorkload) -> Bool {
        let isOfType =
            elementType == workload.elementType
            // The formats of fp8 differ in meaning and not in bytes.
            || (elementType == "fp8" && workload.elementType.hasPrefix("fp8_"))
        return isOfType
            && (isZeroCopy ?? workload.isZeroCopy) == workload.isZeroCopy
            && (quantization ?? workload.quantization) == workload.quantization
            && (expertsPerToken ?? workload.expertsPerToken) == workload.expertsPerToken
    }

    /// How badly a rule fits that covers the workload; compared from left to right, less is better.
    ///
    /// The hidden size first, the nearest where none is equal; then rules that name their top-k, the
    /// other keys, the format; of the numbers of tokens the smallest that is enough, else the largest.
    fileprivate func misfit(_ workload: LaunchWorkload) -> [Int] {
        [
            abs(hiddenDim - workload.hiddenDim),
            expertsPerToken == nil ? 1 : 0,
            (isZeroCopy == nil ? 1 : 0) + (quantization == nil ? 1 : 0),
            elementType == workload.elementType ? 0 : 1,
            tokenCount >= workload.tokenCount ? 0 : 1,
            abs(tokenCount - workload.tokenCount),
        ]
    }
}

extension Sequence<TuningRule> {
    /// The rule that fits best, the first of equally good ones; nil when none covers the workload.
    func best(for workload: LaunchWorkload) -> TuningRule? {
        filter { $0.covers(workload) }.min {
            $0.misfit(workload).lexicographicallyPrecedes($1.misfit(workload))
        }
    }
}

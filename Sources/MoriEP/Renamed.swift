// Code typed from the guide gets a fix-it: the Python names, unavailable, with the Swift ones.
// Excluded from the documentation.

/// What an unavailable declaration returns: nothing ever calls it.
func onlyRenamed(_ name: StaticString = #function) -> Never {
    fatalError("\(name) only tells the compiler the Swift name")
}

/// Renamed to `EPDispatchCombineConfig`.
@available(*, unavailable, renamed: "EPDispatchCombineConfig")
public typealias EpDispatchCombineConfig = EPDispatchCombineConfig

/// Renamed to `EPDispatchCombineOp`.
@available(*, unavailable, renamed: "EPDispatchCombineOp")
public typealias EpDispatchCombineOp = EPDispatchCombineOp

/// Renamed to `KernelType`.
@available(*, unavailable, renamed: "KernelType")
public typealias EpDispatchCombineKernelType = KernelType

extension KernelType {
    /// Renamed to `intraNode`.
    @available(*, unavailable, renamed: "intraNode")
    public static var IntraNode: KernelType { .intraNode }
    /// Renamed to `interNode`.
    @available(*, unavailable, renamed: "interNode")
    public static var InterNode: KernelType { .interNode }
    /// Renamed to `interNodeV1`.
    @available(*, unavailable, renamed: "interNodeV1")
    public static var InterNodeV1: KernelType { .interNodeV1 }
    /// Renamed to `interNodeV1LL`.
    @available(*, unavailable, renamed: "interNodeV1LL")
    public static var InterNodeV1LL: KernelType { .interNodeV1LL }
    /// Renamed to `asyncLL`.
    @available(*, unavailable, renamed: "asyncLL")
    public static var AsyncLL: KernelType { .asyncLL }
}

/// Which kernels move the tokens.
///
/// Raw values are the guide's.
///
/// The corresponding Python name is `EpDispatchCombineKernelType`.
public enum KernelType: Int, Hashable, Sendable, Codable, CaseIterable, CustomStringConvertible {
    /// One node; rows are written straight into the peers' memory.
    case intraNode = 0
    /// Several nodes; the readable baseline.
    case interNode = 1
    /// Several nodes; for throughput.
    case interNodeV1 = 2
    /// Several nodes; for latency.
    case interNodeV1LL = 3
    /// Several nodes; the fewest requests to each rank, received in a fixed order.
    case asyncLL = 4

    /// Whether ranks forward for their node: InterNodeV1 and InterNodeV1LL.
    var forwards: Bool { self == .interNodeV1 || self == .interNodeV1LL }

    /// The name on the command line and in JSON ("internode-v1ll").
    public var description: String {
        switch self {
        case .intraNode: "intranode"
        case .interNode: "internode"
        case .interNodeV1: "internode-v1"
        case .interNodeV1LL: "internode-v1ll"
        case .asyncLL: "async-ll"
        }
    }
}

/// Where combine finds the experts' output.
public enum CombineInput: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// In any tensor of the caller; its rows are pushed to the ranks they came from.
    case external
    /// In the operator's registered buffer, which peers read in place: zero copy.
    case registered = "zero-copy"

    /// The name on the command line and in JSON.
    public var description: String { rawValue }
}

/// In which order a rank receives rows.
public enum ReceiveOrder: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// As it happens to be fastest. InterNode and AsyncLL receive by source all the same.
    case unspecified
    /// By source rank, then by token: the same in every run. IntraNode exchanges counts first, for
    /// which its send waits for the lower ranks.
    case source

    /// The name in messages.
    public var description: String { rawValue }
}

/// What happens when more rows come than a rank has room for.
public enum ReceiveOverflow: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// Rows without room are left out of their sources' sums, and counted (`droppedTokenCount`).
    /// Where the order of reception is fixed, they are the last ones.
    case drop
    /// The round is void, with an error that says how much room was needed: on every rank, at the
    /// latest in its next round where it needed nothing of the full one.
    case fail

    /// The name in messages.
    public var description: String { rawValue }
}

/// What combine sends in place of bf16 rows.
///
/// The expert's output and the sums stay bf16. InterNodeV1 and InterNodeV1LL quantize what travels
/// between nodes only, each node's sum once, from fp32; the others every row.
///
/// The corresponding Python name is `quant_type`.
public enum CombineQuantization: String, Hashable, Sendable, Codable, CaseIterable,
    CustomStringConvertible
{
    /// The rows themselves.
    case none
    /// OCP E4M3 without scales: a finite magnitude above 448 becomes 448, an infinity a NaN.
    case fp8DirectCast = "fp8_direct_cast"
    /// OCP E4M3 with an fp32 scale a block.
    case fp8Blockwise = "fp8_blockwise"
    /// OCP E2M1, two in a byte, with an fp32 scale a block.
    case fp4Blockwise = "fp4_blockwise"

    /// The name in tuning rules and in JSON.
    public var description: String { rawValue }
}

/// How a kernel's work is laid out on the device.
public struct LaunchConfiguration: Hashable, Sendable, Codable, CustomStringConvertible {
    /// Blocks of the grid, 1 or more.
    ///
    /// The corresponding Python name is `block_num`.
    public var blocks: Int
    /// Of those, blocks for RDMA; only the inter-node kernels have some.
    ///
    /// The corresponding Python name is `rdma_block_num`.
    public var rdmaBlocks: Int
    /// Warps of each block, 1 or more.
    ///
    /// The corresponding Python name is `warp_num_per_block`.
    public var warpsPerBlock: Int

    /// Creates a configuration; the defaults are the guide's.
    public init(blocks: Int = 80, rdmaBlocks: Int = 0, warpsPerBlock: Int = 8) {
        self.blocks = blocks
        self.rdmaBlocks = rdmaBlocks
        self.warpsPerBlock = warpsPerBlock
    }

    /// "80x8", or "96x8 (64 rdma)".
    public var description: String {
        "\(blocks)x\(warpsPerBlock)" + (rdmaBlocks > 0 ? " (\(rdmaBlocks) rdma)" : "")
    }
}

import FoundationEssentials
import MoriDevice
import MoriEP

/// What a search found, for people and as a file of rules.
struct TuneReport: Sendable {
    enum Phase: String, Sendable, Encodable, CaseIterable {
        case dispatch
        case combine
    }

    /// One call's best launch.
    struct Row: Sendable {
        var phase: Phase
        var elementType: ElementType
        var tokens: Int
        var hidden: Int
        var topk: Int
        /// nil: either.
        var isZeroCopy: Bool?
        var quantization = CombineQuantization.none
        var defaultLaunch: LaunchConfiguration
        var launch: LaunchConfiguration
        var finding: LaunchSearch.Finding
    }

    let device: Device.Properties
    let kernel: KernelType
    let worldSize: Int
    /// Launches of dispatch and of combine that were tried.
    let tried: (dispatch: Int, combine: Int)
    private(set) var rows: [Row] = []

    init(
        device: Device.Properties, kernel: KernelType, worldSize: Int,
        tried: (dispatch: Int, combine: Int)
    ) {
        self.device = device
        self.kernel = kernel
        self.worldSize = worldSize
        self.tried = tried
    }

    mutating func add(_ row: Row) { rows.append(row) }

    /// The table that a user reads.
    var text: String {
        var lines = [
            "\(kernel) on \(device.name), \(worldSize) ranks; tried \(tried.dispatch) launches of"
                + " dispatch and \(tried.combine) of combine for each number of tokens",
            "",
            Self.columns([
                "tokens", "phase", "without rules", "us", "best", "us", "of it", "measured",
            ]),
        ]
        for row in rows {
            var phase = row.phase.rawValue
            if let isZeroCopy = row.isZeroCopy {
                phase += isZeroCopy ? ", zero-copy" : ", external"
            }
            lines.append(
                Self.columns([
                    "\(row.tokens)", phase, "\(row.defaultLaunch)",
                    "\(Int(row.finding.defaultTime.rounded()))",
                    row.launch == row.defaultLaunch ? "the same" : "\(row.launch)",
                    "\(Int(row.finding.time.rounded()))",
                    Self.ratio(row.finding.time, row.finding.defaultTime),
                    "\(row.finding.measurements)",
                ]))
        }
        lines.append("")
        lines.append(
            "us: median of the slowest rank's time. A launch replaces the one without rules where it is"
                + "\nfaster by more than both vary.")
        return lines.joined(separator: "\n") + "\n"
    }

    private static func ratio(_ a: Double, _ b: Double) -> String {
        guard b > 0 else { return "-" }
        let hundredths = Int((a / b * 100).rounded())
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }

    private static func columns(_ cells: [String]) -> String {
        let widths = [6, 20, 18, 9, 18, 9, 6, 9]
        return zip(cells, widths).enumerated().map { number, cell in
            let (text, width) = cell
            let blank = String(repeating: " ", count: max(0, width - text.count))
            return [1, 2, 4].contains(number) ? "  " + text + blank : blank + text
        }.joined().trimmingEnd()
    }

    /// The file that AUTO reads; docs/tuning.md describes it.
    func document(origin: String) -> TuningDocument {
        TuningDocument(
            origin: origin,
            tables: Phase.allCases.map { phase in
                TuningDocument.Table(
                    device: device.name,
                    architecture: String(device.architecture.prefix { $0 != ":" }),
                    kernel: kernel.description, ep_size: worldSize, phase: phase,
                    rules: rows.filter { $0.phase == phase }.map(TuningDocument.Rule.init))
            })
    }
}

/// A file of tuning rules, with the keys of docs/tuning.md.
struct TuningDocument: Encodable {
    struct Table: Encodable {
        let device: String
        let architecture: String
        let kernel: String
        let ep_size: Int
        let phase: TuneReport.Phase
        let rules: [Rule]
    }

    struct Rule: Encodable {
        let dtype: String
        let num_tokens: Int
        let hidden_dim: Int
        let topk: Int
        let zero_copy: Bool?
        let quant_type: String?
        let block_num: Int
        let rdma_block_num: Int
        let warp_per_block: Int
        let latency_us: Double

        init(_ row: TuneReport.Row) {
            dtype = row.elementType.rawValue
            num_tokens = row.tokens
            hidden_dim = row.hidden
            topk = row.topk
            zero_copy = row.isZeroCopy
            quant_type = row.phase == .combine ? row.quantization.rawValue : nil
            block_num = row.launch.blocks
            rdma_block_num = row.launch.rdmaBlocks
            warp_per_block = row.launch.warpsPerBlock
            latency_us = (row.finding.time * 10).rounded() / 10
        }
    }

    let version = "1.0"
    let origin: String
    let tables: [Table]

    private enum CodingKeys: String, CodingKey {
        case version, origin, tables
    }

    /// Replaces the file as a whole: a reader sees the old rules or the new ones.
    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try FilePlace(path).replace(with: Array(encoder.encode(self)), what: "the rules")
    }
}

extension String {
    fileprivate func trimmingEnd() -> String {
        var text = self
        while text.last == " " { text.removeLast() }
        return text
    }
}

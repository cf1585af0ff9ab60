import MoriEP

/// The results as people read them.
struct Report {
    private let result: BenchResult
    private var shape: BenchShape { result.shape }
    private var facts: RunFacts { result.facts }
    private var modes: [ModeResult] { [result.mode] + facts.otherModes }

    init(_ result: BenchResult) { self.result = result }

    /// The table of the guide's section 9, with the rooflines beside it.
    var text: String {
        var lines = heading
        lines.append("")
        lines.append(
            row(["", "received", "GB/s per", "GB/s all", "roofline", "of", "latency (us)"]))
        lines.append(row(["", "tokens", "rank", "ranks", "GB/s", "it", "p50", "p99", "max"]))
        for phase in phases { lines.append(row(phase.name, phase.result)) }
        lines.append("")
        if result.mode.network != nil {
            lines += bandwidths + [""] + requests + [""]
        }
        lines += closing
        return lines.joined(separator: "\n") + "\n"
    }

    /// A phase of a mode, with what the network had to do with it.
    private typealias Phase = (name: String, result: PhaseResult, network: NetworkVerbResult?)

    /// The dispatch of the first mode, then every mode's combine.
    private var phases: [Phase] {
        [("dispatch", result.mode.dispatch, result.mode.network?.dispatch)]
            + modes.map {
                ("combine, \($0.combineMode)", $0.combine, $0.network?.combine)
            }
    }

    private var heading: [String] {
        var types =
            shape.dispatchType == shape.combineType
            ? "\(shape.dispatchType)" : "\(shape.dispatchType), combined as \(shape.combineType)"
        if shape.quantizesDispatch { types = "bf16 sent as " + types }
        if shape.quantization != .none { types += " sent as \(shape.quantization)" }
        let experts = shape.ranks * shape.expertsPerRank
        let perNode =
            shape.ranks % shape.gpusPerNode == 0
            ? "\(shape.gpusPerNode)" : "up to \(shape.gpusPerNode)"
        let nodes = shape.nodes == 1 ? "1 node" : "\(shape.nodes) nodes of \(perNode)"
        return [
            "MoriEP \(shape.kernel) on \(facts.device) (\(facts.deviceName)):"
                + " \(shape.ranks) ranks (\(plural(shape.world))), \(nodes)",
            "\(shape.tokens) tokens a rank, hidden \(shape.hidden), \(types), top-\(shape.topk) of"
                + " \(experts) experts, \(shape.routing) routing, seed \(shape.seed)",
            "\(shape.iterations) rounds after \(result.mode.warmups) warm-ups; blocks x warps:"
                + " dispatch \(facts.dispatchLaunch), combine \(facts.combineLaunch)",
        ]
    }

    // -------------------------------------------------------------------------------------------
    // The network

    /// Total, XGMI and RDMA bandwidth as the guide's section 9 divides them.
    private var bandwidths: [String] {
        var lines = [row(["GB/s per rank", "", "total", "XGMI/peer", "RDMA"], bandwidthWidths)]
        for phase in phases {
            guard let network = phase.network else { continue }
            for (kind, tokens) in [
                ("logical", network.rdmaTokens), ("physical", network.rdmaTokensPhysical),
            ] {
                let total = phase.result.gbpsPerRank
                let received = phase.result.receivedTokens
                let rdma = received > 0 ? total * Double(tokens) / Double(received) : 0
                lines.append(
                    row(
                        [
                            phase.name, kind, fixed(total, 2), fixed(total - rdma, 2),
                            fixed(rdma, 2),
                        ],
                        bandwidthWidths))
            }
        }
        return lines
    }

    private let bandwidthWidths = [20, 10, 10, 10, 10]

    /// What one round asked of the network, next to the least that its routing needs.
    private var requests: [String] {
        let widths = [20, 10, 7, 12, 15, 15, 7, 13, 8, 13, 13]
        var lines = [
            row(
                ["", "work", "", "", "payload", "minimum", "of", "signal", "", "RDMA tokens"],
                widths),
            row(
                [
                    "one round", "requests", "posts", "completions", "bytes", "bytes", "it",
                    "bytes", "phases", "logical", "physical",
                ], widths),
        ]
        for phase in phases {
            guard let network = phase.network else { continue }
            let least = network.minimumBytes
            lines.append(
                row(
                    [
                        phase.name, "\(network.workRequests)", "\(network.posts)",
                        "\(network.completions)", "\(network.payloadBytes)", "\(least)",
                        least > 0 ? fixed(Double(network.payloadBytes) / Double(least), 3) : "-",
                        "\(network.signalBytes)", "\(network.phases)", "\(network.rdmaTokens)",
                        "\(network.rdmaTokensPhysical)",
                    ], widths))
        }
        return lines
    }

    private var closing: [String] {
        var lines = [
            facts.verified
                ? "verified: every received row and every combined row equals the oracle's, bit for"
                    + " bit" : "not verified (--no-verify)",
            "memory: \(fixed(Double(facts.peakMemoryBytes) / 1e9, 2)) GB for all ranks at the peak,"
                + " of which the operators planned up to"
                + " \(fixed(Double(facts.operatorBytesPerRank * shape.ranks) / 1e9, 2)) GB",
            "GB/s count received rows (tokens * hidden * bytes); latency is the longest over the"
                + " ranks; the roofline",
            "is a plain loop over the same buffers, run between the rounds, that moves only what"
                + " the phase must move",
        ]
        if let cost = result.mode.traceCost {
            lines.append(
                "traced rounds took \(fixed(cost, 3)) times as long as others in between: the median of"
                    + " \(shape.iterations) pairs")
        }
        if result.mode.network != nil {
            lines += [
                "RDMA = total * RDMA tokens / received tokens, XGMI/peer = the rest of the total;"
                    + " RDMA tokens are (token,",
                "node) pairs: logical with the own node, which is what upstream publishes, physical"
                    + " without it",
            ]
        }
        return lines
    }

    private func plural(_ world: WorldKind) -> String {
        world == .process ? "processes" : "threads"
    }

    private func row(_ name: String, _ phase: PhaseResult) -> String {
        row([
            name, "\(phase.receivedTokens)", fixed(phase.gbpsPerRank, 2),
            fixed(phase.gbpsTotal, 2),
            phase.rooflineLoop == nil ? "-" : fixed(phase.rooflineGbps, 2),
            phase.rooflineLoop == nil ? "-" : fixed(phase.rooflineRatio, 2),
            fixed(phase.p50Us, 0), fixed(phase.p99Us, 0),
            fixed(phase.maxUs, 0),
        ])
    }

    private func row(
        _ cells: [String], _ widths: [Int] = [20, 10, 10, 10, 10, 6, 14, 10, 10]
    ) -> String {
        var line = ""
        for (index, cell) in cells.enumerated() {
            let space = String(repeating: " ", count: max(0, widths[index] - cell.count))
            line += index == 0 ? cell + space : space + cell
        }
        return line
    }
}

/// A number with so many digits after the point.
private func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "-" }
    var scale = 1
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int((value.magnitude * Double(scale)).rounded())
    let sign = value < 0 && scaled > 0 ? "-" : ""
    guard digits > 0 else { return sign + "\(scaled)" }
    let fraction = "\(scaled % scale)"
    return sign + "\(scaled / scale)."
        + String(repeating: "0", count: digits - fraction.count) + fraction
}

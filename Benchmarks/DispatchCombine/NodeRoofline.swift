import CRoofline
import MoriDevice
import MoriOracle

/// What rows pass through on their way between nodes where the network is memory of this host: the
/// loops of InterNodeV1 and InterNodeV1LL, whose tokens make one packet for each other node.
///
/// The traffic of a phase on one rank, with n own tokens that make p packets and R rows of which r are
/// for the own node:
/// * dispatch: n tokens to p packets; p packets over the network; n tokens to r rows; what p packets
///   carry to the R - r others. For a rank's forwarding of others' packets stands that of its own:
///   over all ranks it is the same.
/// * combine: the sums of R - r rows to p packets; p packets over the network; the sums of r rows; the
///   sums of both to n tokens. External: a copy of R rows first.
struct NodeRoofline {
    /// Packets before the network, [p, hidden].
    private let staging: DeviceTensor
    /// Packets behind it, and the own node's sums: [p + n, hidden].
    private let landing: DeviceTensor
    private let routes: NodeRoutes

    /// Makes room for the packets of one rank.
    init(
        _ routes: Routes, rank: Int, nodes: Nodes, like rows: DeviceTensor, on device: Device
    ) throws(MoriError) {
        self.routes = NodeRoutes(routes, rank: rank, nodes: nodes)
        let packets = self.routes.packetCount
        func room(_ count: Int) throws(MoriError) -> DeviceTensor {
            try DeviceTensor(
                shape: [count, rows.shape[1]], elementType: rows.elementType, on: device)
        }
        staging = try room(packets)
        landing = try room(packets + self.routes.tokenCount)
    }

    /// The loop of a dispatch.
    func dispatch(tokens: DeviceTensor, received: DeviceTensor, threads: Int) -> RooflineRun {
        RooflineRun(
            steps: [
                .scatter(tokens, to: staging, routes.packets), network(),
                .scatter(tokens, to: received, routes.own),
                .scatter(landing, to: received, routes.forwarded),
            ], threads: threads)
    }

    /// The loop of a combine of rows that lie in `registered`, or come there from `external`.
    func combine(
        external: DeviceTensor?, registered: DeviceTensor, output: DeviceTensor, threads: Int
    ) -> RooflineRun {
        var steps: [RooflineRun.Step] = []
        if let external {
            let count = external.shape[0]
            steps.append(
                .scatter(external, to: registered, .oneEach(count, of: Array(0..<Int32(count)))))
        }
        steps += [
            .gather(registered, to: staging, routes.forwarded), network(),
            .gather(registered, to: landing, from: routes.packetCount, routes.own),
            .gather(landing, to: output, routes.sums),
        ]
        return RooflineRun(steps: steps, threads: threads)
    }

    /// What the network copies.
    private func network() -> RooflineRun.Step {
        let count = routes.packetCount
        return .scatter(staging, to: landing, .oneEach(count, of: Array(0..<Int32(count))))
    }
}

/// Which rows belong to which packets and sums.
private struct NodeRoutes {
    let tokenCount: Int
    let packetCount: Int
    /// For each own token its packets.
    var packets = RowTable()
    /// For each own token its rows at the own node.
    var own = RowTable()
    /// For each packet the rows that it carries.
    var forwarded = RowTable()
    /// For each own token its packets, and its own node's sum behind them all.
    var sums = RowTable()

    init(_ routes: Routes, rank: Int, nodes: Nodes) {
        let count = routes.workload.tokens[rank]
        let home = nodes.node(of: rank)
        // Rows as they would lie in the buffers of different peers, packets in those of nodes.
        let rows = RowTable.perDestination(routes, rank: rank)
        let nodesOfToken = (0..<count).map { token in
            routes.destinations(rank: rank, token: token).map { nodes.node(of: Int($0)) }
        }
        var next = [Int32](repeating: 0, count: nodes.count + 1)
        for visited in nodesOfToken {
            for node in Set(visited) where node != home { next[node + 1] += 1 }
        }
        for node in 1..<next.count { next[node] += next[node - 1] }
        var rowsOfPacket = [[Int32]](repeating: [], count: Int(next[nodes.count]))
        for (token, visited) in nodesOfToken.enumerated() {
            let places = rows.rows[Int(rows.starts[token])..<Int(rows.starts[token + 1])]
            let byNode = Dictionary(grouping: zip(visited, places)) { $0.0 }
            let others = byNode.keys.filter { $0 != home }.sorted()
            let numbers = others.map { next[$0] }
            for (node, number) in zip(others, numbers) {
                rowsOfPacket[Int(number)] = byNode[node, default: []].map(\.1)
                next[node] += 1
            }
            own.append(byNode[home, default: []].map(\.1))
            packets.append(numbers)
            let sum = Int32(rowsOfPacket.count + token)
            sums.append(byNode[home] == nil ? numbers : numbers + [sum])
        }
        for rows in rowsOfPacket { forwarded.append(rows) }
        let least = routes.traffic.sources[rank]
        precondition(
            rowsOfPacket.count == least.physicalTokens && forwarded.rows.count == least.remoteRows,
            "the loops of rank \(rank) do not move what its tokens ask for")
        tokenCount = count
        packetCount = rowsOfPacket.count
    }
}

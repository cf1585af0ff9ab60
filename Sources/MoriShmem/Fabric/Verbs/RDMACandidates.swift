/// The ports of one host that a rank may use, nearest first, and why the others are rejected.
package struct RDMACandidates: Hashable, Sendable {
    /// A port that may be used.
    package struct Candidate: Hashable, Sendable {
        /// The NIC's name.
        package var nic: String
        /// The port.
        package var port: Int
        /// 0 for the nearest ports, 1 for the next nearest, and so on.
        package var group: Int
        /// The GID for each way to reach peers, the best of each, best way first.
        package var gids: [RDMAGID]

        /// How peers can be reached.
        package var transports: [RDMATransport] { gids.map(\.transport) }
        /// "mlx5_0:1".
        package var name: String { "\(nic):\(port)" }
    }

    /// What may be used: nearest first, then as MORI_RDMA_DEVICES lists them, then by name.
    package var usable: [Candidate] = []
    /// "mlx5_1:1 (its state is PORT_DOWN)", for each port or NIC that may not.
    package var rejected: [String] = []

    /// Sorts a host's ports.
    ///
    /// - Parameters:
    ///   - nics: The NICs of the host.
    ///   - list: What MORI_RDMA_DEVICES says.
    ///   - gidIndex: What MORI_IB_GID_INDEX says.
    ///   - location: Where the rank's device is.
    package init(
        of nics: [RDMANIC], list: RDMADeviceList, gidIndex: Int?, near location: HostLocation
    ) {
        var found: [(distance: HostDistance, position: Int, candidate: Candidate)] = []
        for nic in nics {
            if let problem = nic.problem { rejected.append("\(nic.name) (\(problem))") }
            for port in nic.ports {
                let name = "\(nic.name):\(port.number)"
                guard let position = list.position(of: nic, port) else {
                    rejected.append("\(name) (not wanted by MORI_RDMA_DEVICES)")
                    continue
                }
                guard port.isActive else {
                    rejected.append("\(name) (its state is \(port.state))")
                    continue
                }
                let gids = Self.gids(of: port, index: gidIndex)
                guard !gids.isEmpty else {
                    rejected.append("\(name) (\(Self.missing(in: port, index: gidIndex)))")
                    continue
                }
                let candidate = Candidate(nic: nic.name, port: port.number, group: 0, gids: gids)
                found.append((nic.location.distance(to: location), position, candidate))
            }
        }
        found.sort {
            ($0.distance, $0.position) == ($1.distance, $1.position)
                ? $0.candidate.name.isBefore($1.candidate.name)
                : ($0.distance, $0.position) < ($1.distance, $1.position)
        }
        var group = 0
        for (index, entry) in found.enumerated() {
            if index > 0, found[index - 1].distance != entry.distance { group += 1 }
            var candidate = entry.candidate
            candidate.group = group
            usable.append(candidate)
        }
    }

    /// The best GID for each way to reach peers: the first of its kind in the table.
    private static func gids(of port: RDMAPort, index: Int?) -> [RDMAGID] {
        let legal = port.gids.filter { index == nil || $0.index == index }
        return RDMATransport.allCases.compactMap { transport in
            legal.filter { $0.transport == transport }.min { $0.index < $1.index }
        }
    }

    private static func missing(in port: RDMAPort, index: Int?) -> String {
        guard let index else { return "its GID table is empty; has its interface an address?" }
        let indices = port.gids.map { String($0.index) }.joined(separator: ", ")
        return "MORI_IB_GID_INDEX is \(index), and the entries in use are "
            + (indices.isEmpty ? "none" : indices)
    }
}

extension String {
    /// Whether this name comes first: numbers in it count as numbers, so mlx5_2 before mlx5_10.
    func isBefore(_ other: String) -> Bool {
        let own = runs
        let others = other.runs
        for (left, right) in zip(own, others) where left != right {
            if let low = Int(left), let high = Int(right), low != high { return low < high }
            return left < right
        }
        return own.count < others.count
    }

    /// The longest pieces of digits and of other characters.
    private var runs: [String] {
        var runs: [String] = []
        for character in self {
            if let last = runs.last?.last, last.isNumber == character.isNumber {
                runs[runs.count - 1].append(character)
            } else {
                runs.append(String(character))
            }
        }
        return runs
    }
}

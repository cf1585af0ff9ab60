package import MoriDevice

/// What MORI_RDMA_DEVICES says: which NICs and ports may be used.
package struct RDMADeviceList: Hashable, Sendable {
    /// A NIC, or one of its ports.
    package struct Entry: Hashable, Sendable, CustomStringConvertible {
        /// The NIC's name.
        package var name: String
        /// The port; nil for all.
        package var port: Int?

        /// "mlx5_0", "mlx5_0:1".
        package var description: String { port.map { "\(name):\($0)" } ?? name }

        func covers(_ nic: RDMANIC, _ port: RDMAPort) -> Bool {
            name == nic.name && (self.port == nil || self.port == port.number)
        }
    }

    /// The entries, in the order written; with none, every NIC may be used.
    package var entries: [Entry]
    /// Whether these are the ones that may not be used.
    package var isExclusion: Bool

    /// Every NIC.
    package static let all = RDMADeviceList(entries: [], isExclusion: true)

    private init(entries: [Entry], isExclusion: Bool) {
        self.entries = entries
        self.isExclusion = isExclusion
    }

    /// Reads "mlx5_0,mlx5_1:1" or "^mlx5_2"; nil for what is no such list.
    package init?(_ text: String) {
        isExclusion = text.hasPrefix("^")
        entries = []
        let list = isExclusion ? text.dropFirst() : text[...]
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: ":", omittingEmptySubsequences: false)
            guard let name = halves.first, Self.isName(name), halves.count <= 2 else { return nil }
            var entry = Entry(name: String(name))
            if halves.count == 2 {
                guard let port = Int(halves[1]), (1...255).contains(port) else { return nil }
                entry.port = port
            }
            entries.append(entry)
        }
    }

    /// What is legal, for the error.
    package static let legal =
        "NICs separated by commas, like mlx5_0,mlx5_1 or mlx5_0:1 for one port, or ^ and those to"
        + " leave out, like ^mlx5_2,mlx5_3"

    private static func isName(_ text: Substring) -> Bool {
        !text.isEmpty
            && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_-.".contains($0)) }
    }

    /// Whether several NICs are named as those to use.
    package var namesSeveral: Bool { !isExclusion && entries.count > 1 }

    /// Refuses names that no NIC here has.
    ///
    /// - Throws: `invalidConfiguration` with the NICs that there are.
    package func check(against nics: [RDMANIC]) throws(MoriError) {
        for entry in entries {
            let isKnown = nics.contains { nic in
                nic.name == entry.name
                    && (entry.port == nil || nic.ports.contains { $0.number == entry.port })
            }
            guard !isKnown else { continue }
            let seen = nics.flatMap { nic in
                nic.ports.isEmpty ? [nic.name] : nic.ports.map { "\(nic.name):\($0.number)" }
            }
            throw MoriError(
                .invalidConfiguration,
                "MORI_RDMA_DEVICES names \(entry), which this host does not have; it has "
                    + (seen.isEmpty ? "no RDMA NIC" : seen.joined(separator: ", ")))
        }
    }

    /// The place of a port in the list of those to use; 0 where the list has no order; nil where
    /// the port may not be used.
    package func position(of nic: RDMANIC, _ port: RDMAPort) -> Int? {
        let index = entries.firstIndex { $0.covers(nic, port) }
        if isExclusion { return index == nil ? 0 : nil }
        return index
    }
}

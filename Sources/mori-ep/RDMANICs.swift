import MoriDevice
import MoriShmem

/// The RDMA NICs of this host, as `mori-ep info` shows them.
enum RDMANICs {
    /// A line for each port and its addresses, or the reason why there is none.
    static func lines() -> [String] {
        let nics: [RDMANIC]
        do throws(MoriError) {
            nics = try RDMAHost.nics()
        } catch {
            return ["none: \(error)"]
        }
        guard !nics.isEmpty else { return ["none: libibverbs lists no NIC"] }
        return nics.flatMap { nic -> [String] in
            if let problem = nic.problem { return ["\(nic.name): cannot be used: \(problem)"] }
            return nic.ports.flatMap { [describe($0, of: nic)] + $0.gids.map(describe) }
        }
    }

    private static func describe(_ port: RDMAPort, of nic: RDMANIC) -> String {
        let node = nic.location.numaNode.map { "NUMA node \($0)" } ?? "no NUMA node"
        let layer = port.linkLayer == .ethernet ? "Ethernet" : "InfiniBand"
        return "\(nic.name):\(port.number): \(port.state), \(layer), MTU \(port.mtu),"
            + " \(nic.location.pciPath.last ?? "on no PCI bus"), \(node)"
    }

    private static func describe(_ gid: RDMAGID) -> String {
        "  GID \(gid.index): \(gid.text) (\(gid.transport))"
    }
}

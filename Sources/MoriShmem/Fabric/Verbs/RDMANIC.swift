/// Where a NIC or a device sits in this host.
package struct HostLocation: Hashable, Sendable {
    /// The NUMA node; nil where the system does not tell.
    package var numaNode: Int?
    /// The bridges and functions from the PCI root down to it, as sysfs names them; empty where it
    /// is on no PCI bus, or the host's processor itself.
    package var pciPath: [String]

    /// Takes what sysfs says.
    package init(numaNode: Int? = nil, pciPath: [String] = []) {
        self.numaNode = numaNode
        self.pciPath = pciPath
    }

    /// How far it is to another place, for comparison only.
    package func distance(to other: HostLocation) -> HostDistance {
        let numa =
            switch (numaNode, other.numaNode) {
            case (let own?, let others?): own == others ? HostDistance.NUMA.same : .other
            default: HostDistance.NUMA.unknown
            }
        // Without both paths nothing is known, which must not make one NIC nearer than another.
        guard !pciPath.isEmpty, !other.pciPath.isEmpty else {
            return HostDistance(numa: numa, hops: .max)
        }
        let common = zip(pciPath, other.pciPath).prefix { $0 == $1 }.count
        return HostDistance(numa: numa, hops: pciPath.count + other.pciPath.count - 2 * common)
    }
}

/// How far two places of a host are apart: first by NUMA node, then by PCI hops.
package struct HostDistance: Hashable, Comparable, Sendable {
    /// The NUMA nodes of both.
    package enum NUMA: Int, Sendable {
        /// One node.
        case same
        /// The system does not tell for one of them.
        case unknown
        /// Two nodes.
        case other
    }

    /// The NUMA nodes of both.
    package var numa: NUMA
    /// The steps up to the bridge that both hang below, and down again.
    package var hops: Int

    /// Nearer first.
    package static func < (left: HostDistance, right: HostDistance) -> Bool {
        (left.numa.rawValue, left.hops) < (right.numa.rawValue, right.hops)
    }
}

/// An RDMA NIC of this host, as libibverbs and sysfs describe it.
package struct RDMANIC: Hashable, Sendable {
    /// Its name ("mlx5_0").
    package var name: String
    /// Where it sits.
    package var location: HostLocation
    /// Its ports, by number.
    package var ports: [RDMAPort]
    /// Why it cannot be used at all; nil when it can.
    package var problem: String?

    /// Takes what was found.
    package init(
        name: String, location: HostLocation = HostLocation(), ports: [RDMAPort] = [],
        problem: String? = nil
    ) {
        self.name = name
        self.location = location
        self.ports = ports
        self.problem = problem
    }
}

/// A port of a NIC.
package struct RDMAPort: Hashable, Sendable {
    /// What is behind a port.
    package enum LinkLayer: Hashable, Sendable {
        /// InfiniBand: peers are reached by LID.
        case infiniBand
        /// Ethernet: peers are reached by GID, RoCE.
        case ethernet
    }

    /// Its number, from 1.
    package var number: Int
    /// Its state, in libibverbs' words ("PORT_ACTIVE").
    package var state: String
    /// Whether packets can go out.
    package var isActive: Bool
    /// What is behind it.
    package var linkLayer: LinkLayer
    /// The local identifier; 0 where there is none.
    package var localIdentifier: UInt16
    /// Bytes of a packet's payload, at most.
    package var mtu: Int
    /// Bytes of one message, at most.
    package var maxMessageByteCount: Int
    /// Whether every packet needs the global header.
    package var needsGlobalRoute: Bool
    /// The entries of its GID table that are in use, by index.
    package var gids: [RDMAGID]

    /// Takes what was found.
    package init(
        number: Int = 1, state: String = "PORT_ACTIVE", isActive: Bool = true,
        linkLayer: LinkLayer = .ethernet, localIdentifier: UInt16 = 0, mtu: Int = 1024,
        maxMessageByteCount: Int = 1 << 31, needsGlobalRoute: Bool = false, gids: [RDMAGID] = []
    ) {
        self.number = number
        self.state = state
        self.isActive = isActive
        self.linkLayer = linkLayer
        self.localIdentifier = localIdentifier
        self.mtu = mtu
        self.maxMessageByteCount = maxMessageByteCount
        self.needsGlobalRoute = needsGlobalRoute
        self.gids = gids
    }
}

/// An entry of a port's GID table: one of the port's global addresses.
package struct RDMAGID: Hashable, Sendable {
    /// What packets with this address look like.
    package enum Kind: Hashable, Sendable {
        /// InfiniBand's own.
        case infiniBand
        /// RoCE v1: straight in Ethernet frames, not routable.
        case roceV1
        /// RoCE v2: in UDP.
        case roceV2
    }

    /// Its place in the table.
    package var index: Int
    /// Its 16 bytes, in network order.
    package var bytes: [UInt8]
    /// What packets look like.
    package var kind: Kind

    /// Takes an entry.
    package init(index: Int, bytes: [UInt8], kind: Kind) {
        self.index = index
        self.bytes = bytes
        self.kind = kind
    }

    /// How peers that use this address are reached.
    package var transport: RDMATransport {
        switch kind {
        case .infiniBand: .infiniBand
        case .roceV1: .roceV1
        case .roceV2:
            if address?.bytes.count == 4 {
                .roceV2OverIPv4
            } else if bytes.starts(with: [0xfe, 0x80]) {
                .roceV2OverLinkLocal
            } else {
                .roceV2OverIPv6
            }
        }
    }

    /// As an IP address: "10.0.0.5", "fe80::1".
    package var text: String { address?.description ?? "?" }

    /// The IP address that it stands for.
    var address: IPAddress? { IPAddress(bytes: bytes) }
}

/// How peers reach each other; both ends must use the same.
///
/// The best comes first.
package enum RDMATransport: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    /// InfiniBand, by LID.
    case infiniBand
    /// RoCE v2 with IPv4 addresses: routable, and what networks are set up for.
    case roceV2OverIPv4
    /// RoCE v2 with global IPv6 addresses.
    case roceV2OverIPv6
    /// RoCE v2 with addresses that hold for one link only.
    case roceV2OverLinkLocal
    /// RoCE v1: one Ethernet segment only.
    case roceV1

    /// "RoCE v2 over IPv4".
    package var description: String {
        switch self {
        case .infiniBand: "InfiniBand"
        case .roceV2OverIPv4: "RoCE v2 over IPv4"
        case .roceV2OverIPv6: "RoCE v2 over IPv6"
        case .roceV2OverLinkLocal: "RoCE v2 over link-local IPv6"
        case .roceV1: "RoCE v1"
        }
    }
}

import NIOCore

/// Which source addresses a store talks to.
enum PeerFilter: Hashable, Sendable {
    /// All; the secret keeps strangers out.
    case anyone
    /// This host only: all ranks are here.
    case loopback
    /// The addresses of the world's hosts, and this host.
    case hosts(Set<IPAddress>)
    /// The hosts in a subnet of one of this host's interfaces, and this host. What is left where
    /// neither a secret nor a list of hosts is known.
    case neighbours([NetworkInterface])

    /// Whether the store talks to a peer with this source address.
    func accepts(_ source: SocketAddress?) -> Bool {
        guard let source = IPAddress(source) else { return false }
        if source.isLoopback { return true }
        return switch self {
        case .anyone: true
        case .loopback: false
        case .hosts(let addresses): addresses.contains(source)
        case .neighbours(let interfaces):
            interfaces.contains { interface in
                interface.mask.map { interface.address.shares(subnet: $0, with: source) }
                    ?? (interface.address == source)
            }
        }
    }
}

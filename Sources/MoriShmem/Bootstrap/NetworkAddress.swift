import Glibc
import MoriDevice
import NIOCore
import NIOPosix

/// An IP address without a port; IPv4 in IPv6's clothes counts as IPv4.
struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// 4 or 16 bytes, in network order.
    let bytes: [UInt8]

    /// Creates an address from 4 or 16 bytes; nil for any other number.
    init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        self.bytes = bytes.starts(with: mapped) ? Array(bytes[12...]) : bytes
    }

    /// The address of a socket; nil for a Unix domain socket.
    init?(_ address: SocketAddress?) {
        guard let found = unsafe address?.withSockAddr({ pointer, _ in unsafe ipAddress(pointer) })
        else { return nil }
        self = found
    }

    /// Reads "10.0.0.5" or "fd00::5"; nil for anything else, names included.
    init?(_ text: String) { self.init(try? SocketAddress(ipAddress: text, port: 0)) }

    /// Whether it names the host itself.
    var isLoopback: Bool {
        bytes.count == 4
            ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1
    }

    /// Every IPv4 address of the host.
    static let anyIPv4 = IPAddress(v4: 0, 0, 0, 0)
    /// Every address of the host.
    static let anyIPv6 = IPAddress(repeating: 0)
    /// 127.0.0.1.
    static let loopback = IPAddress(v4: 127, 0, 0, 1)

    private init(v4 a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) { bytes = [a, b, c, d] }
    private init(repeating byte: UInt8) { bytes = [UInt8](repeating: byte, count: 16) }

    /// The address with a port, `0..<65536`.
    func socketAddress(port: Int) throws -> SocketAddress {
        try SocketAddress(packedIPAddress: ByteBuffer(bytes: bytes), port: port)
    }

    /// Whether both lie in one subnet of this mask.
    func shares(subnet mask: IPAddress, with other: IPAddress) -> Bool {
        guard bytes.count == other.bytes.count, bytes.count == mask.bytes.count else {
            return false
        }
        return bytes.indices.allSatisfy {
            bytes[$0] & mask.bytes[$0] == other.bytes[$0] & mask.bytes[$0]
        }
    }

    /// The usual notation.
    var description: String { (try? socketAddress(port: 0))?.ipAddress ?? "?" }
}

/// An interface of this host that is up, with one of its addresses.
struct NetworkInterface: Hashable, Sendable {
    /// The name ("eth0").
    var name: String
    /// One address; an interface with several appears several times.
    var address: IPAddress
    /// The mask of the address's subnet.
    var mask: IPAddress?

    /// The interfaces of this host that are up and have an IP address.
    static func all() throws(MoriError) -> [NetworkInterface] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&list) == 0 else {
            throw MoriError(
                .networkFailure, "the network interfaces of this host cannot be listed",
                cause: .errno(call: "getifaddrs", code: errno))
        }
        defer { unsafe freeifaddrs(list) }
        var found: [NetworkInterface] = []
        var next = unsafe list
        while let entry = unsafe next?.pointee {
            unsafe next = entry.ifa_next
            let needed = UInt32(IFF_UP)
            guard unsafe entry.ifa_flags & needed == needed,
                let address = unsafe ipAddress(entry.ifa_addr)
            else { continue }
            found.append(
                NetworkInterface(
                    name: unsafe String(cString: entry.ifa_name), address: address,
                    mask: unsafe ipAddress(entry.ifa_netmask)))
        }
        return found
    }

    /// The address that other hosts shall use for this one.
    ///
    /// - Parameters:
    ///   - wanted: The name of an interface, as MORI_SOCKET_IFNAME gives it; nil for the first that
    ///     is up, is not loopback and has an IPv4 address, else loopback.
    ///   - interfaces: The interfaces to choose from.
    /// - Returns: The address.
    /// - Throws: `.invalidConfiguration` when there is no such interface; names those there are.
    static func address(
        of wanted: String?, among interfaces: [NetworkInterface]
    ) throws(MoriError) -> IPAddress {
        // IPv4 first, as the original does, because more networks route it.
        let ordered = interfaces.sorted { $0.address.bytes.count < $1.address.bytes.count }
        guard let wanted else {
            let first = ordered.first { !$0.address.isLoopback && $0.address.bytes.count == 4 }
            return first?.address ?? .loopback
        }
        guard let match = ordered.first(where: { $0.name == wanted }) else {
            let names = Set(interfaces.map(\.name)).sorted().joined(separator: ", ")
            throw MoriError(
                .invalidConfiguration,
                "no network interface \"\(wanted)\" is up with an IP address; there are: \(names)")
        }
        return match.address
    }
}

/// The addresses of a host name or of an address in text form; empty when there are none.
///
/// Asks the resolver on a thread of NIO's pool, because it may block.
func addresses(of host: String) async -> [IPAddress] {
    if let literal = IPAddress(host) { return [literal] }
    let found = try? await NIOThreadPool.singleton.runIfActive { () -> [IPAddress] in
        // One entry an address, instead of one for each kind of socket.
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { unsafe freeaddrinfo(list) }
        var found: [IPAddress] = []
        var next = unsafe list
        while let entry = unsafe next?.pointee {
            unsafe next = entry.ai_next
            if let address = unsafe ipAddress(entry.ai_addr), !found.contains(address) {
                found.append(address)
            }
        }
        return found
    }
    return found ?? []
}

/// The IP address in a socket address of the C library; nil for other families.
private func ipAddress(_ address: UnsafePointer<sockaddr>?) -> IPAddress? {
    guard let address = unsafe address else { return nil }
    // By offset, as netinet/in.h has them, because two modules claim the fields of these structs.
    let (offset, count) =
        switch unsafe Int32(address.pointee.sa_family) {
        case AF_INET: (4, 4)
        case AF_INET6: (8, 16)
        default: (0, 0)
        }
    let raw = unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(address), count: offset + count)
    return unsafe IPAddress(bytes: Array(raw[offset...]))
}

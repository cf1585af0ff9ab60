import Glibc
import Logging
import MoriDevice
import NIOCore
import NIOPosix

/// Where a rank would serve the next store: a bound socket that does not listen, and how the others
/// find it.
///
/// A store holds nothing that outlives a meeting, so none is replicated: after a failure the smallest
/// rank that is left opens a new one, at a place that everybody has known since the ranks joined.
final class StorePlace: Sendable {
    private let address: IPAddress
    private let host: String?
    private let port: Int
    private let socket: Locked<BoundSocket?>
    /// What the others are told: a host name or address, and the port.
    let announcement: StoreConnector.Place

    /// Binds a port.
    ///
    /// - Parameters:
    ///   - address: Of one of this host's interfaces; all zero for every one.
    ///   - host: By which the other ranks know it; nil: the address itself.
    /// - Throws: `.bootstrapFailed` when no port is free.
    init(address: IPAddress, host: String?) throws(MoriError) {
        let bound = try BoundSocket(address: address, port: 0)
        self.address = address
        self.host = host
        port = bound.port
        socket = Locked(bound)
        announcement = StoreConnector.Place(
            host: host ?? address.description, ports: [bound.port], isExact: false)
    }

    /// Another port at the same interface, for the store after the next.
    func another() throws(MoriError) -> StorePlace { try StorePlace(address: address, host: host) }

    /// Where a store is to listen; each attempt gets a socket of its own, always on the same port.
    func listening() -> StoreServer.Listening {
        if let descriptor = socket.withLock({ $0.take() })?.take() { return .socket(descriptor) }
        return .firstFree(of: [port], address: address)
    }

    /// Where this rank finds its own store.
    var own: StoreConnector.Place {
        var place = announcement
        if address.bytes.allSatisfy({ $0 == 0 }) {
            place.host = address.bytes.count == 4 ? "127.0.0.1" : "::1"
        }
        return place
    }
}

extension StoreConnector.Place {
    /// "host port", as the ranks tell each other.
    var words: String { "\(host) \(ports.first ?? 0)" }

    /// Reads what another rank sent; nil when it is malformed.
    init?(_ words: String) {
        let parts = words.split(separator: " ")
        guard parts.count == 2, let port = Int(parts[1]), (1...65535).contains(port) else {
            return nil
        }
        self.init(host: String(parts[0]), ports: [port], isExact: false)
    }
}

/// One attempt of the ranks that are left to meet anew.
final class Regrouping: Sendable {
    /// Where the new store's messages go.
    let inbox: Inbox

    private let parameters: TCPBootstrap.Parameters
    private let membership: Membership
    private let key: WorldKey
    private let credentials: Credentials
    private let logger: Logger
    private let deadline: ContinuousClock.Instant
    private let group: MultiThreadedEventLoopGroup
    private let opened = Locked<(server: StoreServer?, connections: Connections?)>((nil, nil))

    /// Starts the clock.
    ///
    /// - Parameters:
    ///   - parameters: Of the world.
    ///   - members: Who meets.
    ///   - key: Of the new store.
    ///   - timeout: How long it may take.
    ///   - logger: Told about failed attempts at level debug.
    /// - Throws: `.bootstrapFailed` where there is no event loop to be had.
    init(
        _ parameters: TCPBootstrap.Parameters, members: [Int], key: WorldKey, timeout: Duration,
        logger: Logger
    ) throws(MoriError) {
        group = try MeetingLoop.start()
        self.parameters = parameters
        self.key = key
        self.logger = logger
        membership = Membership(ranks: members)
        deadline = .now + timeout
        inbox = Inbox(
            rank: parameters.rank, worldSize: parameters.worldSize, leader: membership.leader)
        credentials = Credentials(
            rank: parameters.rank, worldSize: parameters.worldSize, processID: getpid(),
            membership: membership.digest)
    }

    /// Serves the store if this rank is the smallest, connects, and waits for the others.
    ///
    /// - Parameters:
    ///   - own: Where this rank's store listens.
    ///   - places: Everybody's, by rank.
    /// - Returns: What this rank then holds open.
    /// - Throws: As `Bootstrap.regroup(_:generation:timeout:)`.
    func run(
        _ own: StorePlace, _ places: [StoreConnector.Place]
    ) async throws(MoriError) -> Connections {
        let leads = parameters.rank == membership.leader
        var server: StoreServer?
        if leads {
            server = try await StoreServer.start(
                own.listening(), worldSize: parameters.worldSize, membership: membership, key: key,
                filter: parameters.filter(logger), group: group, logger: logger)
            opened.withLock { $0.server = server }
        }
        let connector = StoreConnector(
            group: group, credentials: credentials, key: key, inbox: inbox, logger: logger)
        let channel = try await connector.connect(
            to: leads ? own.own : places[membership.leader], until: deadline)
        let connections = Connections(group: group, channel: channel, server: server)
        opened.withLock { $0.connections = connections }
        try await inbox.awaitWorld(timeout: deadline - .now) { connections.send($0) }
        return connections
    }

    /// Closes what was opened, after telling those who came.
    func giveUp(_ error: MoriError) async {
        let (server, connections) = opened.withLock { $0 }
        server?.fail(error)
        await connections?.abandon()
        await server?.close(timeout: .zero)
        try? await group.shutdownGracefully()
    }
}

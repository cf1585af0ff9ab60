import Glibc
import Logging
import MoriDevice
import NIOCore
import NIOPosix

/// One attempt of a process to become a rank.
final class Joining: Sendable {
    /// How long a rank that must fail anyway tries to tell the store why.
    private static let timeToTell = Duration.seconds(10)

    /// How long the store of a world that failed goes on telling why.
    private static let timeForLatecomers = Duration.seconds(1)

    /// Where the store's messages go.
    let inbox: Inbox

    private let parameters: TCPBootstrap.Parameters
    /// What it proves itself with.
    let key: WorldKey
    private let credentials: Credentials
    private let logger: Logger
    private let deadline: ContinuousClock.Instant
    private let group: MultiThreadedEventLoopGroup
    private let opened = Locked<(server: StoreServer?, connections: Connections?)>((nil, nil))

    /// Starts the clock.
    ///
    /// - Throws: `.bootstrapFailed` where there is no event loop to be had.
    init(_ parameters: TCPBootstrap.Parameters, logger: Logger) throws(MoriError) {
        group = try MeetingLoop.start()
        self.parameters = parameters
        self.logger = logger
        deadline = .now + parameters.timeout
        inbox = Inbox(rank: parameters.rank, worldSize: parameters.worldSize)
        credentials = Credentials(
            rank: parameters.rank, worldSize: parameters.worldSize, processID: getpid())
        key =
            switch parameters.meetingPoint {
            case .launcher(let launcher):
                WorldKey(secret: launcher.secret, port: launcher.port, job: launcher.job)
            case .uniqueID(let id): id.key
            }
    }

    /// Hosts the store on rank 0, connects, and waits until all ranks are there.
    func run() async throws(MoriError) -> Connections {
        guard parameters.rank < parameters.worldSize else { throw await rankOutOfRange() }
        guard parameters.rank == 0 else { return try await connect(to: storePlace(), server: nil) }
        let server = try await host()
        opened.withLock { $0.server = server }
        // Nobody else would notice a second rank 0: it has a store of its own, on another port.
        let search = Task { await searchForOtherRankZero(server) }
        let result: Result<Connections, MoriError>
        do throws(MoriError) {
            result = .success(try await connect(to: place(of: server), server: server))
        } catch {
            result = .failure(error)
        }
        // It must be over before the event loop goes.
        search.cancel()
        await search.value
        return try result.get()
    }

    /// Closes what was opened, after telling the other ranks.
    func giveUp(_ error: MoriError) async {
        let (server, connections) = opened.withLock { $0 }
        server?.fail(error)
        if server != nil, error.code == .ranksDisagree {
            // Ranks that come a moment later are told too, instead of waiting for their deadline.
            try? await Task.sleep(for: Self.timeForLatecomers)
        }
        await connections?.abandon()
        await server?.close(timeout: .zero)
        try? await group.shutdownGracefully()
    }

    private func connect(
        to place: StoreConnector.Place, server: StoreServer?
    ) async throws(MoriError) -> Connections {
        let channel = try await connector(inbox).connect(to: place, until: deadline)
        let connections = Connections(group: group, channel: channel, server: server)
        opened.withLock { $0.connections = connections }
        try await inbox.awaitWorld(timeout: deadline - .now) { connections.send($0) }
        return connections
    }

    private func connector(_ inbox: Inbox) -> StoreConnector {
        StoreConnector(
            group: group, credentials: credentials, key: key, inbox: inbox, logger: logger)
    }

    // MARK: Places

    /// Where ranks other than 0 look for the store.
    private func storePlace() async -> StoreConnector.Place {
        switch parameters.meetingPoint {
        case .launcher(let launcher):
            let host = launcher.isLocal ? IPAddress.loopback.description : await host(of: launcher)
            return .init(host: host, ports: launcher.ports, isExact: false)
        case .uniqueID(let id):
            return .init(host: id.address.description, ports: [id.port], isExact: true)
        }
    }

    /// Where a launcher's rank 0 is; on its own host the master's name may mean loopback, where a store
    /// that keeps to one interface does not listen.
    private func host(of launcher: TCPBootstrap.Parameters.Launcher) async -> String {
        guard launcher.interface != nil else { return launcher.address }
        let found = await addresses(of: launcher.address)
        guard !found.isEmpty, found.allSatisfy(\.isLoopback),
            let own = try? Self.address(of: launcher)
        else { return launcher.address }
        return own.description
    }

    /// The address of the interface that a launcher's world keeps to; nil where it keeps to none.
    private static func address(
        of launcher: TCPBootstrap.Parameters.Launcher
    ) throws(MoriError) -> IPAddress? {
        guard let interface = launcher.interface else { return nil }
        return try NetworkInterface.address(of: interface, among: NetworkInterface.all())
    }

    /// Where rank 0 finds its own store.
    private func place(of server: StoreServer) -> StoreConnector.Place {
        let isWildcard = server.address.bytes.allSatisfy { $0 == 0 }
        let isIPv4 = server.address.bytes.count == 4
        let host = isWildcard ? (isIPv4 ? "127.0.0.1" : "::1") : server.address.description
        return .init(host: host, ports: [server.port], isExact: true)
    }

    // MARK: Rank 0

    private func host() async throws(MoriError) -> StoreServer {
        let filter = try await parameters.filter(logger)
        do throws(MoriError) {
            return try await StoreServer.start(
                listening(), worldSize: parameters.worldSize, key: key, filter: filter,
                group: group, logger: logger)
        } catch {
            // A second rank 0 with the same id cannot listen; let the first know.
            if case .uniqueID = parameters.meetingPoint, let reason = await tellStore() {
                throw reason
            }
            throw error
        }
    }

    private func listening() async throws(MoriError) -> StoreServer.Listening {
        switch parameters.meetingPoint {
        case .uniqueID(let id):
            let socket = BoundSocket.kept.withLock { $0.removeValue(forKey: id) }
            if let descriptor = socket?.take() { return .socket(descriptor) }
            return .firstFree(of: [id.port], address: id.address)
        case .launcher(let launcher):
            if launcher.isLocal { return .firstFree(of: launcher.ports, address: .loopback) }
            if let address = try Self.address(of: launcher) {
                return .firstFree(of: launcher.ports, address: address)
            }
            let own = await addresses(of: launcher.address)
            let isIPv6 = !own.isEmpty && own.allSatisfy { $0.bytes.count == 16 }
            return .firstFree(of: launcher.ports, address: isIPv6 ? .anyIPv6 : .anyIPv4)
        }
    }

    /// Sets a port aside at the interface by which this rank reached the store.
    func placeForSuccessor(_ connections: Connections) throws(MoriError) -> StorePlace {
        if parameters.rank == 0 {
            switch parameters.meetingPoint {
            case .uniqueID(let id): return try StorePlace(address: id.address, host: nil)
            case .launcher(let launcher) where !launcher.isLocal:
                // The others know it by the launcher's name for it.
                let server = opened.withLock { $0.server }
                return try StorePlace(
                    address: server?.address ?? .anyIPv4, host: launcher.address)
            case .launcher: break
            }
        }
        return try StorePlace(address: connections.localAddress ?? .loopback, host: nil)
    }

    // MARK: Ranks that contradict each other

    /// Says hello to every other store of this world near the launcher's port.
    ///
    /// There is none, unless two processes were started as rank 0; then each refuses the other, and
    /// both fail.
    private func searchForOtherRankZero(_ server: StoreServer) async {
        guard case .launcher(let launcher) = parameters.meetingPoint else { return }
        let others = launcher.ports.filter { $0 != server.port }
        let place = StoreConnector.Place(
            host: self.place(of: server).host, ports: others, isExact: false)
        if let reason = await tellStore(at: place, until: deadline) { server.fail(reason) }
    }

    private func rankOutOfRange() async -> MoriError {
        let own = MoriError(
            .invalidArgument,
            "rank \(parameters.rank) of a world of \(parameters.worldSize); 0 to "
                + "\(parameters.worldSize - 1) are legal", ranks: [parameters.rank])
        _ = await tellStore()
        return own
    }

    /// Says hello as this rank, only to be refused.
    ///
    /// - Returns: The reason, if a store gave one.
    private func tellStore(
        at place: StoreConnector.Place? = nil, until end: ContinuousClock.Instant? = nil
    ) async -> MoriError? {
        let inbox = Inbox(rank: parameters.rank, worldSize: parameters.worldSize)
        let end = min(deadline, end ?? .now + Self.timeToTell)
        var channel: (any Channel)?
        var reason: MoriError?
        do throws(MoriError) {
            let target = if let place { place } else { await storePlace() }
            channel = try await connector(inbox).connect(to: target, until: end)
            // The rightful rank may come after this one; then both are told.
            try await inbox.awaitWorld(timeout: end - .now) { _ in }
        } catch {
            if error.code == .ranksDisagree { reason = error }
        }
        try? await channel?.close()
        return reason
    }
}

extension TCPBootstrap.Parameters.Launcher {
    /// The ports that the store may take, in the order in which they are tried.
    var ports: [Int] {
        Array(port...max(port, min(port + TCPBootstrap.spareLauncherPorts, 65535)))
    }
}

extension TCPBootstrap.Parameters {
    /// Which source addresses a store of this world talks to.
    func filter(_ logger: Logger) async throws(MoriError) -> PeerFilter {
        guard case .launcher(let launcher) = meetingPoint, launcher.secret.isEmpty else {
            return .anyone
        }
        if launcher.isLocal { return .loopback }
        let interfaces = try NetworkInterface.all()
        guard let hosts = launcher.hosts else { return .neighbours(interfaces) }
        var accepted = Set(interfaces.map(\.address))
        for host in hosts {
            let found = await addresses(of: host)
            accepted.formUnion(found)
            if found.isEmpty {
                logger.info(
                    "a host has no address: its ranks will not be let in",
                    metadata: ["host": "\(host)"])
            }
        }
        return .hosts(accepted)
    }
}

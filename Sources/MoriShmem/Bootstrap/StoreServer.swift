import Logging
import MoriDevice
import NIOCore
import NIOPosix

/// The key-value store of a world, which its smallest rank hosts.
///
/// Holds the sockets; what it decides is in `Store`, which lives on the event loop.
final class StoreServer: Sendable {
    /// Where the store listens.
    enum Listening: Sendable {
        /// The first of these ports that is free, at this address.
        case firstFree(of: [Int], address: IPAddress)
        /// A socket that is bound already; the server closes it.
        case socket(NIOBSDSocket.Handle)
    }

    /// The port that the store listens on.
    let port: Int
    /// The address that it listens on; all zero for every address of the host.
    let address: IPAddress

    private let store: NIOLoopBound<Store>
    private let channel: any Channel
    private var loop: any EventLoop { channel.eventLoop }

    private init(_ channel: any Channel, _ store: NIOLoopBound<Store>) {
        self.channel = channel
        self.store = store
        port = channel.localAddress?.port ?? 0
        address = IPAddress(channel.localAddress) ?? .loopback
    }

    /// Starts to listen.
    ///
    /// - Parameters:
    ///   - listening: Where to listen.
    ///   - worldSize: The number of ranks, 1 or more.
    ///   - membership: Those that belong to it.
    ///   - key: What members have to prove that they hold.
    ///   - filter: Which source addresses are talked to.
    ///   - group: A group with one thread, so that everything is on one event loop.
    ///   - logger: Told about dropped connections at level debug.
    /// - Returns: The server, which listens.
    /// - Throws: `.bootstrapFailed` with the errno of the last `bind` when no port is free.
    static func start(
        _ listening: Listening, worldSize: Int, membership: Membership = .everyone, key: WorldKey,
        filter: PeerFilter, group: MultiThreadedEventLoopGroup, logger: Logger
    ) async throws(MoriError) -> StoreServer {
        let loop = group.next()
        let store: NIOLoopBound<Store>
        do {
            store = try await loop.submit {
                NIOLoopBound(
                    Store(
                        worldSize: worldSize, membership: membership, key: key, filter: filter,
                        logger: logger),
                    eventLoop: loop)
            }.get()
        } catch {
            throw MoriError(.bootstrapFailed, "no event loop", cause: .other("\(error)"))
        }
        let bootstrap = ServerBootstrap(group: loop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: 1024)
            .memberOptions()
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let decoder = FrameDecoder()
                    let handler = StoreHandler(store.value, decoder: decoder, key: key)
                    try channel.pipeline.syncOperations.addHandlers(
                        ByteToMessageHandler(decoder), handler)
                }
            }
        return StoreServer(try await bind(bootstrap, listening), store)
    }

    private static func bind(
        _ bootstrap: ServerBootstrap, _ listening: Listening
    ) async throws(MoriError) -> any Channel {
        var last: MoriError.Cause?
        switch listening {
        case .socket(let handle):
            do {
                return try await bootstrap.withBoundSocket(handle).get()
            } catch {
                throw MoriError(
                    .bootstrapFailed,
                    "the world's store cannot listen on the port that was set aside for it",
                    cause: cause(error))
            }
        case .firstFree(let ports, let address):
            for port in ports {
                do {
                    return try await bootstrap.bind(to: address.socketAddress(port: port)).get()
                } catch {
                    last = cause(error)
                }
            }
            let range = "\(ports.first ?? 0) to \(ports.last ?? 0)"
            throw MoriError(
                .bootstrapFailed,
                "rank 0 can listen on none of the ports \(range) at \(address); set MASTER_PORT to "
                    + "a port with 16 free ports after it", cause: last, ranks: [0])
        }
    }

    private static func cause(_ error: any Error) -> MoriError.Cause {
        guard let error = error as? IOError else { return .other("\(error)") }
        return .errno(call: "bind", code: error.errnoCode)
    }

    /// Gives the world up, if it is not complete yet: all who came get this error.
    func fail(_ error: MoriError) {
        loop.execute { [store] in store.value.fail(error) }
    }

    /// Tells nobody anything any more, as if the process had ended; for tests.
    func fallSilent() async {
        try? await loop.submit { [store] in store.value.fallSilent() }.get()
    }

    /// Serves until all ranks said goodbye or were lost, at most for `timeout`, then closes.
    func close(timeout: Duration) async {
        let gone = loop.flatSubmit { [store, loop] in store.value.gone(on: loop) }
        let late = loop.scheduleTask(in: TimeAmount(timeout)) { [store] in store.value.dismiss() }
        try? await gone.get()
        late.cancel()
        try? await channel.close()
    }
}

extension ServerBootstrap {
    /// Sets the options of a member's connection.
    func memberOptions() -> ServerBootstrap {
        MemberOptions.all.reduce(self) { $0.childChannelOption($1.0, value: $1.1) }
    }
}

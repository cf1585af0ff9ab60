import MoriDevice
import MoriTestSupport
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import MoriShmem

/// Peers that do not belong to the world, and ranks that contradict each other.
@Suite(.timeLimit(.minutes(5)))
struct BootstrapStrangerTests {
    static let garbage: [[UInt8]] = [
        [0],
        [0, 0, 0, 0],
        [0xff, 0xff, 0xff, 0xff],
        [0, 0, 16, 1] + .init(repeating: 7, count: 5000),
        [0, 0, 0, 124] + .init(repeating: 7, count: 124),
        Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8),
        randomBytes(100_000),
    ]

    @Test func garbageOnThePortDisturbsNobody() async throws {
        let place = launcher()
        async let late = joinLater(place, after: .milliseconds(300))
        async let first = join([member(0, of: 2, at: place)])
        try await connectUntilItWorks(place.port).close()
        for bytes in Self.garbage {
            let channel = try await connectUntilItWorks(place.port)
            try? await channel.writeAndFlush(ByteBuffer(bytes: bytes))
            if bytes.count > 4 { try? await channel.closeFuture.get() }
            try? await channel.close()
        }
        let world = try await (first + late).map { try $0.get() }
        // The same once more while the world works.
        for bytes in Self.garbage {
            let channel = try await connectUntilItWorks(place.port)
            try? await channel.writeAndFlush(ByteBuffer(bytes: bytes))
            try? await channel.close()
        }
        let results = await together(2) { rank throws(MoriError) in
            try await world[rank].barrier("still there", timeout: Patience.healthy)
        }
        #expect(results.allSatisfy { $0.error == nil })
        await close(world)
    }

    @Test func silentConnectionsAreDroppedAfterFiveSeconds() async throws {
        // A busy machine may take the five seconds for itself; then it is tried again.
        for _ in 0..<3 where try await aMemberComesBeforeSilentOnesAreDropped() { return }
        #expect(try await aMemberComesBeforeSilentOnesAreDropped(), "strangers delayed a member")
    }

    /// Whether a member is in while the stranger that came just before it may still be silent.
    private func aMemberComesBeforeSilentOnesAreDropped() async throws -> Bool {
        let place = launcher()
        async let first = join([member(0, of: 2, at: place)])
        var silent: [any Channel] = []
        for _ in 0..<200 { silent.append(try await connectUntilItWorks(place.port)) }
        let second = await join([member(1, of: 2, at: place)])
        let isBefore = silent.last?.isActive == true
        let start = ContinuousClock.now
        for channel in silent { try await channel.closeFuture.get() }
        #expect(ContinuousClock.now - start < Patience.prompt)
        await close(try await (first + second).map { try $0.get() })
        return isBefore
    }

    @Test func aMemberThatSendsGarbageIsLost() async throws {
        let place = launcher()
        async let first = join([member(0, of: 2, at: place)])
        let inbox = Inbox(rank: 1, worldSize: 2)
        let connector = StoreConnector(
            group: .singleton, credentials: Credentials(rank: 1, worldSize: 2, processID: 1),
            key: WorldKey(secret: [], port: place.port, job: place.job), inbox: inbox,
            logger: quietLogger)
        let channel = try await connector.connect(
            to: .init(host: "127.0.0.1", ports: [place.port], isExact: true),
            until: .now + Patience.healthy)
        // What every member tells before the world stands: where it would serve a later store.
        let told = RankMessage.gather(
            GatherID(name: "store places", call: 0), value: Array("127.0.0.1 9".utf8))
        try await channel.writeAndFlush(framed(told.encoded()))
        let world = try await first.map { try $0.get() }
        let events = Events()
        world[0].onEvent { events.add(0, $0) }
        try await channel.writeAndFlush(framed(ByteBuffer(bytes: [99, 1, 2, 3])))
        #expect(await events.wait(for: 1, of: 0) == [.peerLost(rank: 1)])
        await close(world)
    }

    @Test func anImpostorOfTheStoreIsPassedOver() async throws {
        // It knows the world's public name and says that everybody is welcome.
        let (place, impostor) = try await launcher(secret: "known to the world only") { place in
            let key = WorldKey(secret: place.secret, port: place.port, job: place.job)
            return try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler = Impostor(tag: key.tag)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                }
                .bind(host: "127.0.0.1", port: place.port).get()
        }
        await close(try await tcpWorld(size: 3, at: place))
        try await impostor.close()
    }

    @Test func worldSizesThatDisagreeAreNamedOnBothSides() async throws {
        let place = launcher()
        let results = await join([member(0, of: 3, at: place), member(1, of: 4, at: place)])
        for result in results {
            let error = try #require(result.error)
            #expect(error.code == .ranksDisagree)
            #expect(error.ranks == [1])
            #expect(error.message.contains("was started with world size 4, rank 0 with 3"))
        }
    }

    @Test func twoProcessesOfOneRankAreNamedOnAllRanks() async throws {
        let place = launcher()
        // A bystander that comes when all is over finds nobody, so only the three are looked at.
        let bystander = member(1, of: 4, at: place, timeout: .seconds(10))
        let results = await join([0, 2, 2].map { member($0, of: 4, at: place) } + [bystander])
        for result in results[..<3] {
            let error = try #require(result.error)
            #expect(error.code == .ranksDisagree)
            #expect(error.ranks == [2])
            #expect(error.message.contains("two processes claim rank 2"))
        }
    }

    @Test func twoProcessesOfRankZeroFindEachOther() async throws {
        let place = launcher()
        let results = await join([0, 0].map { member($0, of: 2, at: place) })
        for result in results {
            let error = try #require(result.error)
            #expect(error.code == .ranksDisagree)
            #expect(error.ranks == [0])
            #expect(error.message.contains("two processes claim rank 0"))
        }
    }

    @Test func aLateDuplicateDoesNotDisturbTheWorld() async throws {
        let place = launcher()
        let world = try await tcpWorld(size: 2, at: place)
        let late = await join([member(1, of: 2, at: place)])
        #expect(late[0].error?.code == .ranksDisagree)
        #expect(late[0].error?.message.contains("of a world that is complete") == true)
        let results = await together(2) { rank throws(MoriError) in
            try await world[rank].barrier("still there", timeout: Patience.healthy)
        }
        #expect(results.allSatisfy { $0.error == nil })
        await close(world)
    }

    @Test func aRankOutOfRangeIsNamedOnBothSides() async throws {
        let place = launcher()
        let results = await join([member(0, of: 2, at: place), member(5, of: 2, at: place)])
        #expect(results[0].error?.code == .ranksDisagree)
        #expect(results[0].error?.message.contains("claims rank 5; 0 to 1 are legal") == true)
        #expect(results[1].error?.code == .invalidArgument)
        #expect(results[1].error?.message.contains("rank 5 of a world of 2") == true)
        for (rank, size) in [(-1, 2), (0, 0), (0, -3), (0, 1 << 20)] {
            let result = await join([member(rank, of: size, at: place)])
            #expect(result[0].error?.code == .invalidArgument)
        }
    }

    @Test func addressesDecideWhereThereIsNoSecret() throws {
        let own = try #require(IPAddress("10.1.2.3"))
        let mask = try #require(IPAddress("255.255.0.0"))
        let interface = NetworkInterface(name: "eth0", address: own, mask: mask)
        func accepts(_ filter: PeerFilter, _ text: String) throws -> Bool {
            filter.accepts(try SocketAddress(ipAddress: text, port: 1))
        }
        for filter in [PeerFilter.anyone, .loopback, .hosts([]), .neighbours([interface])] {
            #expect(try accepts(filter, "127.0.0.1"))
            #expect(try accepts(filter, "::1"))
            #expect(try accepts(filter, "::ffff:127.0.0.1"))
        }
        #expect(try accepts(.anyone, "192.0.2.1"))
        #expect(try !accepts(.loopback, "192.0.2.1"))
        #expect(try accepts(.hosts([own]), "10.1.2.3"))
        #expect(try accepts(.hosts([own]), "::ffff:10.1.2.3"))
        #expect(try !accepts(.hosts([own]), "10.1.2.4"))
        #expect(try accepts(.neighbours([interface]), "10.1.77.1"))
        #expect(try !accepts(.neighbours([interface]), "10.2.2.3"))
        #expect(try !accepts(.neighbours([interface]), "fd00::1"))
    }

    @Test func aStrangersAddressIsToldWhatToSet() async throws {
        let interfaces = try NetworkInterface.all()
        guard let own = interfaces.first(where: { !$0.address.isLoopback })?.address else { return }
        let group = MultiThreadedEventLoopGroup.singleton
        let key = WorldKey(secret: [], port: 1, job: "")
        let server = try await StoreServer.start(
            .firstFree(of: [0], address: own), worldSize: 2, key: key, filter: .loopback,
            group: group, logger: quietLogger)
        let connector = StoreConnector(
            group: group, credentials: Credentials(rank: 1, worldSize: 2, processID: 1), key: key,
            inbox: Inbox(rank: 1, worldSize: 2), logger: quietLogger)
        let result = await together(1) { _ throws(MoriError) in
            try await connector.connect(
                to: .init(host: own.description, ports: [server.port], isExact: true),
                until: .now + Patience.healthy)
        }
        #expect(result[0].error?.code == .bootstrapFailed)
        #expect(result[0].error?.message.contains("set MORI_BOOTSTRAP_SECRET") == true)
        await server.close(timeout: .zero)
    }

    private func joinLater(
        _ place: Launcher, after delay: Duration
    ) async -> [Result<TCPBootstrap, MoriError>] {
        try? await Task.sleep(for: delay)
        return await join([member(1, of: 2, at: place)])
    }

    private func connectUntilItWorks(_ port: Int) async throws -> any Channel {
        for _ in 0..<6000 {
            let channel = try? await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connect(host: "127.0.0.1", port: port).get()
            if let channel { return channel }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw MoriError(.timedOut, "nobody listens on port \(port)")
    }
}

/// Greets like the store of a world and welcomes everybody, without the world's secret.
private final class Impostor: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let tag: [UInt8]

    init(tag: [UInt8]) { self.tag = tag }

    func channelActive(context: ChannelHandlerContext) {
        let greeting = Greeting(.challenge, tag: tag)
        context.writeAndFlush(NIOAny(framed(greeting.encoded())), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var welcome = ByteBuffer(integer: UInt32(1))
        welcome.writeInteger(UInt8(1))
        welcome.writeBytes(randomBytes(WorldKey.proofSize))
        context.writeAndFlush(NIOAny(framed(welcome)), promise: nil)
    }
}

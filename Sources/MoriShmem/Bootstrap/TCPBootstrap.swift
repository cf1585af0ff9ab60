import Glibc
package import Logging
package import MoriDevice
import NIOCore
import NIOPosix

/// The bootstrap of a world whose ranks are processes: all connect to a store that rank 0 hosts.
///
/// Peers prove in a challenge and response that they hold the world's secret before anything else;
/// whoever cannot, sends garbage or takes longer than 5 s is dropped without effect on the world.
/// What follows is neither encrypted nor signed, so the network's operator has to be trusted.
///
/// Without a secret (`MeetingPoint.launcher` with an empty one) the source address decides:
/// * all ranks on this host: the store listens on loopback only. Every user of this host can join.
/// * the launcher gave the list of hosts (Slurm): their addresses and this host's. Every user of
///   those hosts can join.
/// * the list is not known (torchrun or Open MPI over several hosts): every host that lies in a
///   subnet of one of this host's interfaces can join. Hosts behind a router are refused, with an
///   error that says to set MORI_BOOTSTRAP_SECRET.
///
/// A rank whose process ends is seen at once; one whose host or network goes silent, after 30 s.
package final class TCPBootstrap: Bootstrap {
    /// How many ports after the launcher's the store may take.
    static let spareLauncherPorts = 16

    package let rank: Int
    package let worldSize: Int
    package let members: [Int]

    private let parameters: Parameters
    private let inbox: Inbox
    private let connections: Connections
    private let key: WorldKey
    private let logger: Logger
    /// Where this rank would serve a store after a failure, and where every other one would.
    private let ownPlace: StorePlace
    private let places: [StoreConnector.Place]

    private init(
        _ parameters: Parameters, members: [Int], key: WorldKey, logger: Logger, inbox: Inbox,
        connections: Connections, ownPlace: StorePlace, places: [StoreConnector.Place]
    ) {
        rank = parameters.rank
        worldSize = parameters.worldSize
        self.parameters = parameters
        self.members = members
        self.key = key
        self.logger = logger
        self.inbox = inbox
        self.connections = connections
        self.ownPlace = ownPlace
        self.places = places
    }

    deinit {
        // Dropped without close: a goodbye all the same, because the process lives.
        inbox.close()
        Task { [connections] in await connections.close(timeout: .seconds(5)) }
    }

    package func allGather(
        _ name: String, _ value: [UInt8], timeout: Duration
    ) async throws(MoriError) -> [[UInt8]] {
        try await inbox.gather(name, value, timeout: timeout) { [connections] message in
            connections.send(message)
        }
    }

    package func abort(culprit: Int?, message: String) {
        let message = String(decoding: message.utf8.prefix(BootstrapLimit.message), as: UTF8.self)
        inbox.fail(
            MoriError(.aborted, "rank \(rank) aborted: \(message)", ranks: [culprit ?? rank]))
        connections.send(.abort(culprit: culprit, message: message))
    }

    package func report(waitingFor ranks: [Int]) { connections.send(.waits(for: ranks)) }

    package func onEvent(_ handler: @escaping @Sendable (BootstrapEvent) -> Void) {
        inbox.setHandler(handler)
    }

    package func close(timeout: Duration) async {
        inbox.close()
        await connections.close(timeout: timeout)
    }

    /// Ends this member as the end of its process would; for tests.
    func drop() async { await connections.drop() }

    /// Joins a world and waits until all its ranks did.
    ///
    /// - Parameters:
    ///   - parameters: Who joins what.
    ///   - logger: Told about failed attempts and dropped connections at level debug.
    /// - Returns: This process's member.
    /// - Throws: `.timedOut` naming the ranks that did not come, `.bootstrapFailed` when rank 0 is
    ///   not found, refuses this rank's secret or address or can bind no port, or where this process
    ///   may open no more descriptors, `.ranksDisagree` on both sides for two processes of one rank or
    ///   different world sizes, `.invalidArgument` for a rank or world size out of range, `.aborted`
    ///   when the task is cancelled.
    package static func join(
        _ parameters: Parameters, logger: Logger
    ) async throws(MoriError) -> TCPBootstrap {
        try parameters.validate()
        let joining = try Joining(parameters, logger: logger)
        do {
            let connections = try await joining.run()
            let members = Array(0..<parameters.worldSize)
            let own = try joining.placeForSuccessor(connections)
            return TCPBootstrap(
                parameters, members: members, key: joining.key, logger: logger,
                inbox: joining.inbox, connections: connections, ownPlace: own,
                places: try await exchange(
                    own, members, joining.inbox, connections, timeout: parameters.timeout))
        } catch {
            await joining.giveUp(error)
            throw error
        }
    }

    /// Tells every member where this rank would serve the next store, and gives what they say, by rank.
    private static func exchange(
        _ own: StorePlace, _ members: [Int], _ inbox: Inbox, _ connections: Connections,
        timeout: Duration
    ) async throws(MoriError) -> [StoreConnector.Place] {
        let texts = try await inbox.gather(
            "store places", Array(own.announcement.words.utf8), timeout: timeout
        ) { connections.send($0) }
        var places = Array(repeating: own.announcement, count: texts.count)
        for rank in members {
            guard let place = StoreConnector.Place(String(decoding: texts[rank], as: UTF8.self))
            else {
                throw MoriError(
                    .ranksDisagree,
                    "rank \(rank) does not say where it would serve a store; do all ranks run the"
                        + " same version of MoriEP?", ranks: [rank])
            }
            places[rank] = place
        }
        return places
    }

    package func regroup(
        _ members: [Int], generation: Int, timeout: Duration
    ) async throws(MoriError) -> any Bootstrap {
        let key = key.successor(generation: generation)
        let regrouping = try Regrouping(
            parameters, members: members, key: key, timeout: timeout, logger: logger)
        do {
            let connections = try await regrouping.run(ownPlace, places)
            let own = try ownPlace.another()
            return TCPBootstrap(
                parameters, members: members, key: key, logger: logger, inbox: regrouping.inbox,
                connections: connections, ownPlace: own,
                places: try await Self.exchange(
                    own, members, regrouping.inbox, connections, timeout: timeout))
        } catch {
            await regrouping.giveUp(error)
            throw error
        }
    }
}

extension TCPBootstrap {
    /// Who joins what.
    package struct Parameters: Sendable {
        /// The rank of this process, in `0..<worldSize`.
        package var rank: Int
        /// The number of ranks, 1 to 65536.
        package var worldSize: Int
        /// Where the ranks meet.
        package var meetingPoint: MeetingPoint
        /// How long joining may take.
        package var timeout: Duration

        /// Where the ranks of a world meet.
        package enum MeetingPoint: Sendable {
            /// At a host and near a port that a launcher chose.
            case launcher(Launcher)
            /// At the address in an id.
            case uniqueID(UniqueID)
        }

        /// What a launcher told its ranks.
        package struct Launcher: Hashable, Sendable {
            /// The name or address of rank 0's host.
            package var address: String
            /// The store takes this port or one of the 16 after it, whichever is free first.
            package var port: Int
            /// Whether all ranks are on this host, so that loopback will do.
            package var isLocal: Bool
            /// The names or addresses of all hosts, where known.
            package var hosts: [String]?
            /// What the ranks prove themselves with; empty for none.
            package var secret: [UInt8]
            /// The launcher's name for the job, the same on all ranks; keeps two jobs with one port
            /// apart.
            package var job: String
            /// The interface that rank 0 listens on alone; nil: a world of several hosts is listened
            /// for on all of them.
            package var interface: String?

            /// Creates the description of a launcher's world.
            package init(
                address: String, port: Int, isLocal: Bool, hosts: [String]? = nil,
                secret: [UInt8] = [], job: String = "", interface: String? = nil
            ) {
                self.address = address
                self.port = port
                self.isLocal = isLocal
                self.hosts = hosts
                self.secret = secret
                self.job = job
                self.interface = interface
            }
        }

        /// Creates parameters.
        package init(
            rank: Int, worldSize: Int, meetingPoint: MeetingPoint, timeout: Duration
        ) {
            self.rank = rank
            self.worldSize = worldSize
            self.meetingPoint = meetingPoint
            self.timeout = timeout
        }

        /// Creates the parameters for a unique id.
        package init(rank: Int, worldSize: Int, uniqueID: UniqueID, timeout: Duration) {
            self.init(
                rank: rank, worldSize: worldSize, meetingPoint: .uniqueID(uniqueID),
                timeout: timeout)
        }

        /// Refuses what no world can have.
        ///
        /// A rank that is too high passes: the store is told, so that the other ranks learn of it.
        func validate() throws(MoriError) {
            guard (1...BootstrapLimit.worldSize).contains(worldSize) else {
                throw MoriError(
                    .invalidArgument,
                    "world size \(worldSize); 1 to \(BootstrapLimit.worldSize) are legal")
            }
            guard (0..<BootstrapLimit.worldSize).contains(rank) else {
                throw MoriError(
                    .invalidArgument,
                    "rank \(rank) of a world of \(worldSize); 0 to "
                        + "\(worldSize - 1) are legal", ranks: [rank])
            }
        }
    }
}

/// What a member holds open: its connection, on rank 0 the store, and the event loop.
final class Connections: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let channel: any Channel
    private let server: StoreServer?
    private let closing = Locked<Task<Void, Never>?>(nil)

    /// Takes over what joining opened.
    init(group: MultiThreadedEventLoopGroup, channel: any Channel, server: StoreServer?) {
        self.group = group
        self.channel = channel
        self.server = server
    }

    /// This host's address on the way to the store.
    var localAddress: IPAddress? { IPAddress(channel.localAddress) }

    /// Sends a message to the store, in the order of the calls; nothing after `close`.
    func send(_ message: RankMessage) {
        closing.withLock { closing in
            // Under the lock, so that nothing reaches an event loop that has been shut down;
            // through `execute`, so that nothing runs in here.
            guard closing == nil else { return }
            execute(message)
        }
    }

    /// Says goodbye and closes everything; later calls wait for the first.
    func close(timeout: Duration) async {
        let task = closing.withLock { closing in
            if let closing { return closing }
            execute(.goodbye)
            let task = Task { await shutDown(timeout: timeout) }
            closing = task
            return task
        }
        await task.value
    }

    /// Closes the connection of a world that could not be joined; sends nothing any more.
    func abandon() async {
        closing.withLock { $0 = $0 ?? Task {} }
        try? await channel.close()
    }

    /// Ends everything as the end of the process would, without goodbye; for tests.
    func drop() async {
        closing.withLock { $0 = $0 ?? Task {} }
        await server?.fallSilent()
        try? await group.shutdownGracefully()
    }

    private func execute(_ message: RankMessage) {
        channel.eventLoop.execute { [channel] in
            channel.writeAndFlush(framed(message.encoded()), promise: nil)
        }
    }

    private func shutDown(timeout: Duration) async {
        let deadline = ContinuousClock.now + timeout
        // The store answers the goodbye with its own, upon which the channel closes.
        let late = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) { [channel] in
            channel.close(promise: nil)
        }
        try? await channel.closeFuture.get()
        late.cancel()
        await server?.close(timeout: deadline - .now)
        try? await group.shutdownGracefully()
    }
}

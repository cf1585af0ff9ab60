import Logging
import MoriDevice
import NIOCore

/// What the store knows of its connections, and what it decides about them.
///
/// Lives on one event loop.
final class Store {
    /// The most connections that have not proved themselves yet; beyond, the oldest is dropped, so
    /// that strangers cannot use up the process's file descriptors.
    private static let mostStrangers = 128

    /// Which source addresses are talked to.
    let filter: PeerFilter
    /// The world's key.
    let key: WorldKey
    /// Told about dropped connections at level debug.
    let logger: Logger

    private let worldSize: Int
    private let membership: Membership
    private var rendezvous: Rendezvous
    private var members: [Int: StoreHandler] = [:]
    private var strangers: [StoreHandler] = []
    private var outbox: [Rendezvous.Delivery] = []
    private var isDelivering = false
    private var whenGone: EventLoopPromise<Void>?

    /// Creates the store of a world that nobody has joined yet.
    init(
        worldSize: Int, membership: Membership, key: WorldKey, filter: PeerFilter, logger: Logger
    ) {
        self.worldSize = worldSize
        self.membership = membership
        self.key = key
        self.filter = filter
        self.logger = logger
        rendezvous = Rendezvous(worldSize: worldSize, expected: membership.ranks)
    }

    // MARK: Connections

    /// Takes note of a new connection.
    func connected(_ handler: StoreHandler) {
        strangers.append(handler)
        guard strangers.count > Self.mostStrangers else { return }
        strangers.removeFirst().drop("too many strangers")
    }

    /// Takes note of the end of a connection.
    func disconnected(_ handler: StoreHandler) {
        strangers.removeAll { $0 === handler }
        guard let rank = handler.credentials?.rank, members[rank] === handler else { return }
        members[rank] = nil
        deliver(rendezvous.disconnect(rank))
        checkGone()
    }

    /// Decides about a connection that proved that it holds the secret.
    func admit(_ credentials: Credentials, _ handler: StoreHandler) -> Verdict {
        if let error = objection(to: credentials, handler) { return .refused(error) }
        strangers.removeAll { $0 === handler }
        if let earlier = members[credentials.rank] {
            // The same process tried again before its first connection was seen to end.
            members[credentials.rank] = nil
            earlier.drop("rank \(credentials.rank) connected anew")
        }
        members[credentials.rank] = handler
        return .welcome
    }

    /// Makes an admitted rank a member, after it was told so.
    func welcomed(_ rank: Int) { deliver(rendezvous.admit(rank)) }

    /// Takes what a member says.
    func received(_ message: RankMessage, from rank: Int) {
        deliver(rendezvous.receive(message, from: rank))
    }

    /// Why a rank cannot be let in.
    ///
    /// What means that the ranks were started wrongly ends the world, unless it is complete: then
    /// the newcomer is the one who is wrong.
    private func objection(to newcomer: Credentials, _ handler: StoreHandler) -> MoriError? {
        let rank = newcomer.rank
        let who = "process \(newcomer.processID) at \(handler.source)"
        if let failure = rendezvous.failure { return failure }
        if newcomer.worldSize != worldSize {
            let words =
                "rank \(rank) (\(who)) was started with world size \(newcomer.worldSize), rank 0 "
                + "with \(worldSize)"
            return disagreement(words, rank)
        }
        guard rank < worldSize else {
            let words = "\(who) claims rank \(rank); 0 to \(worldSize - 1) are legal"
            return disagreement(words, rank)
        }
        guard newcomer.membership == membership.digest, membership.contains(rank) else {
            let words =
                "rank \(rank) (\(who)) meets other ranks than \(rankList(membership.ranks ?? [])), whom"
                + " rank \(membership.leader) meets; all must name the same active ranks"
            return disagreement(words, rank)
        }
        if rendezvous.isFormed {
            let words = "\(who) claims rank \(rank) of a world that is complete"
            return MoriError(.ranksDisagree, words, ranks: [rank])
        }
        if let holder = members[rank], let held = holder.credentials,
            held.instance != newcomer.instance
        {
            let words =
                "two processes claim rank \(rank): process \(held.processID) at \(holder.source) "
                + "and \(who)"
            return disagreement(words, rank)
        }
        return nil
    }

    private func disagreement(_ words: String, _ rank: Int) -> MoriError {
        let error = MoriError(.ranksDisagree, words, ranks: [rank])
        fail(error)
        return error
    }

    // MARK: The end

    /// Gives the world up, if it is not complete yet.
    func fail(_ error: MoriError) { deliver(rendezvous.fail(error)) }

    /// Completes when no member is connected any more.
    func gone(on loop: any EventLoop) -> EventLoopFuture<Void> {
        let promise = whenGone ?? loop.makePromise(of: Void.self)
        whenGone = promise
        checkGone()
        return promise.futureResult
    }

    /// Ends all connections, after telling the members that the store closes.
    func dismiss() {
        for (_, member) in members.sorted(by: { $0.key < $1.key }) {
            member.send(.farewell)
            member.drop("the store closes")
        }
        members = [:]
        checkGone()
    }

    /// Forgets the members, so that the end of their connections is reported to nobody.
    func fallSilent() { members = [:] }

    private func checkGone() {
        guard members.isEmpty, let promise = whenGone else { return }
        for stranger in strangers { stranger.drop("the store closes") }
        promise.succeed(())
    }

    // MARK: Messages

    /// Sends in order, also what comes up while sending.
    private func deliver(_ deliveries: [Rendezvous.Delivery]) {
        outbox += deliveries
        guard !isDelivering else { return }
        isDelivering = true
        defer { isDelivering = false }
        var next = 0
        while next < outbox.count {
            members[outbox[next].rank]?.send(outbox[next].message)
            next += 1
        }
        outbox = []
    }
}

/// The store's end of one connection: the handshake, then messages to the store.
///
/// Lives on the event loop of its channel, which is the store's.
final class StoreHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    /// How long a stranger may take to prove itself.
    private static let deadlineOfHandshake = TimeAmount.seconds(5)

    /// Who the peer is, once it has proved itself.
    private(set) var credentials: Credentials?
    /// The peer's address and port, for messages.
    private(set) var source = "unknown"

    private let store: Store
    private let decoder: FrameDecoder
    private let greeting: Greeting
    private var channel: (any Channel)?
    private var deadline: Scheduled<Void>?
    private var isOver = false

    /// Creates the handler of one connection.
    init(_ store: Store, decoder: FrameDecoder, key: WorldKey) {
        self.store = store
        self.decoder = decoder
        greeting = Greeting(.challenge, tag: key.tag)
    }

    /// Greets the peer.
    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        self.channel = channel
        if let address = IPAddress(context.remoteAddress) {
            source = "\(address):\(context.remoteAddress?.port ?? 0)"
        }
        store.connected(self)
        guard store.filter.accepts(context.remoteAddress) else {
            let refusal = Greeting(.stranger, tag: store.key.tag)
            context.writeAndFlush(NIOAny(framed(refusal.encoded())), promise: nil)
            return drop("its address is not one of the world's hosts")
        }
        deadline = context.eventLoop.scheduleTask(in: Self.deadlineOfHandshake) {
            channel.close(promise: nil)
        }
        context.writeAndFlush(NIOAny(framed(greeting.encoded())), promise: nil)
    }

    /// Takes one frame.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return }
        let payload = unwrapInboundIn(data)
        guard let rank = credentials?.rank else { return judge(Hello(decoding: payload), context) }
        guard let message = RankMessage(decoding: payload) else {
            return drop("rank \(rank) sent a malformed message")
        }
        store.received(message, from: rank)
    }

    /// The connection is gone.
    func channelInactive(context: ChannelHandlerContext) {
        drop(credentials == nil ? "it left before the handshake was through" : "it ended")
        store.disconnected(self)
        channel = nil
    }

    /// What came is no frame of ours, or the network failed.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        drop(error is FrameDecoder.Malformed ? "it sent garbage" : "\(error)")
    }

    /// Sends a message to the rank.
    func send(_ message: StoreMessage) {
        channel?.writeAndFlush(framed(message.encoded()), promise: nil)
    }

    /// Closes the connection, after what was sent.
    func drop(_ reason: String) {
        guard !isOver else { return }
        isOver = true
        deadline?.cancel()
        store.logger.debug(
            "closed a connection", metadata: ["peer": "\(source)", "reason": "\(reason)"])
        channel?.close(promise: nil)
    }

    private func judge(_ hello: Hello?, _ context: ChannelHandlerContext) {
        guard let hello else { return drop("it sent garbage") }
        let isProven = store.key.accepts(hello.proof, of: hello.transcript(greeting))
        let verdict = isProven ? store.admit(hello.credentials, self) : .wrongSecret
        if verdict == .welcome { credentials = hello.credentials }
        let answer = verdict.encoded(to: hello, after: greeting, key: store.key)
        context.writeAndFlush(NIOAny(framed(answer)), promise: nil)
        guard verdict == .welcome else { return drop("rank \(hello.credentials.rank): \(verdict)") }
        // The write may have found that the rank is gone.
        guard !isOver else { return }
        deadline?.cancel()
        decoder.limit = BootstrapLimit.membersFrame
        store.welcomed(hello.credentials.rank)
    }
}

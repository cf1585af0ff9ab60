import Logging
import MoriDevice
import NIOCore

/// Lets one of several probes that reached the store go on, so that a rank says hello once.
final class Claim: Sendable {
    private let isTaken = Locked(false)

    /// Takes the claim; false when another probe has it.
    func take() -> Bool {
        isTaken.withLock { taken in
            defer { taken = true }
            return !taken
        }
    }

    /// Gives it back, after the handshake failed.
    func release() { isTaken.withLock { $0 = false } }
}

/// Why a connection did not become a session.
enum ProbeFailure: Error {
    /// Nobody, or not the store of this world; trying again makes sense.
    case passing(String)
    /// A store of another world; trying again makes sense where that may be its port.
    case otherWorld
    /// The store of this world refused; trying again does not.
    case final(MoriError)
}

/// The rank's end of a connection to the store: the handshake, then messages into the inbox.
///
/// Lives on the event loop of its channel.
final class RankHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum Phase {
        case awaitingGreeting
        case awaitingVerdict(Hello, Greeting)
        case session
        case over
    }

    /// How long a store may take to greet; it does so at once, other services never do.
    private static let greetingDeadline = TimeAmount.seconds(2)
    /// How long the handshake may take after the greeting.
    private static let verdictDeadline = TimeAmount.seconds(5)

    private let credentials: Credentials
    private let key: WorldKey
    private let decoder: FrameDecoder
    private let inbox: Inbox
    private let claim: Claim
    private let outcome: EventLoopPromise<any Channel>
    private var phase = Phase.awaitingGreeting
    private var deadline: Scheduled<Void>?

    /// Creates the handler of one connection.
    ///
    /// - Parameters:
    ///   - credentials: Who this rank is.
    ///   - key: What it proves itself with, and asks the store to prove.
    ///   - decoder: The decoder in front of the handler.
    ///   - inbox: Where the store's messages go.
    ///   - claim: Taken before this rank says hello.
    ///   - outcome: Gets the channel when this rank is welcome, else a `ProbeFailure`.
    init(
        _ credentials: Credentials, key: WorldKey, decoder: FrameDecoder, inbox: Inbox,
        claim: Claim, outcome: EventLoopPromise<any Channel>
    ) {
        self.credentials = credentials
        self.key = key
        self.decoder = decoder
        self.inbox = inbox
        self.claim = claim
        self.outcome = outcome
    }

    /// Starts the deadline of the greeting.
    func channelActive(context: ChannelHandlerContext) {
        setDeadline(Self.greetingDeadline, context)
    }

    /// Takes one frame.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let payload = unwrapInboundIn(data)
        switch phase {
        case .awaitingGreeting: answer(Greeting(decoding: payload), context)
        case .awaitingVerdict(let hello, let greeting):
            let verdict = Verdict(decoding: payload, to: hello, after: greeting, key: key)
            obey(verdict, context)
        case .session:
            guard let message = StoreMessage(decoding: payload) else {
                return end(context, .passing("it sent a malformed message"))
            }
            if message == .farewell { phase = .over }
            inbox.receive(message)
            if message == .farewell { context.close(promise: nil) }
        case .over: break
        }
    }

    /// The connection is gone.
    func channelInactive(context: ChannelHandlerContext) {
        end(context, .passing("it closed the connection"))
    }

    /// What came is no frame of ours, or the network failed.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(context, .passing(error is FrameDecoder.Malformed ? "it is no store" : "\(error)"))
    }

    private func answer(_ greeting: Greeting?, _ context: ChannelHandlerContext) {
        guard let greeting else { return end(context, .passing("it is no store")) }
        guard greeting.tag == key.tag else {
            return end(context, .otherWorld)
        }
        guard greeting.version == Greeting.version else {
            let message =
                "rank \(inbox.leader) speaks version \(greeting.version) of the bootstrap, rank "
                + "\(credentials.rank) version \(Greeting.version)"
            return end(context, .final(MoriError(.bootstrapFailed, message, ranks: [inbox.leader])))
        }
        guard greeting.kind == .challenge else {
            let own = context.channel.localAddress?.ipAddress ?? "unknown"
            let message =
                "rank \(inbox.leader) does not accept the address \(own) of rank \(credentials.rank): "
                + "without a secret only the hosts it knows may join; set MORI_BOOTSTRAP_SECRET "
                + "to one long random text on all ranks"
            return end(
                context, .final(MoriError(.bootstrapFailed, message, ranks: [credentials.rank])))
        }
        guard claim.take() else { return end(context, .passing("reached it by another address")) }
        let hello = Hello(credentials, to: greeting, key: key)
        phase = .awaitingVerdict(hello, greeting)
        setDeadline(Self.verdictDeadline, context)
        context.writeAndFlush(NIOAny(framed(hello.encoded())), promise: nil)
    }

    private func obey(_ verdict: Verdict?, _ context: ChannelHandlerContext) {
        switch verdict {
        case .welcome:
            deadline?.cancel()
            decoder.limit = BootstrapLimit.membersFrame
            phase = .session
            outcome.succeed(context.channel)
        case .wrongSecret:
            let message =
                "rank \(inbox.leader) refused rank \(credentials.rank): its secret is not the world's"
            let error = MoriError(.bootstrapFailed, message, ranks: [credentials.rank])
            end(context, .final(error))
        case .refused(let error): end(context, .final(error))
        case nil: end(context, .passing("it could not prove that it holds the world's secret"))
        }
    }

    private func end(_ context: ChannelHandlerContext, _ failure: ProbeFailure) {
        deadline?.cancel()
        switch phase {
        case .awaitingGreeting: outcome.fail(failure)
        case .awaitingVerdict:
            claim.release()
            outcome.fail(failure)
        case .session: inbox.peerLost(inbox.leader, why: "the connection to its store ended")
        case .over: break
        }
        phase = .over
        context.close(promise: nil)
    }

    private func setDeadline(_ amount: TimeAmount, _ context: ChannelHandlerContext) {
        deadline?.cancel()
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: amount) { channel.close(promise: nil) }
    }
}

import NIOCore
import NIOHTTPTypes

/// How long a client may hold a connection up.
struct ClientDeadlines: Sendable {
    /// From the head of a request to its end.
    var request = TimeAmount.seconds(10)
    /// While what was written for it waits, and it takes nothing.
    var write = TimeAmount.seconds(30)

    /// What whoever reads a request gets in place of its end.
    struct RequestIsLate: Error {
        let limit: TimeAmount
    }

    /// What holds a connection's client to them; one for each connection.
    func makeHandler() -> some RemovableChannelHandler { DeadlineHandler(self) }
}

/// Ends requests that do not end, and connections whose clients take nothing.
///
/// Idle timeouts cannot: a client that sends a byte a minute is never idle. A request that is late ends
/// with an error for whoever reads it, whose answer is the connection's last; one that was answered
/// already gets no more time.
private final class DeadlineHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    /// How long a client has to read the last answer before the connection is closed.
    private static let linger = TimeAmount.seconds(1)

    private let deadlines: ClientDeadlines
    /// The end of what is being read, of what is being written, and of the connection.
    private var reading: Scheduled<Void>?
    private var writing: Scheduled<Void>?
    private var closing: Scheduled<Void>?
    /// Whether the last request that began has not ended.
    private var isReading = false
    /// Requests that began and are not answered in full.
    private var owed = 0
    private var isLate = false

    init(_ deadlines: ClientDeadlines) { self.deadlines = deadlines }

    func handlerRemoved(context: ChannelHandlerContext) {
        for scheduled in [reading, writing, closing] { scheduled?.cancel() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head:
            isReading = true
            owed += 1
            expectEnd(context)
        case .body: break
        case .end:
            isReading = false
            reading?.cancel()
            reading = nil
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .end = unwrapOutboundIn(data) {
            owed -= 1
            if isLate && owed == 0 {
                closing = schedule(context, Self.linger) { context.close(promise: nil) }
            } else {
                expectEnd(context)
            }
        }
        context.write(data, promise: promise)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        writing?.cancel()
        writing =
            context.channel.isWritable
            ? nil : schedule(context, deadlines.write) { context.close(promise: nil) }
        context.fireChannelWritabilityChanged()
    }

    /// Begins the time of a request whose turn it is; one that was sent ahead is not read meanwhile.
    private func expectEnd(_ context: ChannelHandlerContext) {
        guard isReading && owed == 1 && reading == nil else { return }
        reading = schedule(context, deadlines.request) { [self] in
            isLate = true
            if owed == 0 {
                context.close(promise: nil)
            } else {
                context.fireErrorCaught(ClientDeadlines.RequestIsLate(limit: deadlines.request))
            }
        }
    }

    private func schedule(
        _ context: ChannelHandlerContext, _ time: TimeAmount, _ body: @escaping () -> Void
    ) -> Scheduled<Void> {
        context.eventLoop.assumeIsolated().scheduleTask(in: time, body)
    }
}

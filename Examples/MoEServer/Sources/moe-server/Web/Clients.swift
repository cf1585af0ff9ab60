import Hummingbird
import NIOCore
import Synchronization

/// Who is still there: a request whose client has gone away need not be answered.
///
/// A client counts as gone once it has closed its side of the connection.
final class Clients: Sendable {
    private struct Client {
        var isGone = false
        /// What waits for it.
        var onLeaving: (@Sendable () -> Void)?
    }

    private let clients = Mutex<[ObjectIdentifier: Client]>([:])

    /// What sees a connection's end; one for each connection.
    func makeHandler() -> some RemovableChannelHandler { Watcher(self) }

    /// Calls `action` when the client of a channel leaves, at once if it has, until `stopWaiting`.
    func whenGone(_ channel: any Channel, _ action: @escaping @Sendable () -> Void) {
        let isGone = clients.withLock { clients in
            clients[ObjectIdentifier(channel)]?.onLeaving = action
            return clients[ObjectIdentifier(channel)]?.isGone ?? true
        }
        if isGone { action() }
    }

    /// Forgets what the client's leaving would have done: the connection may live on for long.
    func stopWaiting(for channel: any Channel) {
        clients.withLock { $0[ObjectIdentifier(channel)]?.onLeaving = nil }
    }

    fileprivate func come(_ channel: any Channel) {
        clients.withLock { $0[ObjectIdentifier(channel)] = Client() }
    }

    fileprivate func leave(_ channel: any Channel) {
        let action = clients.withLock { clients in
            clients[ObjectIdentifier(channel)]?.isGone = true
            return clients[ObjectIdentifier(channel)]?.onLeaving
        }
        action?()
    }

    fileprivate func forget(_ channel: any Channel) {
        leave(channel)
        clients.withLock { $0[ObjectIdentifier(channel)] = nil }
    }
}

private final class Watcher: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = Any
    private let clients: Clients

    init(_ clients: Clients) { self.clients = clients }

    func handlerAdded(context: ChannelHandlerContext) { clients.come(context.channel) }

    func handlerRemoved(context: ChannelHandlerContext) { clients.forget(context.channel) }

    func channelInactive(context: ChannelHandlerContext) {
        clients.leave(context.channel)
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { clients.leave(context.channel) }
        context.fireUserInboundEventTriggered(event)
    }
}

/// A request's context that knows its connection.
struct ConnectionContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }
}

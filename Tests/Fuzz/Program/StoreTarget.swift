import Logging
@testable import MoriShmem
import NIOCore
import NIOEmbedded

/// A connection to the store of a world of two.
enum StoreTarget {
    /// The first byte says who comes, a stranger or a member; then frames, or bytes as they are.
    static func check(_ bytes: [UInt8]) {
        let key = WorldKey(secret: Array("secret".utf8), tag: Array(repeating: 7, count: 16))
        let loop = EmbeddedEventLoop()
        let store = Store(
            worldSize: 2, membership: .everyone, key: key, filter: .anyone,
            logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
        let address = try? SocketAddress(ipAddress: "127.0.0.1", port: 1)
        func connect() -> (EmbeddedChannel, StoreHandler, Greeting) {
            let decoder = FrameDecoder()
            let handler = StoreHandler(store, decoder: decoder, key: key)
            let channel = EmbeddedChannel(loop: loop)
            let added: Void? = try? channel.pipeline.syncOperations.addHandlers(
                ByteToMessageHandler(decoder), handler)
            if let address { channel.connect(to: address, promise: nil) }
            guard added != nil, var frame = try? channel.readOutbound(as: ByteBuffer.self) else {
                fatalError("the store does not greet")
            }
            frame.moveReaderIndex(forwardBy: 4)
            guard let greeting = Greeting(decoding: frame) else {
                fatalError("the store's greeting is none")
            }
            return (channel, handler, greeting)
        }
        func join(_ rank: Int, _ channel: EmbeddedChannel, _ greeting: Greeting) {
            let credentials = Credentials(rank: rank, worldSize: 2, processID: 1)
            let hello = Hello(credentials, to: greeting, key: key)
            _ = try? channel.writeInbound(framed(hello.encoded()))
        }
        let (other, otherHandler, otherGreeting) = connect()
        let (channel, handler, greeting) = connect()
        let kind = bytes.first ?? 0
        if kind & 1 == 1 {
            join(0, other, otherGreeting)
            join(1, channel, greeting)
            precondition(handler.credentials?.rank == 1)
        }
        let rest = bytes.dropFirst()
        if kind & 2 == 2 {
            _ = try? channel.writeInbound(ByteBuffer(bytes: rest))
        } else {
            // Frames of a length that the next byte says, so that the fuzzer need not learn lengths.
            var left = rest
            while let length = left.popFirst() {
                let frame = ByteBuffer(bytes: left.prefix(Int(length)))
                left = left.dropFirst(Int(length))
                if frame.readableBytes > 0 { _ = try? channel.writeInbound(framed(frame)) }
            }
        }
        // Nobody becomes a member without the secret, and a member loses nothing but itself.
        if kind & 1 == 0 { precondition(handler.credentials == nil) }
        if kind & 1 == 1 { precondition(otherHandler.credentials?.rank == 0) }
        store.dismiss()
        _ = try? channel.finish(acceptAlreadyClosed: true)
        _ = try? other.finish(acceptAlreadyClosed: true)
        loop.advanceTime(by: .seconds(10))
    }
}

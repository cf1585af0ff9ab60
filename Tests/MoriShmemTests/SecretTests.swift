import FoundationEssentials
import InMemoryLogging
import Logging
import MoriDevice
import MoriTestSupport
import Testing

@testable import MoriShmem

/// What proves that a rank belongs to a world stays out of logs and messages.
@Suite(.timeLimit(.minutes(5)))
struct SecretTests {
    @Test func noSecretComesIntoALogOrAnError() async throws {
        let secret = "the secret that nobody logs"
        let place = launcher(secret: secret)
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "trace") { _ in handler }
        logger.logLevel = .trace
        let tracing = logger
        // A rank with another secret first: refused, with words on both sides.
        var other = place
        other.secret = Array("another secret that nobody logs".utf8)
        let parameters = [
            member(0, of: 2, at: place), member(1, of: 2, at: place),
            member(1, of: 2, at: other, timeout: .seconds(1)),
        ]
        let joined = await together(3) { index throws(MoriError) in
            try await TCPBootstrap.join(parameters[index], logger: tracing)
        }
        for world in joined.prefix(2).reversed() { await close([try world.get()]) }
        let id = try UniqueID(address: .loopback)
        let wrongID = try Self.withOtherSecret(id)
        let byID = await together(3) { index throws(MoriError) in
            try await TCPBootstrap.join(
                .init(
                    rank: min(index, 1), worldSize: 2, uniqueID: index == 2 ? wrongID : id,
                    timeout: index == 2 ? .seconds(1) : Patience.healthy), logger: tracing)
        }
        for world in byID.prefix(2).reversed() { await close([try world.get()]) }
        var texts = handler.entries.map { "\($0.message) \($0.metadata)" }
        // The control: something was logged, and it is what is looked at.
        tracing.trace("\(secret)")
        let control = handler.entries.map { "\($0.message)" }
        #expect(control.contains { $0.contains(secret) })
        for result in joined + byID {
            if case .failure(let error) = result { texts.append("\(error)") }
        }
        #expect(!texts.isEmpty)
        let secrets = [place.secret, other.secret, id.secret, wrongID.secret]
        for text in texts {
            for secret in secrets { #expect(!Self.shows(text, secret), "\(text)") }
        }
    }

    /// Whether a text has the bytes, as they are, in base64, in hexadecimal or as a list.
    private static func shows(_ text: String, _ secret: [UInt8]) -> Bool {
        let hexadecimal = secret.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
        let forms = [
            String(decoding: secret, as: UTF8.self), Data(secret).base64EncodedString(),
            hexadecimal.joined(), secret.map(String.init).joined(separator: ", "),
        ]
        return forms.contains { text.lowercased().contains($0.lowercased()) }
    }

    private static func withOtherSecret(_ id: UniqueID) throws(MoriError) -> UniqueID {
        var bytes = id.bytes
        // Behind version, family, port and address.
        bytes[24] ^= 1
        return try UniqueID(bytes: bytes)
    }
}

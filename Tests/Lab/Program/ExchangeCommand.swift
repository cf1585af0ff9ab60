import ArgumentParser
import Logging
import MoriDevice
import MoriShmem

/// `mori-lab exchange`: checked writes over the fabric, without an operator.
struct ExchangeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exchange",
        abstract: "Ranks of several hosts exchange checked writes over VerbsFabric.",
        discussion: """
            Start one process a rank, with the variables of torchrun. Each rank sends messages to \
            every rank of the other hosts on every queue, and checks every byte of what it gets \
            once it has seen the message's word.
            """)

    @Option(help: "Queues to each peer.")
    var queues = 1

    @Option(help: "Messages on each queue, 1 or more.")
    var messages = 64

    @Option(help: "Bytes of a message, a multiple of 24.")
    var bytes = 24 * 1024

    @Flag(inversion: .prefixedNo, help: "Let words travel inside their requests.")
    var inline = true

    @Flag(help: "Go on until a peer is lost, and succeed if the error names one of another host.")
    var untilLost = false

    func validate() throws {
        guard queues >= 1, messages >= 1, bytes >= 24, bytes.isMultiple(of: 24) else {
            throw ValidationError(
                "--queues and --messages must be 1 or more, --bytes a positive multiple of 24")
        }
    }

    func run() async throws {
        do throws(MoriError) {
            try await exchange()
        } catch {
            say("mori-lab: \(error)")
            throw ExitCode(1)
        }
    }

    private func exchange() async throws(MoriError) {
        let environment = try MoriEnvironment()
        guard let launched = try LauncherEnvironment() else {
            throw MoriError(.invalidConfiguration, "RANK and WORLD_SIZE are not set")
        }
        let bootstrap = try await TCPBootstrap.join(
            launched.parameters(timeout: environment.bootstrapTimeout),
            logger: Logger(label: "mori-lab"))
        let layout = MessageLayout(
            worldSize: launched.worldSize, queuesPerPeer: queues, byteCount: bytes)
        let device = try Device(.host)
        let memory = try DeviceBuffer(
            byteCount: layout.byteCountOfAll, kind: .symmetric, on: device)
        let host = launched.rank / launched.localWorldSize
        let peers = (0..<launched.worldSize).filter { $0 / launched.localWorldSize != host }
        let request = FabricRequest(
            device: device, address: memory.address, byteCount: memory.byteCount,
            mappedAddresses: [UInt](repeating: 0, count: launched.worldSize), peers: peers,
            queuesPerPeer: queues, purpose: "the lab's exchange")
        var settings = environment.rdma
        settings.usesInlineWords = inline
        let start = ContinuousClock.now
        let link = try await VerbsFabric(settings).connect(
            request, over: bootstrap, timeout: environment.bootstrapTimeout)
        let connected = ContinuousClock.now
        say("rank \(launched.rank): connected with \(peers) in \(connected - start)")

        let exchange = Exchange(
            link, rank: launched.rank, request: request, layout: layout, memory: memory,
            messages: untilLost ? .max : messages)
        // The exchange spins, which Swift's own threads must not do.
        let failure = try await BackgroundThread.run { exchange.run(deadline: .seconds(60)) }
        say("rank \(launched.rank): \(exchange.summary) in \(ContinuousClock.now - connected)")
        if untilLost {
            guard let failure, case .completion(let words, let peer) = failure else {
                throw MoriError(
                    .networkFailure, "no peer was lost: \(failure.map { "\($0)" } ?? "no error")")
            }
            say(
                "rank \(launched.rank): lost rank \(peer) within"
                    + " \(ContinuousClock.now - exchange.lastProgress): \(words)")
            link.close()
            return
        }
        if let failure { throw MoriError(.networkFailure, "\(failure)") }
        try await bootstrap.barrier("exchanged", timeout: environment.bootstrapTimeout)
        link.close()
        await bootstrap.close(timeout: .seconds(5))
        say("rank \(launched.rank): done")
    }
}

import ArgumentParser
import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import MoEServing
import ServiceLifecycle

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answer POST /v1/completions; a page to type into is at /.")

    @OptionGroup var options: ModelOptions

    @Option(help: "The address to listen on; this machine only, unless another is given.")
    var host = "127.0.0.1"

    @Option(help: "The port to listen on, 0 to 65535; 0: any, which is printed.")
    var port = 8080

    @Option(help: "Requests that may wait for a place, 1 or more; others are answered 429.")
    var queue = 64

    @Option(help: "Seconds for the body of a request, 1 to 3600; a slower one is answered 408.")
    var requestTimeout = 10

    @Option(
        help:
            "Seconds that a client may take nothing of what waits for it, 1 to 3600, until it is left."
    )
    var writeTimeout = 30

    func validate() throws {
        guard (0...65535).contains(port) else {
            throw ValidationError("--port is \(port); legal are 0 to 65535")
        }
        guard queue >= 1 else { throw ValidationError("--queue is \(queue); legal is 1 or more") }
        for (name, seconds) in [
            ("--request-timeout", requestTimeout), ("--write-timeout", writeTimeout),
        ] where !(1...3600).contains(seconds) {
            throw ValidationError("\(name) is \(seconds); legal are 1 to 3600")
        }
    }

    func run() async throws {
        let logger = ModelOptions.logger
        var engineOptions = options.engine()
        engineOptions.queue = queue
        let engine = try await Engine.start(
            model: options.readModel(), engineOptions, logger: logger)
        guard engine.serves else {
            // Rank 0 says when it is over, also where a launcher tells all processes at once.
            signal(SIGTERM, SIG_IGN)
            signal(SIGINT, SIG_IGN)
            return try await engine.run()
        }
        let model = URL(fileURLWithPath: options.model).deletingPathExtension().lastPathComponent
        let clients = Clients()
        let deadlines = ClientDeadlines(
            request: .seconds(Int64(requestTimeout)), write: .seconds(Int64(writeTimeout)))
        let router = Routes.make(
            engine, model: model, metrics: ServerMetrics(), clients: clients)
        let app = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [clients.makeHandler(), deadlines.makeHandler()],
                    idleTimeout: .seconds(60))),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: port),
                availableConnectionsDelegate: MaximumAvailableConnections(1024)),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? 0
                print("moe-server: http://\(host):\(port) (\(engine.worldSize) ranks)")
                // A pipe that somebody waits on has it at once.
                fflush(nil)
            }, logger: logger)
        // The last service is the first to be shut down: the ranks work until nobody asks any more. When
        // they fail, the server shuts down as after a signal, and run() throws why.
        var group = ServiceGroupConfiguration(
            services: [
                .init(
                    service: RanksService(engine: engine),
                    failureTerminationBehavior: .gracefullyShutdownGroup),
                .init(service: app),
            ], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        // What runs then is finished; not longer than this.
        group.maximumGracefulShutdownDuration = Duration.seconds(20)
        try await ServiceGroup(configuration: group).run()
    }
}

/// The ranks, for as long as they do steps.
private struct RanksService: Service {
    let engine: Engine

    func run() async throws {
        try await withTaskCancellationOrGracefulShutdownHandler {
            try await engine.run()
        } onCancelOrGracefulShutdown: {
            engine.end()
        }
    }
}

import Logging
import MoEModel
import MoriEP
import Synchronization

/// Where the model's experts are.
package enum Placement: Hashable, Sendable {
    /// All in one thread, without MoriEP: what the others are held against.
    case reference
    /// On so many ranks, which are threads of this process.
    case threads(Int)
    /// On the ranks that a launcher started; this process is one of them.
    case launched
}

/// How an engine is made; the same on every rank.
package struct EngineOptions: Sendable {
    package var placement: Placement
    /// How many ranks a launcher must have started; nil: any number.
    package var launchedRanks: Int?
    /// The number of ranks in whose order of sums the reference adds.
    package var referenceRanks = 1
    /// Sequences that run at the same time, on all ranks together.
    package var batch = 16
    /// Requests that may wait.
    package var queue = 64
    /// How rows travel to experts: f32 or bf16.
    package var rowType: ElementType = .float32
    /// Ranks of a node; nil: all.
    package var ranksPerNode: Int?
    /// asyncLL or interNodeV1LL.
    package var decodeKernel: KernelType = .asyncLL

    package init(_ placement: Placement) { self.placement = placement }

    /// What can be said only once the launcher's ranks have met.
    fileprivate func check(launched worldSize: Int) throws(Engine.InvalidOptions) {
        if let launchedRanks, launchedRanks != worldSize {
            throw Engine.InvalidOptions(
                description:
                    "\(launchedRanks) ranks are asked for, and a launcher started \(worldSize);"
                    + " legal is \(worldSize), or to leave it to the launcher")
        }
        if let ranksPerNode, !(1...worldSize).contains(ranksPerNode) {
            throw Engine.InvalidOptions(
                description:
                    "\(ranksPerNode) ranks per node; legal are 1 to \(worldSize), which is how"
                    + " many a launcher started")
        }
    }
}

/// The ranks at work: each in a thread of its own, doing what the board's plans say.
package final class Engine: Sendable {
    /// Where requests go in; on ranks other than 0 nothing comes of it.
    package let board: RequestBoard
    package let configuration: ModelConfiguration
    /// This process's ranks: of a launched world one, else all.
    package let ranks: [Int]
    package let worldSize: Int
    private let tasks: [Task<Void, any Error>]

    /// Whether this process has rank 0, which takes requests.
    package var serves: Bool { ranks.contains(0) }

    private init(
        _ board: RequestBoard, _ configuration: ModelConfiguration, ranks: [Int], worldSize: Int,
        _ tasks: [Task<Void, any Error>]
    ) {
        self.board = board
        self.configuration = configuration
        self.ranks = ranks
        self.worldSize = worldSize
        self.tasks = tasks
    }

    /// Options that do not fit the world that a launcher started.
    package struct InvalidOptions: Error, CustomStringConvertible {
        package let description: String
    }

    /// Makes the world, loads the model and lets the ranks begin.
    ///
    /// - Throws: `SafetensorsFile.Invalid` for a bad model; `InvalidOptions`; what MoriEP throws.
    package static func start(
        model file: SafetensorsFile, _ options: EngineOptions, logger: Logger
    ) async throws -> Engine {
        let configuration = try ModelConfiguration(file.metadata)
        let whole = options.placement == .launched ? nil : try ModelWeights(file)
        let worlds: [SymmetricMemory]
        switch options.placement {
        case .reference: worlds = []
        case .threads(let count):
            worlds = try await SymmetricMemory.local(
                worldSize: count, device: Device(.host), logger: logger)
        case .launched:
            worlds = [
                try await SymmetricMemory.join(
                    .environment, device: Device(.host), logger: logger)
            ]
        }
        let worldSize = worlds.first?.worldSize ?? 1
        if options.placement == .launched {
            do {
                try options.check(launched: worldSize)
            } catch {
                for world in worlds { world.abort("\(error)") }
                throw error
            }
        }
        let limits = RequestBoard.Limits(
            batch: options.batch, worldSize: worldSize, queue: options.queue,
            context: configuration.context)
        let board = RequestBoard(limits, ranks: Array(0..<worldSize))
        let members = worlds.isEmpty ? [nil] : worlds.map(Optional.some)
        let mailboxes = members.map { _ in ThreadExchange.Mailbox() }
        let ready = AsyncThrowingStream<Void, any Error>.makeStream()
        let tasks = members.map { world in
            let exchange: any StepExchange
            if options.placement == .launched, let world {
                exchange = WorldExchange(world: world, board: board)
            } else {
                exchange = ThreadExchange(
                    rank: world?.rank ?? 0, board: board, mailboxes: mailboxes)
            }
            let member = EngineMember(
                world: world, exchange: exchange, file: file, whole: whole,
                configuration: configuration,
                options: options,
                limits: limits, board: board, logger: logger, ready: ready.continuation)
            let thread = RankThread(name: "rank \(world?.rank ?? 0)")
            return Task(executorPreference: thread) {
                defer { thread.stop() }
                try await member.run()
            }
        }
        var left = tasks.count
        do {
            for try await _ in ready.stream {
                left -= 1
                if left == 0 { break }
            }
        } catch {
            for world in worlds { world.abort("another rank could not begin") }
            throw error
        }
        return Engine(
            board, configuration, ranks: worlds.isEmpty ? [0] : worlds.map(\.rank),
            worldSize: worldSize, tasks)
    }

    /// Waits until the ranks of this process have ended.
    ///
    /// - Throws: why, if not by `end` or `stop`; of several ranks, why the lowest has.
    package func run() async throws {
        var outcomes: [Result<Void, any Error>] = []
        for task in tasks { outcomes.append(await task.result) }
        for outcome in outcomes { try outcome.get() }
    }

    /// Lets the ranks end after the step that they are in: requests that still run fail.
    package func end() { board.stop() }

    /// The same, and waits for it.
    package func stop() async {
        end()
        for task in tasks { _ = await task.result }
    }
}

/// One rank of an engine, from its operators to the end of its world.
private struct EngineMember: Sendable {
    let world: SymmetricMemory?
    let exchange: any StepExchange
    let file: SafetensorsFile
    /// All weights, where the ranks of this process share them.
    let whole: ModelWeights?
    let configuration: ModelConfiguration
    let options: EngineOptions
    let limits: RequestBoard.Limits
    let board: RequestBoard
    let logger: Logger
    let ready: AsyncThrowingStream<Void, any Error>.Continuation

    private var rank: Int { world?.rank ?? 0 }

    func run() async throws {
        do {
            let mixture: any Mixture
            let weights: ModelWeights
            if let world {
                let own = RankMixture.experts(
                    of: world.rank, worldSize: world.worldSize, configuration)
                weights = try whole?.part(experts: own) ?? ModelWeights(file, experts: own)
                mixture = try await RankMixture(
                    weights, in: world,
                    RankMixture.Configuration(
                        rowType: options.rowType, prefillRows: limits.context,
                        // Rank 0 has the most places; the operators of all ranks are alike.
                        decodeRows: limits.places[0], worldSize: world.worldSize,
                        ranksPerNode: options.ranksPerNode, decodeKernel: options.decodeKernel))
            } else {
                weights = try whole ?? ModelWeights(file)
                mixture = ReferenceMixture(weights, inOrderOf: options.referenceRanks)
            }
            let loop = RankLoop(rank: rank, Transformer(weights, mixture))
            ready.yield()
            try await steps(loop)
            try await (mixture as? RankMixture)?.close()
            try await world?.close()
        } catch {
            ready.finish(throwing: error)
            if rank == 0 { board.fail("\(error)") }
            world?.abort("\(error)")
            (exchange as? ThreadExchange)?.end(error)
            try? await world?.close()
            throw error
        }
    }

    /// Step after step until the plan says stop; a rank that is lost is left behind.
    private func steps(_ loop: RankLoop) async throws {
        let heartbeat = exchange.needsHeartbeat ? Task { try await beat() } : nil
        defer { heartbeat?.cancel() }
        var events: [TokenEvent] = []
        while true {
            do {
                let plan = try await exchange.next(events)
                events = []
                if plan.stops { return }
                events = try loop.step(plan)
            } catch let error as MoriError {
                events = []
                loop.reset()
                try await goOn(after: error)
            }
        }
    }

    /// Twice a second; the deadline that the others wait with is far longer.
    private func beat() async throws {
        while true {
            try await Task.sleep(for: .milliseconds(500))
            board.wake()
        }
    }

    /// Leaves the ranks behind that the error is about, with their experts.
    ///
    /// - Throws: the error where that cannot be: it names nobody else, or rank 0, which serves.
    private func goOn(after error: MoriError) async throws {
        guard let world else { throw error }
        if rank == 0 { board.fail("a rank failed: \(error.message)") }
        logger.warning("the ranks' rounds ended", metadata: ["error": "\(error)"])
        var error = error
        for _ in world.activeRanks {
            let lost = error.ranks.filter { $0 != rank }
            let survivors = world.activeRanks.filter { !lost.contains($0) }
            guard !lost.isEmpty, survivors.first == 0 else { throw error }
            do {
                try await world.recover(activeRanks: survivors, timeout: .seconds(20))
                if rank == 0 { board.resume(with: survivors) }
                return logger.notice("goes on without ranks \(lost)")
            } catch let next {
                error = next
            }
        }
        throw error
    }
}

extension Engine {
    /// What can end a completion early.
    package struct Interrupted: Error, CustomStringConvertible {
        package let description: String
    }

    /// Makes one completion, and waits for it.
    ///
    /// - Returns: Its bytes.
    /// - Throws: `RequestBoard.Refusal`; `Interrupted`.
    package func complete(_ parameters: CompletionParameters) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        for await update in try board.submit(parameters).updates {
            switch update {
            case .token(let event): if event.finish != .stop { bytes.append(event.token) }
            case .failed(let reason): throw Interrupted(description: reason)
            }
        }
        return bytes
    }
}

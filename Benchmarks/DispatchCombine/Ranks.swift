import FoundationEssentials
import MoriDevice
import MoriEP
import MoriLauncher
import MoriShmem

/// The ways to get ranks.
enum Ranks {
    /// What a rank process tells the process that started it, as one line of standard output.
    private struct Message: Codable {
        var failure: RankFailure?
        var result: BenchResult?
    }

    /// Starts a process for each rank and gives what rank 0 reports.
    static func processes(_ settings: BenchSettings) async throws -> BenchResult {
        guard let program = ProcessVariables.executable else {
            throw BenchFailure("this program's own path cannot be read from /proc/self/exe")
        }
        // Ranks that wait for a dead one notice at once, or at the operator's deadline.
        let deadline = settings.config.timeout ?? SymmetricMemory.defaultRoundTimeout
        let launcher = RankLauncher(
            program: program, arguments: CommandLine.arguments.dropFirst() + ["--worker"],
            worldSize: settings.shape.ranks, standardOutput: .collected,
            grace: deadline + .seconds(15))
        let exits = try await launcher.run()
        let messages = exits.map { exit in
            exit.standardOutput.split(separator: UInt8(ascii: "\n")).last.flatMap {
                try? JSONDecoder().decode(Message.self, from: Data($0))
            }
        }
        if exits.allSatisfy(\.isSuccess), let result = messages[0]?.result { return result }
        // First the ranks that could not say anything themselves: they are the cause.
        let silent = zip(exits, messages).filter { !$0.isSuccess && $1?.failure == nil }.map(\.0)
        throw BenchFailure(
            lines: silent.sorted { $0.order < $1.order }.map(\.description)
                + RankFailure.lines(messages.compactMap { $0?.failure }))
    }

    /// Runs one rank for the process that started it.
    ///
    /// - Returns: Whether it succeeded.
    static func work(_ settings: BenchSettings) async -> Bool {
        var message = Message()
        do throws(RankFailure) {
            message.result = try await joined(settings)
        } catch {
            message.failure = error
        }
        if let line = try? JSONEncoder().encode(message) {
            Console.print(String(decoding: line, as: UTF8.self) + "\n")
        }
        return message.failure == nil
    }

    /// Runs one rank of a launcher's world.
    ///
    /// - Returns: The result on rank 0, nil on others.
    static func join(_ settings: BenchSettings) async throws -> BenchResult? {
        do throws(RankFailure) {
            return try await joined(settings)
        } catch {
            throw BenchFailure(lines: RankFailure.lines([error]))
        }
    }

    private static func joined(
        _ settings: BenchSettings
    ) async throws(RankFailure) -> BenchResult? {
        let world: SymmetricMemory
        do {
            world = try await .join(.environment)
        } catch {
            let rank = (try? LauncherEnvironment())?.rank ?? 0
            throw RankFailure(error, rank: rank)
        }
        let routes = Routes(settings)
        return try await run(world, settings, routes)
    }

    /// Runs every rank as a thread of this process.
    static func threads(_ settings: BenchSettings) async throws -> BenchResult {
        let worlds = try await SymmetricMemory.local(worldSize: settings.shape.ranks)
        let routes = Routes(settings)
        let outcomes = await withTaskGroup(of: Result<BenchResult?, RankFailure>.self) { group in
            for world in worlds {
                group.addTask {
                    do throws(RankFailure) {
                        return .success(try await run(world, settings, routes))
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var outcomes: [Result<BenchResult?, RankFailure>] = []
            for await outcome in group { outcomes.append(outcome) }
            return outcomes
        }
        var failures: [RankFailure] = []
        for case .failure(let failure) in outcomes { failures.append(failure) }
        for case .success(.some(let result)) in outcomes where failures.isEmpty { return result }
        throw BenchFailure(lines: RankFailure.lines(failures.sorted { $0.rank < $1.rank }))
    }

    /// Runs a rank in its world, and leaves the world.
    private static func run(
        _ world: SymmetricMemory, _ settings: BenchSettings, _ routes: Routes
    ) async throws(RankFailure) -> BenchResult? {
        do {
            let result = try await RankRun<BFloat16, BFloat16>.run(settings, routes, in: world)
            try await world.close()
            return world.rank == 0 ? result : nil
        } catch {
            // What a failed round looked like is what one wants to see.
            if let path = settings.trace, world.fault != nil {
                _ = try? await world.exportTrace(to: path)
            }
            // Peers do not wait for a rank that gave up; those that it gave up for know already.
            if world.fault == nil { world.abort("\(error)") }
            try? await world.close()
            throw RankFailure(error, rank: world.rank)
        }
    }
}

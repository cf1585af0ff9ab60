import CMoriSystem
public import MoriDevice

/// Starts a program as the ranks of a world on this machine, and waits for all of them.
///
/// Ranks find each other by the variables of torchrun: RANK, WORLD_SIZE, LOCAL_RANK,
/// LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and by a random MORI_BOOTSTRAP_SECRET. They end
/// with their launcher, however that ends. When one of them fails, the others have a grace time to
/// end by themselves and are then killed.
public struct RankLauncher: Sendable {
    /// Where one of a rank's two outputs goes.
    public enum Output: Hashable, Sendable {
        /// Where this process's goes.
        case inherited
        /// The same, line by line, with the rank before each line ("[3] ").
        case prefixed
        /// Into the rank's `RankExit`; what goes beyond 16 MiB is lost.
        case collected
    }

    /// The program: a path, or a name to be looked for in PATH.
    public var program: String
    /// Its arguments, without its name.
    public var arguments: [String]
    /// Ranks, 1 or more.
    public var worldSize: Int
    /// Variables beside this process's own and the launcher's; they win.
    public var environment: [String: String]
    /// Where the ranks' standard output goes.
    public var standardOutput: Output
    /// Where the ranks' standard error goes.
    public var standardError: Output
    /// How long the others may go on when a rank has failed.
    public var grace: Duration
    /// Whether signals that ask this process to end, SIGUSR1 and SIGUSR2 go to the ranks instead.
    ///
    /// They do from the first launch that asks for it on, to the end of this process.
    public var forwardsSignals: Bool

    /// Describes a launch.
    public init(
        program: String, arguments: [String] = [], worldSize: Int,
        environment: [String: String] = [:], standardOutput: Output = .inherited,
        standardError: Output = .inherited, grace: Duration = .seconds(30),
        forwardsSignals: Bool = false
    ) {
        self.program = program
        self.arguments = arguments
        self.worldSize = worldSize
        self.environment = environment
        self.standardOutput = standardOutput
        self.standardError = standardError
        self.grace = grace
        self.forwardsSignals = forwardsSignals
    }

    /// Runs the ranks to their end.
    ///
    /// When the task is cancelled, they are killed.
    ///
    /// - Returns: How each rank ended, by rank.
    /// - Throws: `invalidArgument` when the program cannot be started, with every path tried;
    ///   `outOfMemory` when the system has no descriptors or threads left.
    public func run() async throws(MoriError) -> [RankExit] {
        guard worldSize >= 1 else {
            throw MoriError(.invalidArgument, "a launch of \(worldSize) ranks; legal is 1 or more")
        }
        let path = try ProgramPath.find(program)
        let shared = try worldVariables()
        let plans = (0..<worldSize).map { rank in
            let own = ["RANK": "\(rank)", "LOCAL_RANK": "\(rank)"]
            return ProcessPlan(
                path: path, arguments: [program] + arguments,
                environment: shared.merging(own) { $1 }.merging(environment) { $1 },
                standardOutput: standardOutput, standardError: standardError)
        }
        return try await ProcessGroup(
            plans: plans, grace: grace, forwardsSignals: forwardsSignals
        ).run()
    }

    /// The variables that all ranks have in common.
    private func worldVariables() throws(MoriError) -> [String: String] {
        let port = mori_free_port()
        guard port > 0 else {
            throw MoriError(
                .bootstrapFailed, "no port of 127.0.0.1 is free",
                cause: .errno(call: "bind", code: -port))
        }
        let own = [
            "WORLD_SIZE": "\(worldSize)", "LOCAL_WORLD_SIZE": "\(worldSize)",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "\(port)",
            "MORI_BOOTSTRAP_SECRET": Self.secret(),
            Lifeline.variable: "\(MORI_LIFELINE_DESCRIPTOR)",
        ]
        return ProcessVariables.all.merging(own) { $1 }
    }

    /// 256 random bits.
    private static func secret() -> String {
        var random = SystemRandomNumberGenerator()
        return (0..<4).map { _ in
            let digits = String(random.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

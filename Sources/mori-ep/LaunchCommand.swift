import ArgumentParser
import MoriDevice
import MoriLauncher
import MoriOptions

/// `mori-ep launch`: a program as N ranks of this machine.
struct LaunchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch",
        abstract: "Starts a program as the ranks of a world on this machine.",
        discussion: """
            The ranks find each other by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, \
            MASTER_ADDR, MASTER_PORT and MORI_BOOTSTRAP_SECRET, as under torchrun. They end when \
            mori-ep ends, however that happens. When one fails, the others have a grace time to \
            end by themselves and are then killed; the exit status is that of the first failure, \
            128 and the signal for a rank that a signal killed.

            SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to all ranks. The \
            first four end the launch: ranks have the grace time then, and none at the second one. \
            When the ranks have ended, what they left running is killed.
            """)

    @Option(
        name: [.customShort("n"), .long], help: "Ranks, 1 or more.", transform: OptionTypes.count)
    var ranks: Int

    @Flag(inversion: .prefixedNo, help: "Write the rank before each line of output.")
    var prefix = true

    @Option(
        help: "Seconds that the others have when a rank has failed.",
        transform: { try OptionTypes.seconds($0, 0...1e6) })
    var grace: Double = 30

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The program and its arguments.", valueName: "program"))
    var command: [String]

    func validate() throws {
        guard !words.isEmpty else {
            throw ValidationError("no program; write it after --: mori-ep launch -n 8 -- program")
        }
    }

    /// The program and its arguments, without the `--` before them.
    private var words: ArraySlice<String> {
        command.first == "--" ? command.dropFirst() : command[...]
    }

    func run() async throws {
        let output: RankLauncher.Output = prefix ? .prefixed : .inherited
        let launcher = RankLauncher(
            program: words.first ?? "", arguments: Array(words.dropFirst()), worldSize: ranks,
            standardOutput: output, standardError: output, grace: .seconds(grace),
            forwardsSignals: true)
        Descendants.adopt()
        defer { Descendants.end() }
        let exits: [RankExit]
        do throws(MoriError) {
            exits = try await launcher.run()
        } catch {
            Console.error("mori-ep: \(error)\n")
            throw ExitCode(127)
        }
        for exit in exits where !exit.isSuccess { Console.error("mori-ep: \(exit)\n") }
        if let first = exits.firstFailure { throw ExitCode(first.shellStatus) }
    }
}

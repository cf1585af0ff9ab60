import ArgumentParser
import Glibc

/// `mori-lab`: what runs inside the virtual machines of `make test-rdma` beside the benchmark, and in the
/// processes that tests kill.
@main
struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mori-lab",
        abstract: "Checks of ranks on several hosts, over real verbs.",
        subcommands: [ExchangeCommand.self, RoundsCommand.self, SurvivalCommand.self],
        defaultSubcommand: ExchangeCommand.self)
}

/// Prints a line at once, so that what a rank has said is known even if it is ended.
func say(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = unsafe write(STDOUT_FILENO, line, line.count)
}

import ArgumentParser

/// `mori-ep`: what the library's users need on a command line.
@main
struct MoriEPCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mori-ep",
        abstract:
            "Starts programs as ranks of a world, tunes launches, and shows what this machine has.",
        subcommands: [
            LaunchCommand.self, InfoCommand.self, DoctorCommand.self, TuneCommand.self,
            SelfTestRank.self,
        ])
}

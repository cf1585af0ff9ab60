import ArgumentParser

/// `mori-ep`: what the library's users need on a command line.
@main
struct MoriEPCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mori-ep",
        abstract: "Starts programs as ranks of a world, tunes launches, shows machines and traces.",
        subcommands: [
            LaunchCommand.self, InfoCommand.self, DoctorCommand.self, TuneCommand.self,
            TraceCommand.self,
            SelfTestRank.self,
        ])
}

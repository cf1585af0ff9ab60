import ArgumentParser
import MoriLauncher
import MoriShmem

/// `mori-ep doctor`: what the environment says, and what is wrong with it.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Shows every environment variable: value, origin and meaning.",
        discussion: """
            The exit status is 1 when a variable, cannot \
            be read. Variables that begin with MORI_ and \
            that nobody knows are named with the known one that is most like them.
            """)

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let report = EnvironmentReport()
        Console.print(json ? try DoctorReport(report).json() + "\n" : DoctorTable.text(of: report))
        if !report.problems.isEmpty { throw ExitCode(1) }
    }
}

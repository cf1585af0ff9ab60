import ArgumentParser
import MoriDevice
import MoriEP
import MoriLauncher
import MoriShmem

/// `mori-ep doctor`: what the environment says, and what is wrong with it.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Shows every environment variable: value, origin and meaning.",
        discussion: """
            The exit status is 1 when a variable, or the file of tuning rules that one names, cannot \
            be read. Variables that begin with MORI_ and \
            that nobody knows are named with the known one that is most like them.
            """)

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        var report = EnvironmentReport()
        if let problem = Self.tuningProblem() { report.add(problem: problem) }
        Console.print(json ? try DoctorReport(report).json() + "\n" : DoctorTable.text(of: report))
        if !report.problems.isEmpty { throw ExitCode(1) }
    }

    /// What is wrong with the file that MORI_EP_TUNING_CONFIG names.
    private static func tuningProblem() -> String? {
        // What cannot be read at all is in the report already.
        guard let environment = try? MoriEnvironment(), case .file(let path) = environment.tuning
        else { return nil }
        do throws(MoriError) {
            let file = try TuningFile(contentsOf: path)
            let device = try Device.selected(environment.device, localRank: 0)
            try file.check(for: device.properties())
            return nil
        } catch {
            return error.message
        }
    }
}

import ArgumentParser
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOptions
import MoriShmem

/// `mori-ep doctor`: what this machine has for the library, what is wrong, and what mends it.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Shows what this machine has, tests it, and says how to mend what is wrong.",
        discussion: """
            Devices, drivers and kernel libraries with all paths tried; RDMA NICs with ports, GIDs, \
            rates and their distance to each device; limits of memory, huge pages, NUMA; every \
            environment variable with its value and origin; and a round between two ranks over each \
            transport that is there.

            EXIT STATUS
              0   nothing is wrong; a machine without GPU and NIC is fine, too
              1   there are problems, each with the command that mends it
              2   it could not look: there is no such --root, or procfs and sysfs are not there
              64  an option is wrong
            """)

    @Flag(help: "Print JSON, whose keys docs/doctor.md documents.")
    var json = false

    @Flag(help: "Show launchers' variables and those without effect where they are not set, too.")
    var all = false

    @Flag(inversion: .prefixedNo, help: "Run a round between two ranks over each transport.")
    var selfTest = true

    @Option(
        help: ArgumentHelp(
            "Seconds that each of them may take; they run at once.", valueName: "seconds"),
        transform: { try OptionTypes.seconds($0, 0.1...600) })
    var selfTestLimit: Double = 4

    @Option(
        help: ArgumentHelp(
            "Look at procfs and sysfs below another root, such as a copy of another machine's;"
                + " libraries are not asked, nothing is run, and variables are not judged then.",
            valueName: "folder"))
    var root: String = ""

    func run() async throws {
        let files = SystemFiles(root: root == "/" ? "" : root)
        guard files.exists("/proc"), files.exists("/sys") else {
            Console.error(
                "mori-ep doctor: \(root.isEmpty ? "/" : root) has no proc and sys to look at; legal"
                    + " is the root of a system, or of a copy of its /proc and /sys\n")
            throw ExitCode(2)
        }
        let isHere = files.root.isEmpty
        var environment = EnvironmentReport()
        if isHere, let problem = Self.tuningProblem() { environment.add(problem: problem) }
        var report = DoctorReport(environment, files, asksLibraries: isHere)
        if isHere && selfTest { await addSelfTests(to: &report, environment) }
        do {
            Console.print(
                json ? try report.json() + "\n" : DoctorTable.text(of: report, showsAll: all))
        } catch {
            Console.error("mori-ep doctor: \(error)\n")
            throw ExitCode(2)
        }
        if !report.problems.isEmpty { throw ExitCode(1) }
    }

    /// Runs all tests at once.
    private func addSelfTests(
        to report: inout DoctorReport, _ environment: EnvironmentReport
    ) async {
        // What the user has left out is not tested.
        let isChosen = report.variables.contains {
            $0.name == "MORI_RDMA_DEVICES" && $0.origin == .set
        }
        let usable = report.usableNICs
        let tests = SelfTest.all(
            devices: report.answeringKinds,
            nics: isChosen && !usable.isEmpty ? [nil] : usable, limit: selfTestLimit)
        guard environment.problems.isEmpty else {
            report.selfTests = tests.map {
                SelfTestReport(
                    transport: $0.transport, result: "skipped",
                    reason: "the environment cannot be read")
            }
            return
        }
        report.selfTests = await withTaskGroup(of: (Int, SelfTestReport).self) { group in
            for (place, test) in tests.enumerated() {
                group.addTask { (place, await test.run()) }
            }
            var reports: [(Int, SelfTestReport)] = []
            for await result in group { reports.append(result) }
            return reports.sorted { $0.0 < $1.0 }.map(\.1)
        }
        for (test, found) in zip(tests, report.selfTests) where found.result == "failed" {
            report.problems.append(
                DoctorReport.Problem(
                    problem: "the self-test over \(test.transport) failed: \(found.reason ?? "")",
                    command: "MORI_EP_DEVICE=\(test.device) MORI_EP_FABRIC=\(test.fabric)"
                        + (test.nic.map { " MORI_RDMA_DEVICES=\($0)" } ?? "")
                        + " mori-ep launch -n 2 -- mori-ep self-test-rank --kernel \(test.kernel)"))
        }
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

import FoundationEssentials
import MoriDevice
import MoriShmem

/// What `mori-ep doctor --json` prints; docs/doctor.md documents the keys.
struct DoctorReport: Encodable {
    /// One variable.
    struct Variable: Encodable {
        var name: String
        /// What holds: the value, or in words what takes its place.
        var value: String
        /// "set" or "default".
        var origin: EnvironmentReport.Origin
        var meaning: String
        var legal: String
        /// "setting", "launcher" or "ignored".
        var role: String
        /// Why the value cannot be read.
        var problem: String?
    }

    /// What is wrong, and what mends it.
    struct Problem: Encodable, Equatable {
        var problem: String
        /// A command, or in words what to do.
        var command: String
    }

    var schema = "moriep.doctor.v1"
    var host: HostReport
    /// GPUs on the PCI bus, usable or not.
    var gpus: [PCIGPU]
    /// One of each kind of device.
    var devices: [GPUReport]
    /// What `MORI_EP_DEVICE`, or its default, comes to; nil where nothing does.
    var defaultDevice: String?
    var nics: [NICReport]
    var variables: [Variable]
    var unknown: [UnknownVariable]
    var selfTests: [SelfTestReport] = []
    /// The exit status is 1 where there is one.
    var problems: [Problem] = []
    /// What is good to know and no problem.
    var notes: [String] = []

    /// Looks at everything but the self-tests; asking kernel libraries and libibverbs makes sense for
    /// this machine's own tree only.
    init(_ environment: EnvironmentReport, _ files: SystemFiles, asksLibraries: Bool) {
        host = HostReport(files)
        gpus = PCIGPU.all(files)
        // The emulator is of this package's tests, and looked for only when it is asked for.
        let kinds = Device.Kind.allCases.filter {
            $0 != .emulated || ProcessVariables.all["MORI_EP_DEVICE"] == $0.rawValue
        }
        devices = kinds.map { GPUReport($0, files, asksLibraries: asksLibraries) }
        var places = gpus.map { ("\($0.kind) \($0.address)", $0.location) }
        if asksLibraries, let device = try? Device(.host) {
            places.insert(("host", RDMAHost.location(of: device)), at: 0)
        }
        nics = NICReport.all(files, to: places)
        variables = environment.rows.map(Variable.init)
        unknown = environment.unknown
        // The variables are this shell's, and say nothing of the machine that was copied.
        if asksLibraries {
            problems = environment.problems.map {
                Problem(problem: $0, command: "correct or unset the variable that is named")
            }
        }
        judge(files, asksLibraries: asksLibraries)
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// The kinds of device that answer.
    var answeringKinds: [String] { devices.filter { !$0.devices.isEmpty }.map(\.kind) }

    /// The NICs with a port that can carry bytes.
    var usableNICs: [String] {
        nics.filter { nic in
            nic.problem == nil && nic.ports.contains { $0.isActive && !$0.gids.isEmpty }
        }.map(\.name)
    }
}

extension DoctorReport.Variable {
    fileprivate init(_ row: EnvironmentReport.Row) {
        let role =
            switch row.variable.role {
            case .setting: "setting"
            case .launcher: "launcher"
            case .ignored: "ignored"
            }
        self.init(
            name: row.name, value: row.value, origin: row.origin, meaning: row.variable.meaning,
            legal: row.variable.legal, role: role, problem: row.problem)
    }
}

import FoundationEssentials
import MoriLauncher
import Testing

/// What `mori-ep doctor --json` prints, as a program of somebody else would read it: the keys that
/// docs/doctor.md promises.
struct DoctorDocument: Decodable {
    struct Host: Decodable {
        struct HugePages: Decodable {
            var pageBytes: Int
            var total: Int
            var free: Int
        }
        struct NUMANode: Decodable {
            var node: Int
            var processors: String
            var memoryBytes: Int?
            var distances: [Int]
        }
        var name: String
        var kernel: String?
        var processors: Int
        var memoryBytes: Int?
        var availableMemoryBytes: Int?
        var lockedMemoryLimitBytes: Int?
        var lockedMemoryIsLimited: Bool
        var mayLockAnyMemory: Bool
        var openFileLimit: Int?
        var sharedMemoryBytes: Int?
        var hugePages: [HugePages]
        var transparentHugePages: String?
        var numaNodes: [NUMANode]
    }
    struct GPU: Decodable {
        var kind: String
        var address: String
        var driver: String?
        var numaNode: Int?
    }
    struct Device: Decodable {
        struct Attempt: Decodable {
            var path: String
            var reason: String?
        }
        struct Found: Decodable {
            var device: String
            var name: String
            var architecture: String
            var computeUnits: Int
            var lanesPerWarp: Int
            var memoryBytes: Int
        }
        var kind: String
        var library: String?
        var attempts: [Attempt]
        var devices: [Found]
        var reason: String?
        var driverVersion: String?
        var softwareVersion: String?
    }
    struct NIC: Decodable {
        struct GID: Decodable {
            var index: Int
            var address: String
            var type: String
            var interface: String?
        }
        struct Port: Decodable {
            var number: Int
            var state: String
            var isActive: Bool
            var linkLayer: String
            var rate: String?
            var gids: [GID]
        }
        struct Distance: Decodable {
            var device: String
            var numa: String
            var pciHops: Int?
        }
        var name: String
        var pciAddress: String?
        var numaNode: Int?
        var firmware: String?
        var ports: [Port]
        var distances: [Distance]
        var problem: String?
    }
    struct Variable: Decodable {
        var name: String
        var value: String
        var origin: String
        var meaning: String
        var legal: String
        var role: String
        var problem: String?
    }
    struct Unknown: Decodable {
        var name: String
        var nearest: String
    }
    struct SelfTest: Decodable {
        var transport: String
        var result: String
        var seconds: Double?
        var reason: String?
    }
    struct Problem: Decodable {
        var problem: String
        var command: String
    }
    var schema: String
    var host: Host
    var gpus: [GPU]
    var devices: [Device]
    var defaultDevice: String?
    var nics: [NIC]
    var variables: [Variable]
    var unknown: [Unknown]
    var selfTests: [SelfTest]
    var problems: [Problem]
    var notes: [String]

    /// Runs the doctor with `--json` and reads what it prints.
    static func of(
        _ options: [String], environment: [String: String] = [:]
    ) async throws -> (DoctorDocument, RankExit.Reason) {
        let ended = try await Programs.run(
            "mori-ep", ["doctor", "--json"] + options, environment: environment)
        let document = try JSONDecoder().decode(Self.self, from: Data(ended.output.utf8))
        #expect(document.schema == "moriep.doctor.v1")
        #expect(ended.errors == "")
        return (document, ended.exit.reason)
    }
}

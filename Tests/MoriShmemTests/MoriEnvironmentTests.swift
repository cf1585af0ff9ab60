import InMemoryLogging
import Logging
import MoriDevice
@testable import MoriShmem
import Testing

/// The variables of this library, by their list.
@Suite struct MoriEnvironmentTests {
    private var settings: [KnownVariable] {
        MoriEnvironment.knownVariables.filter { $0.role == .setting }
    }

    @Test func everyNameIsListedOnce() {
        let names = MoriEnvironment.knownVariables.map(\.name)
        #expect(Set(names).count == names.count)
        for variable in MoriEnvironment.knownVariables {
            #expect(!variable.meaning.isEmpty && !variable.meaning.contains("\n"))
            #expect(!variable.legal.isEmpty)
            #expect(variable.role != .setting || !variable.defaultText.isEmpty)
        }
    }

    /// The defaults of the tables are those of the code.
    @Test(arguments: [
        "MORI_EP_DEVICE", "MORI_EP_LAUNCH_CONFIG_MODE", "MORI_EP_TUNING_CONFIG", "MORI_EP_FABRIC",
        "MORI_SHMEM_HEAP_SIZE", "MORI_BOOTSTRAP_TIMEOUT", "MORI_DISABLE_TOPO", "MORI_RDMA_SL",
        "MORI_RDMA_TC", "MORI_RDMA_CM",
    ])
    func whatTheTableCallsTheDefaultIsTheDefault(_ name: String) throws {
        let variable = try #require(settings.first { $0.name == name })
        #expect(try MoriEnvironment([name: variable.defaultText]) == MoriEnvironment([:]))
    }

    @Test(arguments: [
        "MORI_EP_DEVICE": "amd", "MORI_EP_LAUNCH_CONFIG_MODE": "AUTO",
        "MORI_EP_TUNING_CONFIG": "rules.json", "MORI_EP_FABRIC": "verbs", "MORI_EP_TIMEOUT": "5",
        "MORI_SHMEM_HEAP_SIZE": "2G", "MORI_NODE_ID": "a", "MORI_BOOTSTRAP_TIMEOUT": "5",
        "MORI_SOCKET_IFNAME": "eth1", "GLOO_SOCKET_IFNAME": "eth2", "MORI_RDMA_DEVICES": "mlx5_0",
        "MORI_DISABLE_TOPO": "1", "MORI_IB_GID_INDEX": "1", "MORI_RDMA_SL": "1",
        "MORI_RDMA_TC": "96", "MORI_IB_PATH_MTU": "4096", "MORI_RDMA_CM": "1",
        "MORI_GLOBAL_LOG_LEVEL": "WARN",
    ])
    func everySettingChangesTheEnvironment(_ name: String, _ value: String) throws {
        #expect(try MoriEnvironment([name: value]) != MoriEnvironment([:]))
        #expect(try MoriEnvironment([name: ""]) == MoriEnvironment([:]))
    }

    @Test(arguments: [
        ("MORI_EP_DEVICE", "gpu", "auto, host, amd, nvidia, emulated"),
        ("MORI_EP_LAUNCH_CONFIG_MODE", "auto", "MANUAL, AUTO"),
        ("MORI_EP_LAUNCH_CONFIG_MODE", "FAST", "MANUAL, AUTO"),
        ("MORI_DISABLE_TOPO", "yes", "0 or 1"),
        ("MORI_IB_PATH_MTU", "9000", "256, 512, 1024, 2048 or 4096"),
        ("MORI_GLOBAL_LOG_LEVEL", "loud", "trace, debug, info"),
    ])
    func anUnparsableValueIsRefusedByName(_ name: String, _ value: String, _ legal: String) throws {
        let error = try #require(throws: MoriError.self) { try MoriEnvironment([name: value]) }
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.contains("\(name) is \"\(value)\"; legal is \(legal)"))
        let report = EnvironmentReport([name: value])
        #expect(report.problems == [error.message])
        #expect(report.rows.first { $0.name == name }?.problem == error.message)
    }

    @Test(arguments: [
        ("MORI_SHMEM_HEAPSIZE", "MORI_SHMEM_HEAP_SIZE"),
        ("MORI_EP_LAUNCH_MODE", "MORI_EP_LAUNCH_CONFIG_MODE"),
        ("MORI_RDMA_DEVICE", "MORI_RDMA_DEVICES"),
        ("MORI_IB_GUID_INDEX", "MORI_IB_GID_INDEX"),
        ("MORI_EP_TUNNING_CONFIG", "MORI_EP_TUNING_CONFIG"),
        ("MORI_", "MORI_NODE_ID"),
    ])
    func anUnknownVariableIsNamedWithTheNearest(_ name: String, _ nearest: String) throws {
        let unknown = try MoriEnvironment([name: "1"]).unknown
        #expect(unknown.map(\.name) == [name])
        #expect(unknown.first?.nearest == nearest)
    }

    @Test func whatIsKnownOrNotOursIsNotUnknown() throws {
        var values = ["PATH": "/bin", "MORIEP_X": "1", "MORI_JIT_CACHE_DIR": "x"]
        values["MORI_GOR_PORT3"] = "49153"
        for variable in MoriEnvironment.knownVariables where variable.role != .setting {
            values[variable.name] = "1"
        }
        let environment = try MoriEnvironment(values)
        #expect(environment.unknown.isEmpty)
        #expect(environment.withoutEffect.contains("MORI_JIT_CACHE_DIR"))
        #expect(environment.withoutEffect.contains("MORI_GOR_PORT3"))
        #expect(!environment.withoutEffect.contains("RANK"))
    }

    @Test func whatIsSetInVainIsSaidOnce() throws {
        let environment = try MoriEnvironment([
            "MORI_SHMEM_HEAPSIZE": "6G", "MORI_SHMEM_MODE": "isolation",
        ])
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in handler }
        logger.logLevel = .debug
        let said = Locked<Set<String>>([])
        environment.report(to: logger, once: said)
        environment.report(to: logger, once: said)
        let entries = handler.entries
        #expect(entries.map(\.level) == [.warning, .debug])
        #expect(
            entries.first?.metadata == [
                "variable": "MORI_SHMEM_HEAPSIZE", "nearest": "MORI_SHMEM_HEAP_SIZE",
            ])
        #expect(entries.last?.metadata["variable"] == "MORI_SHMEM_MODE")
        let reason = entries.last?.metadata["reason"].map { "\($0)" } ?? ""
        #expect(reason.hasPrefix("every allocation"))
    }

    @Test func theLogLevelIsTheLoggers() throws {
        var logger = Logger(label: "test")
        logger.logLevel = .info
        #expect(try MoriEnvironment([:]).adjust(logger).logLevel == .info)
        for (text, level) in [
            ("debug", Logger.Level.debug), ("WARN", .warning), ("err", .error), ("off", .critical),
        ] {
            let environment = try MoriEnvironment(["MORI_GLOBAL_LOG_LEVEL": text])
            #expect(environment.adjust(logger).logLevel == level)
        }
    }

    @Test func aReportHidesTheSecretAndTellsWhatIsSet() throws {
        let report = EnvironmentReport([
            "MORI_BOOTSTRAP_SECRET": "hush", "MORI_EP_TIMEOUT": "5", "MORI_SHMEM_HEAP_SIZE": "",
            "MORI_RDMA_DEVICE": "mlx5_0",
        ])
        func row(_ name: String) -> EnvironmentReport.Row? { report.rows.first { $0.name == name } }
        #expect(row("MORI_BOOTSTRAP_SECRET")?.value == "(hidden)")
        #expect(row("MORI_EP_TIMEOUT")?.value == "5")
        #expect(row("MORI_EP_TIMEOUT")?.origin == .set)
        #expect(row("MORI_SHMEM_HEAP_SIZE")?.value == "8G")
        #expect(row("MORI_SHMEM_HEAP_SIZE")?.origin == .standard)
        #expect(report.unknown.map(\.name) == ["MORI_RDMA_DEVICE"])
        #expect(report.problems.isEmpty)
    }

    @Test func aLaunchersContradictionIsAProblem() {
        let report = EnvironmentReport(["RANK": "3"])
        #expect(report.problems.count == 1)
        #expect(report.problems.first?.contains("RANK is set without WORLD_SIZE") == true)
    }

    @Test func aWorldKeepsTheEnvironmentItWasMadeIn() async throws {
        let environment = try MoriEnvironment(["MORI_SHMEM_HEAP_SIZE": "64M"])
        let worlds = try await SymmetricMemory.local(
            worldSize: 1, device: Device(.host), roundTimeout: .seconds(7), fabric: nil,
            environment: environment)
        let world = try #require(worlds.first)
        #expect(world.heapByteLimit == 64 << 20)
        #expect(world.roundTimeout == .seconds(7))
        #expect(world.environment.launchMode == .manual)
        try await world.close()
    }
}

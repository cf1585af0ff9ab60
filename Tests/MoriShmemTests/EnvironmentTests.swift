import MoriDevice
import Testing

@testable import MoriShmem

struct EnvironmentTests {
    @Test func torchrunsVariablesAreRead() throws {
        let found = try #require(
            try LauncherEnvironment([
                "RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
                "MASTER_ADDR": "node7", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "abc",
                "MORI_BOOTSTRAP_SECRET": "hush",
            ]))
        #expect(found.origin == "torchrun")
        #expect(found.rank == 5)
        #expect(found.worldSize == 16)
        #expect(found.localRank == 1)
        #expect(found.localWorldSize == 4)
        #expect(found.masterAddress == "node7")
        #expect(found.masterPort == 29500)
        #expect(found.hosts == nil)
        #expect(found.secret == Array("hush".utf8))
        #expect(found.job == "abc")
        let parameters = found.parameters(timeout: .seconds(7))
        #expect(parameters.rank == 5)
        #expect(parameters.timeout == .seconds(7))
        guard case .launcher(let launcher) = parameters.meetingPoint else {
            Issue.record("no launcher")
            return
        }
        #expect(!launcher.isLocal)
        #expect(launcher.ports == Array(29500...29516))
    }

    @Test func theLocalVariablesMayBeMissingOnLoopback() throws {
        let found = try #require(
            try LauncherEnvironment([
                "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            ]))
        #expect(found.localRank == 1)
        #expect(found.localWorldSize == 2)
        #expect(found.masterPort == LauncherEnvironment.defaultPort)
        #expect(try LauncherEnvironment(["RANK": "0", "WORLD_SIZE": "1"])?.localWorldSize == 1)
    }

    @Test func openMPIsVariablesAreRead() throws {
        let found = try #require(
            try LauncherEnvironment([
                "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
                "PMIX_NAMESPACE": "job1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1",
            ]))
        #expect(found.origin == "Open MPI")
        #expect(found.rank == 3)
        #expect(found.localRank == 3)
        #expect(found.masterAddress == "127.0.0.1")
        #expect(found.masterPort == 29400)
        #expect(found.secret == nil)
        #expect(found.job == "job1")
    }

    @Test func slurmsVariablesAreRead() throws {
        var variables = [
            "SLURM_PROCID": "5", "SLURM_NTASKS": "7", "SLURM_LOCALID": "1", "SLURM_NODEID": "2",
            "SLURM_JOB_NODELIST": "gpu[08-10],login", "SLURM_TASKS_PER_NODE": "2(x3),1",
            "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2",
        ]
        let found = try #require(try LauncherEnvironment(variables))
        #expect(found.origin == "Slurm")
        #expect(found.rank == 5)
        #expect(found.worldSize == 7)
        #expect(found.localRank == 1)
        #expect(found.localWorldSize == 2)
        #expect(found.masterAddress == "gpu08")
        #expect(found.hosts == ["gpu08", "gpu09", "gpu10", "login"])
        #expect(found.masterPort == 12_000 + 711 * 17)
        #expect(found.job == "4711.2")
        variables["MASTER_ADDR"] = "other"
        variables["MASTER_PORT"] = "1234"
        #expect(try LauncherEnvironment(variables)?.masterAddress == "other")
        #expect(try LauncherEnvironment(variables)?.masterPort == 1234)
        variables["SLURM_TASKS_PER_NODE"] = nil
        variables["SLURM_NTASKS_PER_NODE"] = "3"
        #expect(try LauncherEnvironment(variables)?.localWorldSize == 3)
        variables["SLURM_NTASKS_PER_NODE"] = nil
        expectError(variables, mentions: ["SLURM_NTASKS_PER_NODE", "not set"])
        variables["SLURM_JOB_NODELIST"] = "one"
        #expect(try LauncherEnvironment(variables)?.localWorldSize == 7)
        variables["SLURM_STEP_NODELIST"] = "a,b["
        expectError(
            variables, mentions: ["SLURM_STEP_NODELIST", "\"a,b[\"", "node[01-03,7],other"])
    }

    @Test func withoutALauncherThereIsNoEnvironment() throws {
        #expect(try LauncherEnvironment([:]) == nil)
        #expect(try LauncherEnvironment(["MASTER_ADDR": "a", "LOCAL_RANK": "0"]) == nil)
        #expect(try LauncherEnvironment(["RANK": "", "WORLD_SIZE": ""]) == nil)
        #expect(try LauncherEnvironment(["SLURM_PROCID": "0"]) == nil, "a batch script")
        expectError(["RANK": "0"], mentions: ["RANK is set without WORLD_SIZE"])
        expectError(["WORLD_SIZE": "2"], mentions: ["WORLD_SIZE is set without RANK"])
    }

    @Test func severalHostsNeedTheMastersAddress() {
        expectError(
            [
                "RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4",
            ], mentions: ["MASTER_ADDR is not set", "set it to"])
        expectError(
            [
                "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "8",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
            ], mentions: ["Open MPI", "MASTER_ADDR is not set"])
    }

    @Test(arguments: [
        ("RANK", "one", "0 to 7"), ("RANK", "8", "0 to 7"), ("RANK", "-1", "0 to 7"),
        ("WORLD_SIZE", "0", "1 to 65536"), ("WORLD_SIZE", "1e3", "1 to 65536"),
        ("LOCAL_RANK", "4", "0 to 3"), ("LOCAL_WORLD_SIZE", "9", "1 to 8"),
        ("MASTER_PORT", "0", "1 to 65535"), ("MASTER_PORT", "70000", "1 to 65535"),
        ("MASTER_PORT", "29500 ", "1 to 65535"),
    ])
    func unparsableVariablesAreNamed(_ name: String, _ value: String, _ legal: String) {
        var variables = [
            "RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4",
            "MASTER_ADDR": "a", "MASTER_PORT": "1",
        ]
        variables[name] = value
        expectError(variables, mentions: [name, "\"\(value)\"", legal])
    }

    @Test func missingVariablesAreNamed() {
        let variables = [
            "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "8",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "8",
        ]
        for name in variables.keys where name != "OMPI_COMM_WORLD_RANK" {
            var incomplete = variables
            incomplete[name] = nil
            expectError(incomplete, mentions: [name, "not set"])
        }
    }

    @Test func theLibrarysOwnVariablesAreRead() throws {
        let defaults = try MoriEnvironment([:])
        #expect(defaults.heapByteLimit == SymmetricMemory.defaultHeapByteLimit)
        #expect(defaults.bootstrapTimeout == .seconds(300))
        #expect(defaults.roundTimeout == nil)
        #expect(defaults.socketInterface == nil)
        let found = try MoriEnvironment([
            "MORI_SHMEM_HEAP_SIZE": "6G", "MORI_BOOTSTRAP_TIMEOUT": "20",
            "MORI_EP_TIMEOUT": "2.5", "GLOO_SOCKET_IFNAME": "eth0",
        ])
        #expect(found.heapByteLimit == 6 << 30)
        #expect(found.bootstrapTimeout == .seconds(20))
        #expect(found.roundTimeout == .milliseconds(2500))
        #expect(found.socketInterface == "eth0")
        let both = try MoriEnvironment([
            "MORI_SOCKET_IFNAME": "ib0", "GLOO_SOCKET_IFNAME": "eth0",
        ])
        #expect(both.socketInterface == "ib0")
    }

    @Test(arguments: [
        ("MORI_SHMEM_HEAP_SIZE", "6 apples", "6G or 512MiB"),
        ("MORI_SHMEM_HEAP_SIZE", "0", "1 or more"),
        ("MORI_SHMEM_HEAP_SIZE", "-4G", "1 or more"),
        ("MORI_BOOTSTRAP_TIMEOUT", "soon", "seconds"),
        ("MORI_BOOTSTRAP_TIMEOUT", "0", "from 0.001"),
        ("MORI_EP_TIMEOUT", "inf", "seconds"),
        ("MORI_EP_TIMEOUT", "-1", "seconds"),
        ("MORI_EP_TIMEOUT", "1e3", "seconds"),
    ])
    func theLibrarysOwnVariablesAreChecked(_ name: String, _ value: String, _ legal: String) {
        #expect { try MoriEnvironment([name: value]) } throws: { error in
            let error = error as? MoriError
            return error?.code == .invalidConfiguration
                && [name, "\"\(value)\"", legal].allSatisfy { error?.message.contains($0) == true }
        }
    }

    @Test func sizesHaveUnits() {
        let good = [
            "1": 1, "4096": 4096, "64K": 65536, "64k": 65536, "64kb": 65536, "64KiB": 65536,
            "512M": 512 << 20, "6g": 6 << 30, "6GB": 6 << 30, "2TiB": 2 << 40, "100b": 100,
        ]
        for (text, bytes) in good { #expect(ByteCount.parse(text) == bytes) }
        for text in ["", "G", "0", "1.5G", "1 G", "-1", "+1", "6X", "6GiBB", "٣", "9999999999G"] {
            #expect(ByteCount.parse(text) == nil, "\(text)")
        }
    }

    @Test func slurmsListsAreExpanded() {
        let good = [
            "node": ["node"],
            "a,b": ["a", "b"],
            "node[01-03,7],other": ["node01", "node02", "node03", "node7", "other"],
            "n[8-11]": ["n8", "n9", "n10", "n11"],
            "n[098-101]": ["n098", "n099", "n100", "n101"],
            "r[1-2]n[01-02]": ["r1n01", "r1n02", "r2n01", "r2n02"],
            "n[1,3]-ib": ["n1-ib", "n3-ib"],
            "a-b-c": ["a-b-c"],
        ]
        for (text, names) in good { #expect(SlurmList.hosts(text) == names) }
        let bad = [
            "", "a,", ",a", "a,,b", "n[1", "n1]", "n[]", "n[1-]", "n[3-1]", "n[a-b]", "n[1-2-3]",
            "n[[1]]", "n[1,]", "n[0-99999999]", "n[0-65535],m", "n[99999999999999999999]",
            "n" + String(repeating: "[1]", count: 40_000),
        ]
        for text in bad { #expect(SlurmList.hosts(text) == nil, "\(text)") }
        #expect(SlurmList.counts("2(x3),1") == [2, 2, 2, 1])
        #expect(SlurmList.counts("8") == [8])
        for text in ["", "x", "2(3)", "2(x)", "2(x3", "0", "2,", "1(x99999999)", "-1"] {
            #expect(SlurmList.counts(text) == nil, "\(text)")
        }
    }

    private func expectError(
        _ variables: [String: String], mentions words: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(sourceLocation: sourceLocation) {
            try LauncherEnvironment(variables)
        } throws: { error in
            let error = error as? MoriError
            return error?.code == .invalidConfiguration
                && words.allSatisfy { error?.message.contains($0) == true }
        }
    }
}

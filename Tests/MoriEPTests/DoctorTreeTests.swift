import FoundationEssentials
import MoriLauncher
import Testing

/// What `mori-ep doctor` reads out of procfs and sysfs, from trees that are made here.
@Suite struct DoctorTreeTests {
    /// A root with a proc and a sys in it.
    private struct Tree: ~Copyable {
        let root: URL

        init() throws {
            root = FileManager.default.temporaryDirectory.appending(
                path: "moriep-tree-\(UUID().uuidString)")
            for folder in ["proc", "sys"] { try make(folder) }
        }

        deinit { try? FileManager.default.removeItem(at: root) }

        private func make(_ folder: String) throws {
            try FileManager.default.createDirectory(
                at: root.appending(path: folder), withIntermediateDirectories: true)
        }

        func write(_ text: String, to path: String) throws {
            if let slash = path.lastIndex(of: "/") { try make(String(path[..<slash])) }
            try Data(text.utf8).write(to: root.appending(path: path))
        }

        func link(_ path: String, to target: String) throws {
            if let slash = path.lastIndex(of: "/") { try make(String(path[..<slash])) }
            try make(target)
            try FileManager.default.createSymbolicLink(
                at: root.appending(path: path), withDestinationURL: root.appending(path: target))
        }

        /// Limits and rights of a process, in the kernel's own columns.
        func writeLimits(lockedBytes: String, capabilities: String = "0000000000000000") throws {
            try write(
                """
                Limit                     Soft Limit           Hard Limit           Units
                Max locked memory         \(lockedBytes)              \(lockedBytes)              bytes
                Max open files            1048576              1048576              files

                """, to: "proc/self/limits")
            try write("Name:\tdoctor\nCapEff:\t\(capabilities)\n", to: "proc/self/status")
        }

        /// A NIC below a bridge, with one port.
        func writeNIC(
            _ name: String, at pci: String, numaNode: Int, state: String = "4: ACTIVE",
            linkLayer: String = "Ethernet", gids: [(String, String, String)]
        ) throws {
            try link("sys/class/infiniband/\(name)/device", to: pci)
            try write("\(numaNode)\n", to: "\(pci)/numa_node")
            let port = "sys/class/infiniband/\(name)/ports/1"
            try write("\(state)\n", to: "\(port)/state")
            try write("\(linkLayer)\n", to: "\(port)/link_layer")
            try write("400 Gb/sec (4X NDR)\n", to: "\(port)/rate")
            try write("28.39.1002\n", to: "sys/class/infiniband/\(name)/fw_ver")
            for (index, gid) in gids.enumerated() {
                try write(gid.0 + "\n", to: "\(port)/gids/\(index)")
                try write(gid.1 + "\n", to: "\(port)/gid_attrs/types/\(index)")
                try write(gid.2 + "\n", to: "\(port)/gid_attrs/ndevs/\(index)")
            }
            try write("", to: "dev/infiniband/uverbs0")
        }

        func writeGPU(
            _ address: String, at pci: String, vendor: String, numaNode: Int, driver: String?
        ) throws {
            try link("sys/bus/pci/devices/\(address)", to: pci)
            try write("\(vendor)\n", to: "\(pci)/vendor")
            try write("0x120000\n", to: "\(pci)/class")
            try write("\(numaNode)\n", to: "\(pci)/numa_node")
            if let driver { try link("\(pci)/driver", to: "sys/bus/pci/drivers/\(driver)") }
        }

        func examine() async throws -> DoctorDocument {
            try await DoctorDocument.of(["--root", root.path]).0
        }
    }

    private static let address = "0000:0000:0000:0000:0000:ffff:0a00:0005"
    private static let root0 = "sys/devices/pci0000:20/0000:20:01.0"

    @Test(.timeLimit(.minutes(1)))
    func aTreeWithNothingIsFine() async throws {
        let tree = try Tree()
        let (report, status) = try await DoctorDocument.of(["--root", tree.root.path])
        #expect(status == .exited(0))
        #expect(report.problems.isEmpty)
        #expect(report.gpus.isEmpty && report.nics.isEmpty && report.host.numaNodes.isEmpty)
        #expect(report.host.memoryBytes == nil && report.host.sharedMemoryBytes == nil)
        #expect(report.selfTests.isEmpty)
    }

    @Test(.timeLimit(.minutes(1)))
    func theHostsSizesAreReadWithTheirUnits() async throws {
        let tree = try Tree()
        try tree.write("node-17\n", to: "proc/sys/kernel/hostname")
        try tree.write("6.8.0-45-generic\n", to: "proc/sys/kernel/osrelease")
        try tree.write("0-3,8,10-11\n", to: "sys/devices/system/cpu/online")
        try tree.write(
            "MemTotal:       1056316912 kB\nMemFree:  3 kB\nMemAvailable:   1000000000 kB\n",
            to: "proc/meminfo")
        try tree.writeLimits(lockedBytes: "8388608", capabilities: "000001ffffffffff")
        try tree.write(
            "proc /proc proc rw 0 0\nshm /dev/shm tmpfs rw,nosuid,size=65536k,inode64 0 0\n",
            to: "proc/mounts")
        try tree.write("4096\n", to: "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
        try tree.write("512\n", to: "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        try tree.write("always [madvise] never\n", to: "sys/kernel/mm/transparent_hugepage/enabled")
        for (node, list) in [(0, "0-3"), (1, "8,10-11")] {
            let folder = "sys/devices/system/node/node\(node)"
            try tree.write("\(list)\n", to: "\(folder)/cpulist")
            try tree.write(
                "Node \(node) MemTotal:       528158456 kB\nNode \(node) MemFree: 1 kB\n",
                to: "\(folder)/meminfo")
            try tree.write(node == 0 ? "10 32\n" : "32 10\n", to: "\(folder)/distance")
        }
        let host = try await tree.examine().host
        #expect(host.name == "node-17")
        #expect(host.kernel == "6.8.0-45-generic")
        #expect(host.processors == 7)
        #expect(host.memoryBytes == 1_056_316_912 * 1024)
        #expect(host.availableMemoryBytes == 1_000_000_000 * 1024)
        #expect(host.lockedMemoryLimitBytes == 8 << 20)
        #expect(host.mayLockAnyMemory)
        #expect(host.openFileLimit == 1_048_576)
        #expect(host.sharedMemoryBytes == 64 << 20)
        #expect(host.hugePages.map(\.pageBytes) == [2 << 20])
        #expect(host.hugePages.first?.total == 4096 && host.hugePages.first?.free == 512)
        #expect(host.transparentHugePages == "madvise")
        #expect(host.numaNodes.map(\.processors) == ["0-3", "8,10-11"])
        #expect(host.numaNodes.map(\.memoryBytes) == [528_158_456 * 1024, 528_158_456 * 1024])
        #expect(host.numaNodes.map(\.distances) == [[10, 32], [32, 10]])
    }

    @Test(.timeLimit(.minutes(1)))
    func aNICHasItsPortsAddressesAndDistances() async throws {
        let tree = try Tree()
        try tree.writeLimits(lockedBytes: "unlimited")
        try tree.writeNIC(
            "mlx5_0", at: "\(Self.root0)/0000:21:00.0", numaNode: 1,
            gids: [
                ("fe80:0000:0000:0000:0202:c9ff:fe00:0001", "IB/RoCE v1", "eth4"),
                (Self.address, "RoCE v2", "eth4"),
                ("0000:0000:0000:0000:0000:0000:0000:0000", "", ""),
            ])
        // One below the same bridge, one at the other socket.
        try tree.writeGPU(
            "0000:22:00.0", at: "\(Self.root0)/0000:22:00.0", vendor: "0x1002", numaNode: 1,
            driver: "amdgpu")
        try tree.writeGPU(
            "0000:c1:00.0", at: "sys/devices/pci0000:c0/0000:c0:03.0/0000:c1:00.0",
            vendor: "0x1002", numaNode: 0, driver: "amdgpu")
        try tree.write("6.8.5\n", to: "sys/module/amdgpu/version")
        try tree.write("6.2.4-120\n", to: "opt/rocm/.info/version")
        try tree.write("", to: "dev/kfd")
        let report = try await tree.examine()
        #expect(report.problems.isEmpty, "\(report.problems)")
        let nic = try #require(report.nics.first)
        #expect(nic.name == "mlx5_0" && nic.pciAddress == "0000:21:00.0" && nic.numaNode == 1)
        #expect(nic.firmware == "28.39.1002")
        let port = try #require(nic.ports.first)
        #expect(port.state == "ACTIVE" && port.isActive && port.linkLayer == "Ethernet")
        #expect(port.rate == "400 Gb/sec (4X NDR)")
        #expect(port.gids.map(\.index) == [0, 1])
        #expect(port.gids.last?.address == Self.address && port.gids.last?.interface == "eth4")
        #expect(port.gids.map(\.type) == ["IB/RoCE v1", "RoCE v2"])
        #expect(report.gpus.map(\.address) == ["0000:22:00.0", "0000:c1:00.0"])
        #expect(report.gpus.map(\.driver) == ["amdgpu", "amdgpu"])
        #expect(nic.distances.map(\.device) == ["amd 0000:22:00.0", "amd 0000:c1:00.0"])
        #expect(nic.distances.map(\.numa) == ["same", "other"])
        #expect(nic.distances.map(\.pciHops) == [2, 6])
        let amd = try #require(report.devices.first { $0.kind == "amd" })
        #expect(amd.driverVersion == "6.8.5" && amd.softwareVersion == "ROCm 6.2.4-120")
    }

    /// Each problem has the command that mends it, and no healthy neighbour is blamed.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            ("4: ACTIVE", "RoCE v2", "8388608", "may be locked", "ulimit -l unlimited"),
            ("1: DOWN", "RoCE v2", "unlimited", "mlx5_0:1 is DOWN", "ip link set eth4 up"),
            ("4: ACTIVE", "", "unlimited", "mlx5_0:1 has no GID", "ip address add"),
            (
                "4: ACTIVE", "IB/RoCE v1", "unlimited", "no GID for RoCE v2",
                "cma_roce_mode -d mlx5_0 -p 1 -m 2"
            ),
        ])
    func aNICsProblemHasTheCommandThatMendsIt(
        state: String, type: String, locked: String, words: String, command: String
    ) async throws {
        let tree = try Tree()
        try tree.writeLimits(lockedBytes: locked)
        let pci = "\(Self.root0)/0000:21:00.0"
        try tree.writeNIC(
            "mlx5_0", at: pci, numaNode: 1, state: state,
            gids: type.isEmpty ? [] : [(Self.address, type, "eth4")])
        try tree.write("", to: "\(pci)/net/eth4/mtu")
        let report = try await tree.examine()
        #expect(report.problems.count == 1, "\(report.problems)")
        #expect(report.problems.first?.problem.contains(words) == true, "\(report.problems)")
        #expect(report.problems.first?.command.contains(command) == true, "\(report.problems)")
    }

    @Test(.timeLimit(.minutes(1)))
    func aPortWithoutACableIsNoProblemWhereItsNeighbourWorks() async throws {
        let tree = try Tree()
        try tree.writeLimits(lockedBytes: "unlimited")
        try tree.writeNIC(
            "mlx5_0", at: "\(Self.root0)/0000:21:00.0", numaNode: 0,
            gids: [(Self.address, "RoCE v2", "eth4")])
        try tree.write("1: DOWN\n", to: "sys/class/infiniband/mlx5_0/ports/2/state")
        let report = try await tree.examine()
        #expect(report.problems.isEmpty, "\(report.problems)")
        #expect(report.notes.contains("port mlx5_0:2 is DOWN"))
    }

    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            ("0x1002", nil, false, "has no driver", "modprobe amdgpu"),
            ("0x1002", "vfio-pci", false, "belongs to the driver vfio-pci", "modprobe amdgpu"),
            ("0x1002", "amdgpu", false, "no /dev/kfd", "--device /dev/kfd"),
            ("0x10de", "nvidia", false, "no /dev/nvidiactl", "modprobe nvidia"),
            ("0x1002", "amdgpu", true, "", ""),
        ] as [(String, String?, Bool, String, String)])
    func aGPUsProblemHasTheCommandThatMendsIt(
        vendor: String, driver: String?, hasNode: Bool, words: String, command: String
    ) async throws {
        let tree = try Tree()
        try tree.writeGPU(
            "0000:22:00.0", at: "\(Self.root0)/0000:22:00.0", vendor: vendor, numaNode: 0,
            driver: driver)
        try tree.write("", to: hasNode ? "dev/kfd" : "dev/null")
        let report = try await tree.examine()
        #expect(report.problems.count == (words.isEmpty ? 0 : 1), "\(report.problems)")
        guard let problem = report.problems.first else { return }
        #expect(problem.problem.contains("0000:22:00.0"))
        #expect(problem.problem.contains(words), "\(problem)")
        #expect(problem.command.contains(command), "\(problem)")
    }

    /// A copy of procfs and sysfs has no device files, and this shell's variables are not its machine's.
    @Test(.timeLimit(.minutes(1)))
    func aCopyOfAHealthyMachineHasNoProblems() async throws {
        let tree = try Tree()
        try tree.writeLimits(lockedBytes: "unlimited")
        try tree.writeNIC(
            "mlx5_0", at: "\(Self.root0)/0000:21:00.0", numaNode: 1,
            gids: [(Self.address, "RoCE v2", "eth4")])
        try tree.writeGPU(
            "0000:22:00.0", at: "\(Self.root0)/0000:22:00.0", vendor: "0x1002", numaNode: 1,
            driver: "amdgpu")
        try FileManager.default.removeItem(at: tree.root.appending(path: "dev"))
        let (report, status) = try await DoctorDocument.of(
            ["--root", tree.root.path],
            environment: [
                "MORI_EP_TIMEOUT": "soon", "MORI_EP_TUNING_CONFIG": "/no/such/rules.json",
                "RANK": "1",
            ])
        #expect(status == .exited(0))
        #expect(report.problems.isEmpty, "\(report.problems)")
        // What is wrong with a variable still stands beside it.
        let timeout = report.variables.first { $0.name == "MORI_EP_TIMEOUT" }
        #expect(timeout?.value == "soon" && timeout?.problem != nil)
        // A tree with a /dev says that there is none for them.
        try tree.write("", to: "dev/null")
        let problems = try await tree.examine().problems.map(\.problem)
        #expect(problems.count == 2, "\(problems)")
        #expect(problems.contains { $0.contains("no /dev/kfd") })
        #expect(problems.contains { $0.contains("no /dev/infiniband") })
    }

    /// Limits may be any number that the kernel can hold, and lists of processors any text.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            ("9223372036854775807", "8388608 TiB"), ("1152921504606846976", "1048576 TiB"),
            ("1099511627776", "1 TiB"), ("1649267441664", "1.5 TiB"), ("1073741823", "1024 MiB"),
            ("1610612736", "1.5 GiB"), ("65536", "64 KiB"), ("1023", "1023 bytes"),
            ("0", "0 bytes"),
        ])
    func theLargestLimitIsStillALimit(_ limit: String, _ words: String) async throws {
        let tree = try Tree()
        try tree.writeLimits(lockedBytes: limit)
        try tree.write("0-9223372036854775807,0-3\n", to: "sys/devices/system/cpu/online")
        try tree.write("MemTotal: 9223372036854775807 kB\n", to: "proc/meminfo")
        try tree.write(
            "1\n", to: "sys/kernel/mm/hugepages/hugepages-9223372036854775807kB/nr_hugepages")
        let ended = try await Programs.run("mori-ep", ["doctor", "--root", tree.root.path])
        #expect(ended.exit.reason == .exited(0), "\(ended.exit)")
        #expect(
            ended.output.contains("at most \(words) of memory may be locked"), "\(ended.output)")
        let host = try await tree.examine().host
        #expect(host.lockedMemoryLimitBytes == Int(limit))
        #expect(host.processors == 4)
        #expect(host.memoryBytes == nil && host.hugePages.isEmpty)
    }

    /// What the kernel may write some day is no reason to fall over.
    @Test(.timeLimit(.minutes(1)))
    func filesThatAreNoneOfTheExpectedAreSkipped() async throws {
        let tree = try Tree()
        try tree.write("MemTotal: much\n", to: "proc/meminfo")
        try tree.write("Max locked memory\nMax open files -1\n", to: "proc/self/limits")
        try tree.write("CapEff: xyz\n", to: "proc/self/status")
        try tree.write("5-2,a-b,,-\n", to: "sys/devices/system/cpu/online")
        try tree.write("/dev/shm\n", to: "proc/mounts")
        try tree.write("many\n", to: "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
        try tree.write("0\n", to: "sys/kernel/mm/hugepages/hugepages-hugekB/nr_hugepages")
        try tree.write("", to: "sys/devices/system/node/nodeX/cpulist")
        try tree.write("", to: "sys/class/infiniband/odd0/ports/one/state")
        try tree.write("", to: "sys/class/infiniband/odd0/ports/1/state")
        try tree.write("", to: "dev/infiniband/uverbs0")
        let report = try await tree.examine()
        #expect(report.host.memoryBytes == nil && report.host.processors == 0)
        #expect(report.host.hugePages.isEmpty && report.host.numaNodes.isEmpty)
        #expect(report.nics.first?.ports.map(\.number) == [1])
        #expect(report.nics.first?.ports.first?.state == "unknown")
    }
}

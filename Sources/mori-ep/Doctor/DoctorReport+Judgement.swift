import MoriDevice
import MoriShmem

// What of the found is a problem, and the command that mends it.

extension DoctorReport {
    mutating func judge(_ files: SystemFiles, asksLibraries: Bool) {
        judgeDevices(files, asksLibraries: asksLibraries)
        if asksLibraries { askLibibverbs() }
        judgeNICs(files, asksLibraries: asksLibraries)
        judgeMemory()
    }

    private mutating func add(_ problem: String, _ command: String) {
        problems.append(Problem(problem: problem, command: command))
    }

    /// Whether device files that are not there are missing: a copy of procfs and sysfs has none.
    private static func hasDeviceFiles(_ files: SystemFiles, _ asksLibraries: Bool) -> Bool {
        asksLibraries || files.exists("/dev")
    }

    // -------------------------------------------------------------------------------------------
    // Devices

    private mutating func judgeDevices(_ files: SystemFiles, asksLibraries: Bool) {
        for (kind, module, node) in [
            ("amd", "amdgpu", "/dev/kfd"), ("nvidia", "nvidia", "/dev/nvidiactl"),
        ] {
            let own = gpus.filter { $0.kind == kind }
            guard !own.isEmpty else { continue }
            let addresses = own.map(\.address).joined(separator: ", ")
            if let unbound = own.first(where: { $0.driver == nil }) {
                add("the GPU at \(unbound.address) has no driver", "modprobe \(module)")
            } else if let other = own.first(where: { $0.driver != module }) {
                add(
                    "the GPU at \(other.address) belongs to the driver \(other.driver ?? "")",
                    "unbind it there, then modprobe \(module)")
            } else if Self.hasDeviceFiles(files, asksLibraries), !files.exists(node) {
                add(
                    "there are \(kind) GPUs (\(addresses)) and no \(node)",
                    "pass \(node) in (docker run --device \(node) ...), or modprobe \(module)")
            } else if asksLibraries {
                judgeLibrary(kind, addresses, node, files)
            }
        }
        guard asksLibraries else { return }
        do throws(MoriError) {
            let choice = try MoriEnvironment().device
            defaultDevice = "\(try Device.selected(choice, localRank: 0))"
        } catch {
            // A variable that cannot be read is among the environment's problems.
            if error.code != .invalidConfiguration {
                add(error.description, "unset MORI_EP_DEVICE, or build the library that it names")
            }
        }
        if answeringKinds == ["host"] {
            notes.append("no GPU answers: kernels run on the host's processor")
        }
    }

    /// A GPU with a driver: then its kernels' library should be there and see it.
    private mutating func judgeLibrary(
        _ kind: String, _ addresses: String, _ node: String, _ files: SystemFiles
    ) {
        guard let report = devices.first(where: { $0.kind == kind }), report.devices.isEmpty
        else { return }
        if report.library == nil, let deviceKind = Device.Kind(rawValue: kind) {
            let tried = report.attempts.map { "\($0.path) (\($0.reason ?? ""))" }
            add(
                "there are \(kind) GPUs (\(addresses)) and no library with kernels for them; tried "
                    + tried.joined(separator: ", "),
                "make \(KernelLibrary.target(deviceKind))")
        } else if !files.mayReadAndWrite(node) {
            add("this user may not open \(node)", "usermod -aG render,video $USER, and log in anew")
        } else {
            add(
                "the library \(report.library ?? "") finds none of the \(kind) GPUs (\(addresses)):"
                    + " \(report.reason ?? "")",
                kind == "amd" ? "rocminfo" : "nvidia-smi")
        }
    }

    // -------------------------------------------------------------------------------------------
    // NICs

    /// Which NICs cannot be opened.
    private mutating func askLibibverbs() {
        do throws(MoriError) {
            for found in try RDMAHost.nics() {
                guard let place = nics.firstIndex(where: { $0.name == found.name }) else {
                    continue
                }
                nics[place].problem = found.problem
            }
        } catch {
            // Without NICs nobody misses it.
            guard let first = nics.first else { return }
            add(
                "\(first.name) is there, but \(error.message)",
                error.code == .unsupported ? "modprobe ib_uverbs" : "apt install ibverbs-providers")
        }
    }

    private mutating func judgeNICs(_ files: SystemFiles, asksLibraries: Bool) {
        guard !nics.isEmpty else {
            notes.append("no RDMA NIC: ranks of other hosts cannot be reached")
            return
        }
        if Self.hasDeviceFiles(files, asksLibraries), !files.exists("/dev/infiniband") {
            add(
                "there are RDMA NICs and no /dev/infiniband",
                "modprobe ib_uverbs; in a container pass /dev/infiniband in")
        }
        for nic in nics {
            if let problem = nic.problem {
                add("\(nic.name) cannot be used: \(problem)", "ibv_devinfo -d \(nic.name)")
            }
            for port in nic.ports { judge(port, of: nic, files) }
        }
    }

    private mutating func judge(_ port: NICReport.Port, of nic: NICReport, _ files: SystemFiles) {
        let name = "\(nic.name):\(port.number)"
        let interfaces = NICReport.interfaces(of: nic.name, files)
        // Which port's, sysfs does not say here; with one interface there is no question.
        let interface = interfaces.count == 1 ? interfaces[0] : "INTERFACE"
        let isEthernet = port.linkLayer == "Ethernet"
        if !port.isActive {
            let text = "port \(name) is \(port.state)"
            // One port of two without a cable is how many NICs live.
            if nic.ports.contains(where: \.isActive) {
                notes.append(text)
            } else {
                add(
                    text,
                    isEthernet
                        ? "ip link set \(interface) up"
                        : "ibstat \(nic.name); systemctl start opensm")
            }
        } else if port.gids.isEmpty {
            add(
                "port \(name) has no GID: its interface has no address",
                isEthernet
                    ? "ip address add ADDRESS/24 dev \(interface)" : "systemctl start opensm")
        } else if isEthernet, !port.gids.contains(where: { $0.type == "RoCE v2" }) {
            add(
                "port \(name) has no GID for RoCE v2, so no router lets it through",
                "cma_roce_mode -d \(nic.name) -p \(port.number) -m 2")
        }
    }

    // -------------------------------------------------------------------------------------------
    // Memory

    private mutating func judgeMemory() {
        if let limit = host.lockedMemoryLimitBytes, !host.mayLockAnyMemory {
            let text = "at most \(DoctorTable.bytes(limit)) of memory may be locked"
            // What NICs read and write is locked; an operator's memory is up to the heap's limit.
            if nics.isEmpty {
                notes.append("\(text), which NICs would need")
            } else {
                add(
                    "\(text), and a NIC needs all symmetric memory locked",
                    "ulimit -l unlimited (docker: --ulimit memlock=-1; systemd:"
                        + " LimitMEMLOCK=infinity; for good: /etc/security/limits.conf)")
            }
        }
        if let files = host.openFileLimit, files < 1024 {
            add(
                "this process may open \(files) files, and ranks keep two or more for each peer",
                "ulimit -n 65536")
        }
    }
}

import MoriShmem

/// What `mori-ep doctor` prints for people.
enum DoctorTable {
    /// The report; with `showsAll` also launchers' variables, and those without effect, that are not set.
    static func text(of report: DoctorReport, showsAll: Bool) -> String {
        var text = host(report.host) + devices(report) + nics(report.nics)
        text += variables(report, showsAll: showsAll)
        if !report.selfTests.isEmpty {
            text += "\nself-tests, two ranks each\n"
            let rows = report.selfTests.map { test in
                [
                    test.transport, test.result, test.seconds.map { "\($0) s" } ?? "",
                    test.reason ?? "",
                ]
            }
            text += table(rows)
        }
        if !report.notes.isEmpty {
            text += "\nnotes\n" + report.notes.map { "  \($0)\n" }.joined()
        }
        guard !report.problems.isEmpty else { return text + "\nno problems\n" }
        text += "\nproblems\n"
        for problem in report.problems {
            text += "  \(problem.problem)\n    mend it: \(problem.command)\n"
        }
        return text
    }

    /// "8 MiB", "23.5 GiB".
    static func bytes(_ count: Int) -> String {
        guard count >= 1024 else { return "\(count) bytes" }
        var unit = 0
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
        while unit + 1 < units.count, count >> (10 * (unit + 1)) > 0 { unit += 1 }
        let shift = 10 * unit
        // Not ten times the count, which may be the largest number that there is.
        let (whole, rest) = (count >> shift, count & (1 << shift - 1))
        let tenths = 10 * whole + (10 * rest + 1 << (shift - 1)) >> shift
        let fraction = tenths % 10 == 0 ? "" : ".\(tenths % 10)"
        return "\(tenths / 10)\(fraction) \(units[unit])"
    }

    private static func host(_ host: HostReport) -> String {
        func size(_ count: Int?) -> String { count.map(bytes) ?? "unknown" }
        var rows = [
            ["name", host.name], ["kernel", host.kernel ?? "unknown"],
            ["processors", "\(host.processors)"],
            [
                "memory",
                "\(size(host.memoryBytes)), \(size(host.availableMemoryBytes)) of it available",
            ],
            [
                "lockable memory",
                (host.lockedMemoryLimitBytes.map(bytes) ?? "unlimited")
                    + (host.mayLockAnyMemory && host.lockedMemoryIsLimited
                        ? ", which does not hold for this user" : ""),
            ],
            ["/dev/shm", host.sharedMemoryBytes.map(bytes) ?? "not mounted"],
            ["open files", host.openFileLimit.map { "at most \($0)" } ?? "unlimited"],
            ["transparent huge pages", host.transparentHugePages ?? "none"],
        ]
        rows += host.hugePages.map {
            ["huge pages of \(bytes($0.pageBytes))", "\($0.total), \($0.free) of them free"]
        }
        rows += host.numaNodes.map { node in
            [
                "NUMA node \(node.node)",
                "processors \(node.processors), \(size(node.memoryBytes)), distances"
                    + " \(node.distances.map(String.init).joined(separator: " "))",
            ]
        }
        return "host\n" + table(rows)
    }

    private static func devices(_ report: DoctorReport) -> String {
        var text = "\ndevices\n"
        for gpu in report.gpus {
            text += "  \(gpu.kind) GPU at \(gpu.address), driver \(gpu.driver ?? "none"), "
            text += gpu.numaNode.map { "NUMA node \($0)\n" } ?? "no NUMA node\n"
        }
        for kind in report.devices {
            for device in kind.devices {
                text += "  \(device.device): \(device.name), \(device.architecture),"
                text += " \(device.computeUnits) compute units of \(device.lanesPerWarp) lanes,"
                text += " \(bytes(device.memoryBytes))\n"
            }
            if let driver = kind.driverVersion { text += "  \(kind.kind) driver: \(driver)\n" }
            if let software = kind.softwareVersion { text += "  \(kind.kind): \(software)\n" }
            if let library = kind.library {
                text += "  \(kind.kind) library: \(library)\n"
                if kind.devices.isEmpty, let reason = kind.reason { text += "    \(reason)\n" }
            } else if !kind.attempts.isEmpty {
                text += "  no \(kind.kind) library; tried\n"
                text += kind.attempts.map { "    \($0.path): \($0.reason ?? "")\n" }.joined()
            }
        }
        if let device = report.defaultDevice { text += "  ranks take \(device)\n" }
        return text
    }

    private static func nics(_ nics: [NICReport]) -> String {
        var text = "\nRDMA NICs\n"
        if nics.isEmpty { text += "  none\n" }
        for nic in nics {
            text += "  \(nic.name), firmware \(nic.firmware ?? "unknown"),"
            text += " \(nic.pciAddress ?? "on no PCI bus"),"
            text += nic.numaNode.map { " NUMA node \($0)\n" } ?? " no NUMA node\n"
            for port in nic.ports {
                text += "    port \(port.number): \(port.state), \(port.linkLayer),"
                text += " \(port.rate ?? "unknown rate")\n"
                for gid in port.gids {
                    text += "      GID \(gid.index): \(gid.address), \(gid.type)"
                    text += gid.interface.map { ", \($0)\n" } ?? "\n"
                }
            }
            for distance in nic.distances {
                text += "    to \(distance.device): \(distance.numa) NUMA node"
                text += distance.pciHops.map { ", \($0) PCI hops\n" } ?? "\n"
            }
        }
        return text
    }

    private static func variables(_ report: DoctorReport, showsAll: Bool) -> String {
        func section(_ title: String, _ role: String, _ heading: String) -> String {
            let shown = report.variables.filter {
                $0.role == role && (showsAll || role == "setting" || $0.origin == .set)
            }
            guard !shown.isEmpty else { return "" }
            let rows = shown.map { variable in
                [
                    variable.name, variable.value.isEmpty ? "-" : variable.value,
                    variable.problem == nil ? variable.origin.rawValue : "wrong",
                    variable.meaning,
                ]
            }
            return "\n\(title)\n" + table([["VARIABLE", "VALUE", "ORIGIN", heading]] + rows)
        }
        var text = section("environment", "setting", "MEANING")
        text += section("set by the launcher", "launcher", "MEANING")
        text += section("accepted without effect", "ignored", "WHY")
        guard !report.unknown.isEmpty else { return text }
        text += "\nunknown\n"
        for variable in report.unknown {
            text += "  \(variable.name): did you mean \(variable.nearest)?\n"
        }
        return text
    }

    /// Columns as wide as their widest cell; the last as it is.
    private static func table(_ rows: [[String]]) -> String {
        let columns = (rows.map(\.count).max() ?? 1) - 1
        let widths = (0..<columns).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map {
                $0 + String(repeating: " ", count: $1 - $0.count)
            }
            let line = "  " + (cells + [row[columns]]).joined(separator: "  ")
            return line.prefix(line.count - line.reversed().prefix { $0 == " " }.count) + "\n"
        }.joined()
    }
}

import FoundationEssentials
import MoriDevice
import MoriEP
import MoriLauncher
import MoriShmem

/// What a self-test came to.
struct SelfTestReport: Encodable {
    /// "host memory", "amd device memory", "loopback fabric", "verbs fabric", ...
    var transport: String
    /// "passed", "failed" or "skipped".
    var result: String
    var seconds: Double?
    /// Why it failed or was skipped.
    var reason: String?
}

/// Two ranks of this machine, processes of their own, that move a round over one transport.
struct SelfTest: Sendable {
    /// For people.
    var transport: String
    /// What MORI_EP_DEVICE says.
    var device: String
    /// "intranode" over mapped memory, "internode" over a fabric.
    var kernel: KernelType
    /// What MORI_EP_FABRIC says.
    var fabric: String
    /// What MORI_RDMA_DEVICES says; nil: what it says here.
    var nic: String?

    /// How long it may take, in seconds; all run at once.
    var limit: Double

    /// What there is to test, with the kinds of device that answer, and the NICs that can be used.
    ///
    /// Each NIC with the host's memory and itself: two of one host may not reach each other, where only a
    /// switch leads from one to the other. The memory of GPUs with the first.
    /// A NIC that is nil stands for those that MORI_RDMA_DEVICES names.
    static func all(devices: [String], nics: [String?], limit: Double) -> [SelfTest] {
        var tests = devices.map { kind in
            SelfTest(
                transport: kind == "host" ? "host memory" : "\(kind) device memory",
                device: kind, kernel: .intraNode, fabric: "auto", limit: limit)
        }
        tests.append(
            SelfTest(
                transport: "loopback fabric", device: "host", kernel: .interNode,
                fabric: "loopback", limit: limit))
        func overVerbs(_ nic: String?, _ kind: String) -> SelfTest {
            let place = nic.map { " on \($0)" } ?? ""
            return SelfTest(
                transport: "verbs fabric\(place), \(kind) memory", device: kind,
                kernel: .interNode, fabric: "verbs", nic: nic, limit: limit)
        }
        tests += nics.map { overVerbs($0, "host") }
        if let first = nics.first {
            tests += devices.filter { $0 != "host" }.map { overVerbs(first, $0) }
        }
        return tests
    }

    func run() async -> SelfTestReport {
        let start = ContinuousClock.now
        var report = SelfTestReport(transport: transport, result: "failed")
        do {
            var environment = [
                "MORI_EP_DEVICE": device, "MORI_EP_FABRIC": fabric,
                // Before the limit, so that it is the ranks who say what they waited for.
                "MORI_BOOTSTRAP_TIMEOUT": "\(limit * 0.75)",
                "MORI_EP_TIMEOUT": "\(limit * 0.75)", "MORI_SOCKET_IFNAME": "",
                "GLOO_SOCKET_IFNAME": "",
            ]
            if let nic { environment["MORI_RDMA_DEVICES"] = nic }
            let launcher = RankLauncher(
                program: try Self.ownPath(),
                arguments: ["self-test-rank", "--kernel", "\(kernel)"], worldSize: 2,
                environment: environment,
                standardOutput: .collected, standardError: .collected, grace: .milliseconds(500))
            let launch = Task { try await launcher.run() }
            let watch = Task {
                try await Task.sleep(for: .seconds(limit))
                launch.cancel()
            }
            defer { watch.cancel() }
            let exits = try await launch.value
            if let failed = exits.firstFailure {
                let words = String(decoding: failed.standardError, as: UTF8.self)
                    .split(separator: "\n").joined(separator: "; ")
                report.reason =
                    failed.wasEndedByLauncher
                    ? "it did not end within \(limit) seconds"
                    : words.isEmpty ? "\(failed)" : words
            } else {
                report.result = "passed"
            }
        } catch {
            report.reason = "\(error)"
        }
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        report.seconds = Double(seconds * 1000 + attoseconds / 1_000_000_000_000_000) / 1000
        return report
    }

    private static func ownPath() throws -> String {
        guard let path = ProcessVariables.executable else {
            throw MoriError(.unsupported, "/proc/self/exe does not tell where this program is")
        }
        return path
    }
}

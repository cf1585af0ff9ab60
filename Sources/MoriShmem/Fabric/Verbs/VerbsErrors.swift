import Glibc
package import MoriDevice

/// The errors of libibverbs' calls, in words that say what to do.
package enum VerbsErrors {
    /// A call that failed.
    ///
    /// - Parameters:
    ///   - call: The function.
    ///   - code: Its errno.
    ///   - nic: The NIC's name and port.
    ///   - details: What it was asked for, in words, and what to do about it.
    /// - Returns: `outOfMemory` or `networkFailure`.
    package static func failed(
        _ call: String, _ code: Int32, on nic: String, _ details: String = ""
    ) -> MoriError {
        MoriError(
            code == ENOMEM ? .outOfMemory : .networkFailure,
            "\(call) failed on \(nic): \(RDMAHost.words(of: code)) (errno \(code))"
                + (details.isEmpty ? "" : "; " + details),
            cause: .errno(call: call, code: code))
    }

    /// The same error, of a connection to `peer`.
    static func toward(_ peer: Int, _ error: MoriError) -> MoriError {
        var error = error
        error.message = "connecting to rank \(peer): \(error.message)"
        return error
    }

    /// What the system lets a process pin.
    package struct PinnedMemory: Hashable, Sendable {
        /// RLIMIT_MEMLOCK, in bytes; nil: unlimited.
        package var limit: Int?
        /// Bytes that are pinned already; 0 where the system does not tell.
        package var used: Int

        /// Takes what was found.
        package init(limit: Int?, used: Int) {
            self.limit = limit
            self.used = used
        }

        /// Asks the system.
        static func current() -> PinnedMemory {
            var limits = rlimit()
            let status = unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limits)
            var found = PinnedMemory(limit: nil, used: 0)
            if status == 0, limits.rlim_cur != rlim_t.max { found.limit = Int(limits.rlim_cur) }
            let lines = SystemFiles().text(of: "/proc/self/status")?.split(separator: "\n") ?? []
            for line in lines where line.hasPrefix("VmPin:") {
                let number = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst()
                    .first
                found.used = number.flatMap { Int($0) }.map { $0 << 10 } ?? 0
            }
            return found
        }
    }

    /// Memory that a NIC's driver would not register.
    ///
    /// - Parameters:
    ///   - call: The function, or both that were tried.
    ///   - code: Its errno.
    ///   - byteCount: Bytes of the memory.
    ///   - nic: The NIC's name and port.
    ///   - isHostMemory: Whether it is the host's, not a GPU's.
    ///   - pinned: What the process may pin.
    /// - Returns: `outOfMemory` or `networkFailure`.
    package static func refusedRegistration(
        _ call: String, _ code: Int32, byteCount: Int, on nic: String, isHostMemory: Bool,
        pinned: PinnedMemory
    ) -> MoriError {
        let needed = pinned.used + byteCount
        let limit = pinned.limit.map { "\($0) bytes" } ?? "unlimited"
        let isTooLow = isHostMemory && pinned.limit.map { $0 < needed } ?? false
        var advice: String
        if isTooLow {
            advice =
                "raise it to \(needed) bytes or more (ulimit -l unlimited; LimitMEMLOCK=infinity"
                + " under systemd; --ulimit memlock=-1 for a container), or make the operator's"
                + " memory smaller"
        } else if !isHostMemory {
            advice =
                "the NIC's driver needs DMA-BUF (Linux 5.12 or newer, and a GPU driver that exports"
                + " it) or the GPU's peer-memory module (amdgpu's peer memory, nvidia-peermem)"
        } else if code == EPERM || code == EACCES {
            advice =
                "give the process access to /dev/infiniband and, where the system asks for it,"
                + " CAP_IPC_LOCK"
        } else {
            advice = "free memory, or make the operator's memory smaller"
        }
        advice = advice.first.map { $0.uppercased() + advice.dropFirst() } ?? ""
        return MoriError(
            code == ENOMEM || isTooLow ? .outOfMemory : .networkFailure,
            "\(nic) cannot register \(byteCount) bytes of \(isHostMemory ? "host" : "device")"
                + " memory: \(call): \(RDMAHost.words(of: code)) (errno \(code)). The limit on"
                + " pinned memory (RLIMIT_MEMLOCK) is \(limit); \(pinned.used) bytes are pinned"
                + " already, and this needs \(needed) in all. \(advice)",
            cause: .errno(call: call, code: code))
    }
}

import Glibc
package import MoriDevice

#if RDMA
import CIBVerbs
import CNUMA
#endif

/// The RDMA NICs of this host.
package enum RDMAHost {
    /// Asks libibverbs and sysfs.
    ///
    /// - Returns: The NICs by name; those that cannot be opened say why.
    /// - Throws: `unsupported` where the kernel has no RDMA or the package was built without it.
    package static func nics() throws(MoriError) -> [RDMANIC] {
        #if RDMA
        var count: Int32 = 0
        errno = 0
        guard let list = unsafe ibv_get_device_list(&count) else {
            let code = errno
            throw MoriError(
                .unsupported,
                "libibverbs lists no NICs: \(words(of: code)) (errno \(code))"
                    + (code == ENOSYS
                        ? "; this kernel has no RDMA: load ib_uverbs and the NIC's driver (in a"
                            + " container: pass /dev/infiniband in)" : ""),
                cause: .errno(call: "ibv_get_device_list", code: code))
        }
        defer { unsafe ibv_free_device_list(list) }
        var nics: [RDMANIC] = []
        for index in 0..<Int(count) {
            guard let device = unsafe list[index] else { continue }
            nics.append(unsafe describe(device))
        }
        return nics.sorted { $0.name.isBefore($1.name) }
        #else
        throw MoriError(.unsupported, RDMAHost.builtWithout)
        #endif
    }

    /// What a package says that was built without the trait.
    package static let builtWithout =
        "this package was built without its trait RDMA, so it looks for no NICs; build it with the"
        + " trait (it is a default one) for ranks on several hosts"

    /// Where a device is: for the host, the NUMA node of the calling thread.
    package static func location(of device: Device) -> HostLocation {
        #if RDMA
        if device.kind == .host {
            let node = mori_current_numa_node()
            return HostLocation(numaNode: node >= 0 ? Int(node) : nil)
        }
        #endif
        return HostLocation()
    }

    /// An errno in words.
    static func words(of code: Int32) -> String {
        unsafe strerror(code).map { unsafe String(cString: $0) } ?? "unknown"
    }

    #if RDMA
    private static func describe(_ device: UnsafeMutablePointer<ibv_device>) -> RDMANIC {
        let name = unsafe ibv_get_device_name(device).map { unsafe String(cString: $0) } ?? "?"
        var nic = RDMANIC(
            name: name,
            location: SystemFiles().location(ofDevice: "/sys/class/infiniband/\(name)/device"))
        guard unsafe device.pointee.transport_type == IBV_TRANSPORT_IB else {
            nic.problem = "it speaks neither InfiniBand nor RoCE"
            return nic
        }
        guard let context = unsafe ibv_open_device(device) else {
            nic.problem = "ibv_open_device: \(words(of: errno)) (errno \(errno))"
            return nic
        }
        defer { _ = unsafe ibv_close_device(context) }
        var limits = ibv_device_attr()
        let status = unsafe ibv_query_device(context, &limits)
        guard status == 0 else {
            nic.problem = "ibv_query_device: \(words(of: status)) (errno \(status))"
            return nic
        }
        for number in 1...max(1, limits.phys_port_cnt) {
            if let port = unsafe describe(context, port: number) { nic.ports.append(port) }
        }
        return nic
    }

    private static func describe(
        _ context: UnsafeMutablePointer<ibv_context>, port number: UInt8
    ) -> RDMAPort? {
        var found = ibv_port_attr()
        guard unsafe mori_ibv_query_port(context, number, &found) == 0 else { return nil }
        let isEthernet = Int32(found.link_layer) == IBV_LINK_LAYER_ETHERNET
        var port = RDMAPort(
            number: Int(number),
            state: unsafe ibv_port_state_str(found.state).map { unsafe String(cString: $0) } ?? "?",
            isActive: found.state == IBV_PORT_ACTIVE,
            linkLayer: isEthernet ? .ethernet : .infiniBand,
            localIdentifier: found.lid, mtu: 128 << Int(found.active_mtu.rawValue),
            maxMessageByteCount: Int(found.max_msg_sz),
            needsGlobalRoute: isEthernet || Int32(found.flags) & mori_ibv_needs_global_route != 0)
        for index in 0..<UInt32(max(0, min(256, found.gid_tbl_len))) {
            var entry = ibv_gid_entry()
            // An empty entry is an error, which says nothing about the next ones.
            guard unsafe ibv_query_gid_ex(context, UInt32(number), index, &entry, 0) == 0 else {
                continue
            }
            let kind: RDMAGID.Kind
            switch entry.gid_type {
            case UInt32(IBV_GID_TYPE_ROCE_V2.rawValue): kind = .roceV2
            case UInt32(IBV_GID_TYPE_ROCE_V1.rawValue): kind = .roceV1
            default: kind = .infiniBand
            }
            let bytes = unsafe withUnsafeBytes(of: &entry.gid) { unsafe Array($0) }
            guard bytes.contains(where: { $0 != 0 }) else { continue }
            port.gids.append(RDMAGID(index: Int(index), bytes: bytes, kind: kind))
        }
        return port
    }
    #endif
}

#if RDMA
import CIBVerbs
import CRDMACM
import Glibc
import MoriDevice

/// A port of a NIC that was opened for a link, with the memory that it may reach.
struct VerbsNIC: Sendable {
    /// "mlx5_0:1".
    let name: String
    /// The port.
    let port: RDMAPort
    /// The address that peers know it by.
    let gid: RDMAGID
    /// What the NIC can do.
    let limits: ibv_device_attr
    let context: NICContext
    let domain: ProtectionDomain

    /// Opens a port.
    ///
    /// - Parameters:
    ///   - name: "mlx5_0:1".
    ///   - nics: The NICs of this host.
    ///   - transport: How peers will reach it.
    ///   - gidIndex: What MORI_IB_GID_INDEX says.
    /// - Throws: What the driver refuses.
    init(
        opening name: String, of nics: [RDMANIC], transport: RDMATransport, gidIndex: Int?
    ) throws(MoriError) {
        var found: (RDMANIC, RDMAPort)?
        for nic in nics {
            for port in nic.ports where "\(nic.name):\(port.number)" == name { found = (nic, port) }
        }
        let candidates = found?.1.gids.filter { gid in
            gid.transport == transport && (gidIndex == nil || gid.index == gidIndex)
        }
        guard let (nic, port) = found, let gid = candidates?.min(by: { $0.index < $1.index }) else {
            throw MoriError(.networkFailure, "\(name) is gone since the NICs were listed")
        }
        self.name = name
        self.port = port
        self.gid = gid
        let context = try Self.open(nic.name)
        var limits = ibv_device_attr()
        let status = unsafe ibv_query_device(context.pointer, &limits)
        guard status == 0 else { throw VerbsErrors.failed("ibv_query_device", status, on: name) }
        guard let domain = unsafe ibv_alloc_pd(context.pointer) else {
            throw VerbsErrors.failed("ibv_alloc_pd", errno, on: name)
        }
        self.limits = limits
        self.context = context
        self.domain = unsafe ProtectionDomain(domain, of: context)
    }

    private static func open(_ name: String) throws(MoriError) -> NICContext {
        var count: Int32 = 0
        let list = unsafe ibv_get_device_list(&count)
        guard let list = unsafe list else {
            throw VerbsErrors.failed("ibv_get_device_list", errno, on: name)
        }
        defer { unsafe ibv_free_device_list(list) }
        for index in 0..<Int(count) {
            guard let device = unsafe list[index],
                let found = unsafe ibv_get_device_name(device),
                unsafe String(cString: found) == name
            else { continue }
            guard let context = unsafe ibv_open_device(device) else {
                throw VerbsErrors.failed("ibv_open_device", errno, on: name)
            }
            return unsafe NICContext(context)
        }
        throw MoriError(.networkFailure, "\(name) is gone since the NICs were listed")
    }

    /// Registers memory, by DMA-BUF where the device exports it, else by its address.
    ///
    /// Never with relaxed ordering: a word must not overtake the payload it covers (protocol rule
    /// P9).
    ///
    /// - Returns: The registration, in which addresses are the memory's own.
    /// - Throws: `outOfMemory` or `networkFailure` with the limit on pinned memory and what to do.
    func register(
        address: UInt, byteCount: Int, of device: Device
    ) throws(MoriError) -> MemoryRegion {
        guard UInt64(byteCount) <= limits.max_mr_size else {
            throw MoriError(
                .outOfMemory,
                "\(name) registers at most \(limits.max_mr_size) bytes at once (max_mr_size),"
                    + " and the operator's memory is \(byteCount); make it smaller")
        }
        let access = IBV_ACCESS_LOCAL_WRITE.rawValue | IBV_ACCESS_REMOTE_WRITE.rawValue
        var tried = ""
        if let exported = device.exportDMABuf(address: address, byteCount: byteCount) {
            // The registration holds the buffer by itself.
            defer { _ = Glibc.close(exported.descriptor) }
            if let region = unsafe ibv_reg_dmabuf_mr(
                domain.pointer, exported.offset, byteCount, UInt64(address), exported.descriptor,
                Int32(access))
            {
                return unsafe handle(region)
            }
            tried = "ibv_reg_dmabuf_mr (errno \(errno)), then "
        }
        guard
            let region = unsafe mori_ibv_reg_mr(domain.pointer, UInt64(address), byteCount, access)
        else {
            let code = errno
            let properties = try device.properties()
            throw VerbsErrors.refusedRegistration(
                tried + "ibv_reg_mr", code, byteCount: byteCount, on: name,
                isHostMemory: properties.memoryIsHostMemory, pinned: .current())
        }
        return unsafe handle(region)
    }

    private func handle(_ region: UnsafeMutablePointer<ibv_mr>) -> MemoryRegion {
        unsafe MemoryRegion(region, of: domain)
    }

    /// Makes a completion queue.
    func makeCompletionQueue(capacity: Int) throws(MoriError) -> CompletionQueue {
        guard let queue = unsafe ibv_create_cq(context.pointer, Int32(capacity), nil, nil, 0) else {
            throw VerbsErrors.failed(
                "ibv_create_cq", errno, on: name,
                "for \(capacity) completions, of at most"
                    + " \(limits.max_cqe)")
        }
        return unsafe CompletionQueue(queue, of: context)
    }

    /// The IP address by which librdmacm reaches this port; nil where it has none.
    var address: IPAddress? {
        switch gid.transport {
        case .roceV2OverIPv4, .roceV2OverIPv6: gid.address
        case .infiniBand: addressOverInfiniBand
        // An address of one link needs its interface's number, which peers do not share.
        case .roceV2OverLinkLocal, .roceV1: nil
        }
    }

    /// The address of the NIC's IP-over-InfiniBand interface.
    private var addressOverInfiniBand: IPAddress? {
        let nic = name.prefix { $0 != ":" }
        let interfaces = (try? NetworkInterface.all()) ?? []
        return interfaces.first { interface in
            let folder = "/sys/class/infiniband/\(nic)/device/net/\(interface.name)"
            // dev_port counts ports from 0.
            return SystemFiles().text(of: folder + "/dev_port").flatMap(Int.init) == port.number - 1
        }?.address
    }
}
#endif

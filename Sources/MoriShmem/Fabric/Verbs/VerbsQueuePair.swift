#if RDMA
import CIBVerbs
import CRDMACM
import Glibc
import MoriDevice

/// A reliable connection's end.
struct VerbsQueuePair: Sendable {
    let nic: VerbsNIC
    let handle: QueuePair
    /// Requests that it holds.
    let depth: Int
    /// Whether a word travels inside its request.
    let takesInlineWords: Bool
    /// The number of its first packet, 24 bits.
    let firstPacket: UInt32

    /// Its number, which the other end names.
    var number: UInt32 { unsafe handle.pointer.pointee.qp_num }

    /// Makes a queue pair, not yet connected.
    init(
        on nic: VerbsNIC, completions: CompletionQueue, depth: Int, _ settings: RDMASettings
    ) throws(MoriError) {
        // Providers that know no inline data refuse the request for it.
        var made: (UnsafeMutablePointer<ibv_qp>, ibv_qp_cap)?
        var code: Int32 = 0
        for inlineBytes in [UInt32(8), 0] where unsafe made == nil {
            var attributes = unsafe ibv_qp_init_attr()
            unsafe attributes.send_cq = completions.pointer
            unsafe attributes.recv_cq = completions.pointer
            unsafe attributes.qp_type = IBV_QPT_RC
            unsafe attributes.sq_sig_all = 0
            unsafe attributes.cap = ibv_qp_cap(
                max_send_wr: UInt32(depth), max_recv_wr: 1, max_send_sge: 1, max_recv_sge: 1,
                max_inline_data: inlineBytes)
            if let pointer = unsafe ibv_create_qp(nic.domain.pointer, &attributes) {
                unsafe made = (pointer, attributes.cap)
            } else {
                code = errno
            }
        }
        guard let (pointer, capabilities) = unsafe made else {
            throw VerbsErrors.failed(
                "ibv_create_qp", code, on: nic.name,
                "for \(depth) requests, of at most \(nic.limits.max_qp_wr), and"
                    + " \(nic.limits.max_qp) queue pairs in all")
        }
        self.nic = nic
        handle = unsafe QueuePair(pointer, of: nic.domain, completions: completions)
        self.depth = min(depth, Int(capabilities.max_send_wr))
        takesInlineWords = settings.usesInlineWords && capabilities.max_inline_data >= 8
        firstPacket = UInt32.random(in: 0..<1 << 24)
    }

    /// Where the other end is.
    struct Remote {
        var port: VerbsEndpoints.Port
        var queue: VerbsEndpoints.Queue
    }

    /// Connects with an end whose address came over the bootstrap.
    func connect(to remote: Remote, _ settings: RDMASettings) throws(MoriError) {
        var attributes = ibv_qp_attr()
        attributes.pkey_index = 0
        attributes.port_num = UInt8(nic.port.number)
        try initialize(&attributes)

        attributes.path_mtu = ibv_mtu(
            rawValue: Self.mtuNumber(min(nic.port.mtu, Int(remote.port.mtu))))
        attributes.dest_qp_num = remote.queue.number
        attributes.rq_psn = remote.queue.firstPacket
        attributes.ah_attr.dlid = remote.port.localIdentifier
        attributes.ah_attr.port_num = UInt8(nic.port.number)
        // InfiniBand's subnets do without the global header where they can.
        if nic.port.needsGlobalRoute || remote.port.localIdentifier == 0 {
            attributes.ah_attr.is_global = 1
            attributes.ah_attr.grh.sgid_index = UInt8(nic.gid.index)
            attributes.ah_attr.grh.hop_limit = 64
            unsafe withUnsafeMutableBytes(of: &attributes.ah_attr.grh.dgid) {
                unsafe $0.copyBytes(from: remote.port.gid)
            }
        }
        try becomeReady(&attributes, settings)

        attributes.sq_psn = firstPacket
        try becomeSender(&attributes)
    }

    /// From reset to initialized; `attributes` name partition and port.
    func initialize(_ attributes: inout ibv_qp_attr) throws(MoriError) {
        attributes.qp_state = IBV_QPS_INIT
        attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE.rawValue
        try modify(
            &attributes, IBV_QP_STATE, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_ACCESS_FLAGS)
    }

    /// To ready to receive; `attributes` name the path and the other end.
    func becomeReady(
        _ attributes: inout ibv_qp_attr, _ settings: RDMASettings
    ) throws(MoriError) {
        attributes.qp_state = IBV_QPS_RTR
        attributes.ah_attr.sl = UInt8(settings.serviceLevel)
        attributes.ah_attr.grh.traffic_class = UInt8(settings.trafficClass)
        if let most = settings.pathMTU {
            let number = min(attributes.path_mtu.rawValue, Self.mtuNumber(most))
            attributes.path_mtu = ibv_mtu(rawValue: number)
        }
        // Nobody reads or needs receives: the least that providers take.
        attributes.max_dest_rd_atomic = 1
        attributes.min_rnr_timer = 12
        try modify(
            &attributes, IBV_QP_STATE, IBV_QP_AV, IBV_QP_PATH_MTU, IBV_QP_DEST_QPN,
            IBV_QP_RQ_PSN, IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER)
    }

    /// To ready to send; `attributes` name the first packet.
    func becomeSender(_ attributes: inout ibv_qp_attr) throws(MoriError) {
        attributes.qp_state = IBV_QPS_RTS
        attributes.timeout = VerbsRetry.timeout
        attributes.retry_cnt = VerbsRetry.count
        attributes.rnr_retry = VerbsRetry.countWithoutReceiver
        attributes.max_rd_atomic = 1
        try modify(
            &attributes, IBV_QP_STATE, IBV_QP_TIMEOUT, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY,
            IBV_QP_SQ_PSN, IBV_QP_MAX_QP_RD_ATOMIC)
    }

    private func modify(
        _ attributes: inout ibv_qp_attr, _ masks: ibv_qp_attr_mask...
    ) throws(MoriError) {
        let mask = masks.reduce(0) { $0 | $1.rawValue }
        let status = unsafe ibv_modify_qp(handle.pointer, &attributes, Int32(mask))
        guard status == 0 else {
            throw VerbsErrors.failed(
                "ibv_modify_qp", status, on: nic.name,
                "to state \(attributes.qp_state.rawValue) with GID \(nic.gid.index)"
                    + " (\(nic.gid.transport)); does the peer's address have a route from here?")
        }
    }

    /// The number that libibverbs has for a packet's payload: 1 for 256 bytes to 5 for 4096.
    static func mtuNumber(_ bytes: Int) -> UInt32 {
        UInt32(max(1, min(5, bytes.leadingZeroBitCount.distance(to: 63) - 7)))
    }
}
#endif

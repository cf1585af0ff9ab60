#if RDMA
import CIBVerbs
import CRDMACM
import Glibc
import MoriDevice
import NIOCore

/// Connections made through librdmacm: addresses and routes are the system's to find, and the words
/// over the bootstrap carry only an IP address and a port number.
///
/// The queue pairs stay this fabric's own (librdmacm opens NICs a second time, where the memory is
/// not registered), so their states are changed here, with what `rdma_init_qp_attr` says.
@safe
final class VerbsConnectionManager: @unchecked Sendable {
    /// Where a NIC's port listens.
    struct Service: Sendable {
        var address: IPAddress
        var port: UInt16
    }

    /// A queue to connect.
    struct Pairing {
        var pair: VerbsQueuePair
        var peer: Int
        /// Which of the queues to this peer.
        var number: Int
        /// Whether this end calls; the other accepts.
        var isCaller: Bool
        /// Which of this rank's NICs.
        var nic: Int
        var remote: VerbsQueuePair.Remote
        /// The peer's secret, which a caller shows.
        var secret: UInt64
    }

    /// By NIC; nil where it has no IP address.
    let services: [Service?]

    private let channel: EventChannel
    private let listeners: [ConnectionID]
    private let secret: UInt64
    // Kept until the link is closed: an id that goes tells the peer that the connection has ended.
    private var ids: [ConnectionID] = []

    /// Listens at the address of each NIC that has one.
    init(listeningFor nics: [VerbsNIC], backlog: Int, secret: UInt64) throws(MoriError) {
        guard let channel = unsafe rdma_create_event_channel() else {
            throw VerbsErrors.failed(
                "rdma_create_event_channel", errno, on: nics.map(\.name).joined(separator: ", "),
                "is the module rdma_ucm loaded?")
        }
        let owner = unsafe EventChannel(channel)
        // So that waiting for an event can end at the deadline.
        _ = unsafe fcntl(channel.pointee.fd, F_SETFL, O_NONBLOCK)
        var listeners: [ConnectionID] = []
        var services: [Service?] = []
        for nic in nics {
            guard let address = nic.address else {
                services.append(nil)
                continue
            }
            let id = try Self.makeID(on: owner, nic.name)
            try Self.check("rdma_bind_addr", nic.name, "to \(address)") {
                unsafe Self.withAddress(address, port: 0) { unsafe rdma_bind_addr(id.pointer, $0) }
            }
            try Self.check("rdma_listen", nic.name, "at \(address)") {
                unsafe rdma_listen(id.pointer, Int32(backlog))
            }
            let port = unsafe UInt16(bigEndian: rdma_get_src_port(id.pointer))
            listeners.append(id)
            services.append(Service(address: address, port: port))
        }
        self.channel = owner
        self.listeners = listeners
        self.services = services
        self.secret = secret
    }

    /// Connects all queues, calling those with a higher rank and answering those with a lower.
    func connect(
        _ pairings: [Pairing], rank: Int, _ settings: RDMASettings,
        before deadline: ContinuousClock.Instant
    ) throws(MoriError) {
        var isDone = [Bool](repeating: false, count: pairings.count)
        for (index, pairing) in pairings.enumerated() where pairing.isCaller {
            try call(pairing, index)
        }
        while isDone.contains(false) {
            let event = try unsafe next(before: deadline) {
                let missing = pairings.indices.filter { !isDone[$0] }.map { pairings[$0].peer }
                return rankList(Set(missing).sorted())
            }
            // Acknowledging frees it, so what is needed of it is read before.
            defer { _ = unsafe rdma_ack_cm_event(event) }
            guard let id = unsafe event.pointee.id else { continue }
            if unsafe event.pointee.event == RDMA_CM_EVENT_CONNECT_REQUEST {
                try unsafe answer(event, pairings, isDone, settings)
                continue
            }
            let index = unsafe Int(bitPattern: id.pointee.context) - 1
            guard pairings.indices.contains(index), !isDone[index] else { continue }
            let pairing = pairings[index]
            do throws(MoriError) {
                isDone[index] = try unsafe advance(
                    id, event.pointee.event, event.pointee.status, pairing, rank, settings)
            } catch {
                throw VerbsErrors.toward(pairing.peer, error)
            }
        }
    }

    /// Asks for the address of a peer; everything else follows from its event.
    private func call(_ pairing: Pairing, _ index: Int) throws(MoriError) {
        let nic = pairing.pair.nic.name
        let id = try Self.makeID(on: channel, nic)
        unsafe id.pointer.pointee.context = UnsafeMutableRawPointer(bitPattern: index + 1)
        ids.append(id)
        guard let own = services[pairing.nic]?.address,
            let remote = IPAddress(bytes: pairing.remote.port.address)
        else {
            throw MoriError(
                .networkFailure,
                "rank \(pairing.peer) sent an address of"
                    + " \(pairing.remote.port.address.count) bytes", ranks: [pairing.peer])
        }
        try Self.check("rdma_resolve_addr", nic, "from \(own) to \(remote)") {
            unsafe Self.withAddress(own, port: 0) { source in
                unsafe Self.withAddress(remote, port: pairing.remote.port.service) { destination in
                    unsafe rdma_resolve_addr(id.pointer, source, destination, 5000)
                }
            }
        }
    }

    /// Does what follows an event of one connection.
    ///
    /// - Returns: Whether the queue is connected.
    private func advance(
        _ id: UnsafeMutablePointer<rdma_cm_id>, _ event: rdma_cm_event_type, _ status: Int32,
        _ pairing: Pairing, _ rank: Int, _ settings: RDMASettings
    ) throws(MoriError) -> Bool {
        let nic = pairing.pair.nic.name
        switch event {
        case RDMA_CM_EVENT_ADDR_RESOLVED:
            try Self.check("rdma_resolve_route", nic) { unsafe rdma_resolve_route(id, 5000) }
            return false
        case RDMA_CM_EVENT_ROUTE_RESOLVED:
            var attributes = try unsafe attributes(of: id, IBV_QPS_INIT, nic)
            try pairing.pair.initialize(&attributes)
            let greeting =
                pairing.secret.littleEndianBytes
                + (UInt64(rank) << 32 | UInt64(pairing.number)).littleEndianBytes
            try Self.check("rdma_connect", nic) {
                unsafe greeting.withUnsafeBytes { bytes in
                    var parameters = unsafe Self.parameters(pairing.pair)
                    unsafe parameters.private_data = bytes.baseAddress
                    unsafe parameters.private_data_len = UInt8(bytes.count)
                    return unsafe rdma_connect(id, &parameters)
                }
            }
            return false
        case RDMA_CM_EVENT_CONNECT_RESPONSE:
            try unsafe makeReady(pairing.pair, id, settings)
            try Self.check("rdma_establish", nic) { unsafe rdma_establish(id) }
            return true
        case RDMA_CM_EVENT_ESTABLISHED:
            return true
        default:
            let words = unsafe rdma_event_str(event).map { unsafe String(cString: $0) } ?? "?"
            throw MoriError(
                .networkFailure,
                "librdmacm on \(nic): \(words), status \(status); set MORI_RDMA_CM=0 to exchange"
                    + " the addresses over the bootstrap instead", ranks: [pairing.peer])
        }
    }

    /// Accepts a caller that shows the secret and names a queue that waits for it.
    private func answer(
        _ event: UnsafeMutablePointer<rdma_cm_event>, _ pairings: [Pairing], _ isDone: [Bool],
        _ settings: RDMASettings
    ) throws(MoriError) {
        guard let pointer = unsafe event.pointee.id else { return }
        let id = unsafe Self.handle(pointer, channel)
        let parameters = unsafe event.pointee.param.conn
        var greeting: [UInt8] = []
        if let data = unsafe parameters.private_data {
            greeting = unsafe Array(
                UnsafeRawBufferPointer(start: data, count: Int(parameters.private_data_len)))
        }
        var index: Int?
        if greeting.count >= 16, UInt64(littleEndianBytes: greeting[..<8]) == secret {
            let caller = UInt64(littleEndianBytes: greeting[8..<16])
            index = pairings.firstIndex {
                !$0.isCaller && $0.peer == Int(caller >> 32)
                    && $0.number == Int(caller & 0xffff_ffff)
            }
        }
        guard let index, !isDone[index] else {
            // A stranger.
            _ = unsafe rdma_reject(pointer, nil, 0)
            return
        }
        let pair = pairings[index].pair
        unsafe pointer.pointee.context = UnsafeMutableRawPointer(bitPattern: index + 1)
        ids.append(id)
        do throws(MoriError) {
            var attributes = try unsafe attributes(of: pointer, IBV_QPS_INIT, pair.nic.name)
            try pair.initialize(&attributes)
            try unsafe makeReady(pair, pointer, settings)
            try Self.check("rdma_accept", pair.nic.name) {
                var parameters = unsafe Self.parameters(pair)
                return unsafe rdma_accept(pointer, &parameters)
            }
        } catch {
            throw VerbsErrors.toward(pairings[index].peer, error)
        }
    }

    private func makeReady(
        _ pair: VerbsQueuePair, _ id: UnsafeMutablePointer<rdma_cm_id>, _ settings: RDMASettings
    ) throws(MoriError) {
        var ready = try unsafe attributes(of: id, IBV_QPS_RTR, pair.nic.name)
        try pair.becomeReady(&ready, settings)
        var sender = try unsafe attributes(of: id, IBV_QPS_RTS, pair.nic.name)
        try pair.becomeSender(&sender)
    }

    /// What librdmacm knows for a queue pair's next state.
    private func attributes(
        of id: UnsafeMutablePointer<rdma_cm_id>, _ state: ibv_qp_state, _ nic: String
    ) throws(MoriError) -> ibv_qp_attr {
        var attributes = ibv_qp_attr()
        var mask: Int32 = 0
        attributes.qp_state = state
        try Self.check("rdma_init_qp_attr", nic) {
            unsafe rdma_init_qp_attr(id, &attributes, &mask)
        }
        return attributes
    }

    /// The next event; throws at the deadline.
    private func next(
        before deadline: ContinuousClock.Instant, missing: () -> String
    ) throws(MoriError) -> UnsafeMutablePointer<rdma_cm_event> {
        while true {
            var event: UnsafeMutablePointer<rdma_cm_event>?
            if unsafe rdma_get_cm_event(channel.pointer, &event) == 0, let event = unsafe event {
                return unsafe event
            }
            guard errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR else {
                throw VerbsErrors.failed("rdma_get_cm_event", errno, on: "librdmacm")
            }
            let left = deadline - .now
            guard left > .zero else {
                throw MoriError(
                    .timedOut,
                    "librdmacm has not connected with \(missing()) before the deadline; set"
                        + " MORI_RDMA_CM=0 to exchange the addresses over the bootstrap instead")
            }
            var descriptor = unsafe pollfd(
                fd: channel.pointer.pointee.fd, events: Int16(POLLIN), revents: 0)
            let milliseconds = min(left.components.seconds * 1000 + 1, 1000)
            _ = unsafe Glibc.poll(&descriptor, 1, Int32(milliseconds))
        }
    }

    // -------------------------------------------------------------------------------------------
    // librdmacm's own

    private static func makeID(
        on channel: EventChannel, _ nic: String
    ) throws(MoriError) -> ConnectionID {
        var id: UnsafeMutablePointer<rdma_cm_id>?
        try check("rdma_create_id", nic) {
            unsafe rdma_create_id(channel.pointer, &id, nil, RDMA_PS_TCP)
        }
        guard let id = unsafe id else {
            throw VerbsErrors.failed("rdma_create_id", ENOMEM, on: nic)
        }
        return unsafe handle(id, channel)
    }

    private static func handle(
        _ id: UnsafeMutablePointer<rdma_cm_id>, _ channel: EventChannel
    ) -> ConnectionID {
        unsafe ConnectionID(id, of: channel)
    }

    private static func parameters(_ pair: VerbsQueuePair) -> rdma_conn_param {
        var parameters = unsafe rdma_conn_param()
        unsafe parameters.qp_num = pair.number
        unsafe parameters.responder_resources = 1
        unsafe parameters.initiator_depth = 1
        unsafe parameters.retry_count = VerbsRetry.count
        unsafe parameters.rnr_retry_count = VerbsRetry.countWithoutReceiver
        return unsafe parameters
    }

    private static func withAddress(
        _ address: IPAddress, port: UInt16, _ body: (UnsafeMutablePointer<sockaddr>) -> Int32
    ) -> Int32 {
        guard let socket = try? address.socketAddress(port: Int(port)) else {
            errno = EAFNOSUPPORT
            return -1
        }
        return unsafe socket.withSockAddr { pointer, _ in
            // librdmacm only reads it.
            unsafe body(UnsafeMutablePointer(mutating: pointer))
        }
    }

    private static func check(
        _ call: String, _ nic: String, _ details: String = "", _ body: () -> Int32
    ) throws(MoriError) {
        guard body() != 0 else { return }
        throw VerbsErrors.failed(call, errno, on: nic, details)
    }
}
#endif

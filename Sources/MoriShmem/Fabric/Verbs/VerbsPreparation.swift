#if RDMA
import CIBVerbs
import CRDMACM
import MoriDevice

/// One rank's half of the connections: its NICs, registrations and queue pairs.
struct VerbsPreparation: Sendable {
    /// What peers are told.
    private(set) var endpoints = VerbsEndpoints()

    private let request: FabricRequest
    private var nics: [VerbsNIC] = []
    private var memory: [MemoryRegion] = []
    private var pairs: [VerbsQueuePair] = []
    private var owned = VerbsLink.Owned()

    /// What this rank tells the others before anything is made, and the NICs that it found.
    static func survey(
        for request: FabricRequest, _ settings: RDMASettings
    ) -> (survey: VerbsSurvey, nics: [RDMANIC]) {
        var survey = VerbsSurvey()
        survey.host = SystemFiles().hostIdentity
        survey.hostName = SystemFiles().hostName
        survey.peers = request.peers
        survey.queuesPerPeer = request.queuesPerPeer
        survey.namesSeveral = settings.devices.namesSeveral
        survey.settings = [
            .init(name: "queues to each peer:", value: "\(request.queuesPerPeer)"),
            .init(name: "bytes of memory:", value: "\(request.byteCount)"),
            .init(name: "MORI_RDMA_SL", value: "\(settings.serviceLevel)"),
            .init(name: "MORI_RDMA_TC", value: "\(settings.trafficClass)"),
            .init(
                name: "MORI_IB_PATH_MTU", value: settings.pathMTU.map(String.init) ?? "not set"),
            .init(name: "MORI_RDMA_CM", value: settings.usesConnectionManager ? "1" : "0"),
        ]
        // A host whose ranks have no peers beyond it needs no NIC.
        guard !request.peers.isEmpty else { return (survey, []) }
        var nics: [RDMANIC] = []
        do throws(MoriError) {
            nics = try RDMAHost.nics()
            try settings.devices.check(against: nics)
        } catch {
            if error.code == .unsupported {
                survey.rejected.append(error.message)
            } else {
                survey.problem = VerbsProblem(error)
            }
        }
        let candidates = RDMACandidates(
            of: nics, list: settings.devices, gidIndex: settings.gidIndex,
            // From nowhere all NICs are equally far.
            near: settings.ignoresTopology
                ? HostLocation() : RDMAHost.location(of: request.device))
        survey.ports = candidates.usable.map {
            .init(name: $0.name, group: $0.group, transports: $0.transports)
        }
        survey.rejected += candidates.rejected
        return (survey, nics)
    }

    /// Opens the NICs of the plan, registers the memory with each and makes the queue pairs.
    init(
        _ request: FabricRequest, nics found: [RDMANIC], rank: Int, plan: VerbsPlan?,
        _ settings: RDMASettings
    ) throws(MoriError) {
        self.request = request
        endpoints.address = UInt64(request.address)
        endpoints.secret = .random(in: .min ... .max)
        endpoints.peers = request.peers
        guard let plan, !request.peers.isEmpty else { return }
        for name in plan.ports[rank] {
            let nic = try VerbsNIC(
                opening: name, of: found, transport: plan.transport, gidIndex: settings.gidIndex)
            let region = try nic.register(
                address: request.address, byteCount: request.byteCount, of: request.device)
            nics.append(nic)
            memory.append(region)
        }
        owned.memory = memory
        let queueCount = request.peers.count * request.queuesPerPeer
        let depth = try depth(ofQueues: queueCount)
        for nic in nics {
            owned.completions.append(
                try nic.makeCompletionQueue(capacity: depth * queuesOnOneNIC(of: queueCount)))
        }
        for queue in 0..<queueCount {
            let nic = nicIndex(ofQueue: queue)
            let pair = try VerbsQueuePair(
                on: nics[nic], completions: owned.completions[nic], depth: depth, settings)
            pairs.append(pair)
            endpoints.queues.append(.init(number: pair.number, firstPacket: pair.firstPacket))
        }
        owned.pairs = pairs
        if settings.usesConnectionManager {
            owned.connections = try VerbsConnectionManager(
                listeningFor: nics, backlog: queueCount, secret: endpoints.secret)
        }
        for (index, nic) in nics.enumerated() {
            let service = owned.connections?.services[index]
            endpoints.ports.append(
                .init(
                    gid: nic.gid.bytes, localIdentifier: nic.port.localIdentifier,
                    mtu: UInt32(nic.port.mtu), remoteKey: unsafe memory[index].pointer.pointee.rkey,
                    address: service.map { $0.address.bytes } ?? [], service: service?.port ?? 0))
        }
    }

    /// The queues of a peer are dealt over the NICs.
    private func nicIndex(ofQueue queue: Int) -> Int {
        queue % request.queuesPerPeer % nics.count
    }

    /// Queues on the NIC that has the most.
    private func queuesOnOneNIC(of queueCount: Int) -> Int {
        (0..<queueCount).count { nicIndex(ofQueue: $0) == 0 }
    }

    private func depth(ofQueues queueCount: Int) throws(MoriError) -> Int {
        var depth = VerbsLimits.wantedDepth
        for nic in nics {
            let requests = Int(nic.limits.max_qp_wr)
            let completions = Int(nic.limits.max_cqe)
            let possible = VerbsLimits.depth(
                maxRequests: requests, maxCompletions: completions,
                queueCount: queuesOnOneNIC(of: queueCount))
            guard let possible else {
                throw MoriError(
                    .capacityExceeded,
                    "\(nic.name) has no room for \(queueCount) queues of"
                        + " \(VerbsLimits.leastDepth) requests: its queue pairs hold at most"
                        + " \(requests) (max_qp_wr), its completion queues \(completions)"
                        + " (max_cqe); use fewer queue pairs for each peer")
            }
            depth = min(depth, possible)
        }
        return depth
    }

    /// Connects every queue with its peer's.
    ///
    /// - Parameters:
    ///   - rank: This rank.
    ///   - all: What each rank told, by rank.
    ///   - settings: Service level and traffic class.
    ///   - deadline: When to give up.
    /// - Returns: The link.
    /// - Throws: What the driver or librdmacm refuses, naming the peer; `timedOut`.
    func connect(
        rank: Int, to all: [VerbsEndpoints], _ settings: RDMASettings,
        before deadline: ContinuousClock.Instant
    ) throws(MoriError) -> VerbsLink {
        var connections: [VerbsLink.Connection] = []
        var managed: [VerbsConnectionManager.Pairing] = []
        for (index, peer) in request.peers.enumerated() {
            let other = all[peer]
            // What the others know of this rank's queues is in the order of their peers.
            let place = try place(of: rank, amongPeersOf: peer, all)
            for number in 0..<request.queuesPerPeer {
                let queue = index * request.queuesPerPeer + number
                let pair = pairs[queue]
                let own = endpoints.ports[nicIndex(ofQueue: queue)]
                let remote = VerbsQueuePair.Remote(
                    port: other.ports[number % other.ports.count],
                    queue: other.queues[place * request.queuesPerPeer + number])
                let isManaged =
                    !own.address.isEmpty && own.address.count == remote.port.address.count
                if isManaged {
                    managed.append(
                        .init(
                            pair: pair, peer: peer, number: number, isCaller: rank < peer,
                            nic: nicIndex(ofQueue: queue), remote: remote, secret: other.secret))
                } else {
                    do throws(MoriError) {
                        try pair.connect(to: remote, settings)
                    } catch {
                        throw VerbsErrors.toward(peer, error)
                    }
                }
                connections.append(
                    .init(
                        pair: pair, peer: peer, memory: memory[nicIndex(ofQueue: queue)],
                        destination: other.address, remoteKey: remote.port.remoteKey,
                        remoteNumber: remote.queue.number))
            }
        }
        if !managed.isEmpty, let connections = owned.connections {
            try connections.connect(managed, rank: rank, settings, before: deadline)
        }
        return try VerbsLink(
            connections, source: request.address, device: request.device, owned: owned)
    }

    /// Which of a peer's peers this rank is.
    private func place(
        of rank: Int, amongPeersOf peer: Int, _ all: [VerbsEndpoints]
    ) throws(MoriError) -> Int {
        let other = all[peer]
        guard !other.ports.isEmpty, let place = other.peers.firstIndex(of: rank),
            other.queues.count == other.peers.count * request.queuesPerPeer
        else {
            throw MoriError(
                .ranksDisagree, "rank \(peer) told of no queues to rank \(rank)",
                ranks: [rank, peer].sorted())
        }
        return place
    }
}
#endif

package import MoriDevice

/// What the ranks of one process share of the network: the fabric's settings and the proxy, which is
/// made when the first operator needs it.
package final class Networking: Sendable {
    /// What tells this host from others, to know whose memory can be mapped.
    let hostIdentity: [UInt8]
    private let selection: FabricSelection
    private let rdma: RDMASettings
    /// Used whatever the environment says.
    private let fabric: (any Fabric)?
    private let proxy = Locked<Proxy?>(nil)

    init(_ environment: MoriEnvironment, hostIdentity: [UInt8], fabric: (any Fabric)?) {
        self.hostIdentity = hostIdentity
        selection = environment.fabric
        rdma = environment.rdma
        self.fabric = fabric
    }

    /// Chooses a fabric and connects an operator's memory with its peers'.
    ///
    /// Collective.
    func connect(
        _ request: FabricRequest, over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) -> any FabricLink {
        var chosen = fabric
        if chosen == nil {
            chosen = try await selection.choose(
                for: request, rdma, over: bootstrap, timeout: timeout,
                loopback: { LoopbackFabric() })
        }
        guard let chosen else { throw MoriError(.unsupported, "no fabric for \(request.purpose)") }
        return try await chosen.connect(request, over: bootstrap, timeout: timeout)
    }

    /// The process's proxy.
    func proxy(on device: Device) throws(MoriError) -> Proxy {
        try proxy.withLock { (proxy) throws(MoriError) in
            if let proxy { return proxy }
            let made = try Proxy(on: device, settings: try Self.proxySettings(device))
            proxy = made
            return made
        }
    }

    static func proxySettings(_ device: Device) throws(MoriError) -> ProxySettings {
        var settings = ProxySettings()
        settings.wakesProducers = device.kind == .host
        return settings
    }
}

/// One rank's operator on the network: its queues and rings, served by the proxy.
package final class NetworkConnection: Sendable {
    /// The address of the proxy's doorbell, for kernels.
    package let doorbellAddress: UInt
    /// Whether words from other nodes wake host threads that await them.
    package let wordsWake: Bool

    private let proxy: Proxy
    private let channel: ProxyChannel
    private let link: any FabricLink
    /// The memory that the proxy reads and writes.
    private let keeping: [any Sendable & AnyObject]
    private let isClosed = Locked(false)

    /// What a rank asks for.
    package struct Request: Sendable {
        /// The memory that peers write into, of all ranks.
        package var memory: SymmetricBuffer
        /// The rings and counts, and what owns them.
        package var rings: RingMemory
        package var ringOwner: DeviceBuffer
        /// Ranks of other nodes that this one exchanges writes with, ascending.
        package var peers: [Int]
        package var queuesPerPeer: Int
        /// What for, in words, for the errors.
        package var purpose: String

        package init(
            memory: SymmetricBuffer, rings: RingMemory, ringOwner: DeviceBuffer, peers: [Int],
            queuesPerPeer: Int, purpose: String
        ) {
            self.memory = memory
            self.rings = rings
            self.ringOwner = ringOwner
            self.peers = peers
            self.queuesPerPeer = queuesPerPeer
            self.purpose = purpose
        }
    }

    /// Connects and begins to serve.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - request: What is served, and for whom.
    ///   - world: The ranks.
    ///   - generation: The world's, in which it serves.
    ///   - onTick: Called about once a millisecond on the proxy's thread.
    /// - Throws: what the fabric throws: no fabric in common, memory that cannot be registered.
    package init(
        _ request: Request, in world: SymmetricMemory, generation: WorldGeneration,
        onTick: @escaping @Sendable () -> Void
    ) async throws(MoriError) {
        let fabric = FabricRequest(
            device: world.device, address: request.memory.addresses[world.rank],
            byteCount: request.memory.byteCount, mappedAddresses: request.memory.addresses,
            peers: request.peers, queuesPerPeer: request.queuesPerPeer, purpose: request.purpose)
        link = try await world.networking.connect(
            fabric, over: generation.bootstrap, timeout: world.bootstrapTimeout)
        proxy = try world.networking.proxy(on: world.device)
        channel = try ProxyChannel(
            link: link, rank: world.rank, worldSize: world.worldSize, peers: request.peers,
            queuesPerPeer: request.queuesPerPeer, memory: request.rings,
            segmentByteCount: request.memory.byteCount,
            settings: try Networking.proxySettings(world.device), onTick: onTick
        ) { [weak world, weak generation] error, culprit in
            guard let generation else { return }
            world?.failEverywhere(error, culprit: culprit, in: generation)
        }
        doorbellAddress = proxy.doorbellAddress
        wordsWake = link.wakesReaders
        keeping = [request.memory, request.ringOwner]
        try proxy.attach(channel)
    }

    deinit {
        guard !isClosed.withLock({ $0 }) else { return }
        // Dropped without close: the proxy lets go of it before its memory goes.
        Task.detached { [proxy, channel, link, keeping] in
            await proxy.detach(channel, within: .seconds(1))
            link.close()
            _ = keeping
        }
    }

    /// What this rank asked of the network so far; exact while `isDrained`.
    package func statistics() -> NetworkStatistics { channel.statistics() }

    /// Begins to look for the largest phase anew.
    package func resetPhases() { channel.resetPhases() }

    /// What the proxy does for it, for whoever takes a trace.
    package var trace: NetworkTrace { channel.trace }

    /// Whether everything that kernels pushed is complete.
    package var isDrained: Bool { channel.isDrained }

    /// Ends the service at once, and the queues with it: nothing that is under way counts any more.
    package func cut() async {
        let wasClosed = isClosed.withLock { isClosed in
            defer { isClosed = true }
            return isClosed
        }
        guard !wasClosed else { return }
        await proxy.detach(channel, within: .zero)
        link.close()
    }

    /// Ends the service, then the queues once all ranks have done the same: before, a peer may still
    /// await the completion of what it wrote here.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - deadline: Of what is still under way.
    ///   - meet: Waits for every rank.
    /// - Throws: what `meet` throws; it is closed all the same.
    package func close(
        within deadline: Duration, meet: () async throws(MoriError) -> Void
    ) async throws(MoriError) {
        let wasClosed = isClosed.withLock { isClosed in
            defer { isClosed = true }
            return isClosed
        }
        guard !wasClosed else { return }
        await proxy.detach(channel, within: deadline)
        let met = await outcome(meet)
        link.close()
        try met.get()
    }
}

extension SymmetricMemory {
    /// Ends the rounds of this rank and, over the bootstrap, of all others: what the kernels of
    /// another host cannot be told by memory.
    package func failEverywhere(
        _ error: MoriError, culprit: Int?, in generation: WorldGeneration
    ) {
        fail(error, culprit: culprit, in: generation)
        generation.bootstrap.abort(culprit: culprit, message: error.message)
    }
}

package import MoriDevice

/// Which fabric moves bytes between ranks: MORI_EP_FABRIC.
package enum FabricSelection: String, CaseIterable, Hashable, Sendable {
    /// Loopback where every rank reaches every peer's memory from the host, else verbs.
    case auto
    /// RDMA NICs.
    case verbs
    /// The host's memory.
    case loopback

    /// Chooses for an operator.
    ///
    /// Collective: the ranks must come to the same, so one that cannot map a peer decides for all.
    ///
    /// - Parameters:
    ///   - request: What this rank will ask of the fabric.
    ///   - settings: What the environment says about RDMA.
    ///   - bootstrap: How the ranks meet.
    ///   - timeout: How long to wait for the other ranks.
    ///   - loopback: Makes the fabric of one host.
    /// - Returns: The fabric, not yet connected.
    /// - Throws: `ranksDisagree` when MORI_EP_FABRIC differs; `unsupported` when the package was
    ///   built without RDMA and needs it, or when loopback is asked for and a rank cannot map a
    ///   peer; what the bootstrap throws.
    package func choose(
        for request: FabricRequest, _ settings: RDMASettings, over bootstrap: any Bootstrap,
        timeout: Duration, loopback: () -> any Fabric
    ) async throws(MoriError) -> any Fabric {
        let isHostMemory = try request.device.properties().memoryIsHostMemory
        let unmapped = request.peers.first {
            !request.mappedAddresses.indices.contains($0) || request.mappedAddresses[$0] == 0
        }
        let report = Report(wish: self, isHostMemory: isHostMemory, unmappedPeer: unmapped)
        let answers = try await bootstrap.allGather(
            "fabric selection", Array(report.text.utf8), timeout: timeout)
        let ranks = bootstrap.members
        let reports = ranks.map { Report(String(decoding: answers[$0], as: UTF8.self)) }
        return switch try Self.conclude(reports, of: ranks, for: request.purpose) {
        case .loopback: loopback()
        default: try Self.verbs(settings, for: request.purpose)
        }
    }

    /// What one rank tells the others.
    package struct Report: Hashable, Sendable {
        /// What MORI_EP_FABRIC says there.
        package var wish: FabricSelection
        /// Whether its host may read and write its device's memory.
        package var isHostMemory: Bool
        /// The first peer whose memory it cannot map.
        package var unmappedPeer: Int?

        /// Takes what this rank knows.
        package init(wish: FabricSelection, isHostMemory: Bool, unmappedPeer: Int?) {
            self.wish = wish
            self.isHostMemory = isHostMemory
            self.unmappedPeer = unmappedPeer
        }

        /// Reads what another rank sent; nil when it is malformed.
        init?(_ text: String) {
            let parts = text.split(separator: " ")
            guard parts.count == 3, let wish = FabricSelection(rawValue: String(parts[0])),
                let peer = Int(parts[2])
            else { return nil }
            self.init(
                wish: wish, isHostMemory: parts[1] == "1", unmappedPeer: peer < 0 ? nil : peer)
        }

        /// The report as the bootstrap carries it.
        var text: String { "\(wish.rawValue) \(isHostMemory ? 1 : 0) \(unmappedPeer ?? -1)" }
    }

    /// What follows from all reports; the same on every rank.
    ///
    /// - Parameters:
    ///   - reports: One of each rank that takes part.
    ///   - ranks: Whose they are; nil: of ranks 0, 1 and so on.
    ///   - purpose: What for, in words, for the errors.
    /// - Returns: `verbs` or `loopback`.
    /// - Throws: `ranksDisagree`, or why there is no fabric that all ranks can use.
    package static func conclude(
        _ reports: [Report?], of ranks: [Int]? = nil, for purpose: String
    ) throws(MoriError) -> FabricSelection {
        let ranks = ranks ?? Array(reports.indices)
        var known: [Report] = []
        for (rank, report) in zip(ranks, reports) {
            guard let report else {
                throw MoriError(
                    .ranksDisagree,
                    "\(purpose): rank \(rank) does not say which fabric it wants; do all ranks run"
                        + " the same version of MoriEP?", ranks: [rank])
            }
            known.append(report)
        }
        guard let wish = known.first?.wish else { return .loopback }
        if let place = known.firstIndex(where: { $0.wish != wish }) {
            throw MoriError(
                .ranksDisagree,
                "\(purpose): MORI_EP_FABRIC is \(wish.rawValue) on rank \(ranks[0]) and"
                    + " \(known[place].wish.rawValue) on rank \(ranks[place]); all ranks must have"
                    + " the same", ranks: [ranks[0], ranks[place]])
        }
        let apart = known.firstIndex { $0.unmappedPeer != nil }
        let onDevice = known.firstIndex { !$0.isHostMemory }
        switch wish {
        case .verbs: return .verbs
        case .auto: return apart == nil && onDevice == nil ? .loopback : .verbs
        case .loopback:
            if let place = apart, let peer = known[place].unmappedPeer {
                let rank = ranks[place]
                throw MoriError(
                    .unsupported,
                    "\(purpose): MORI_EP_FABRIC is loopback, and rank \(rank) cannot map the memory"
                        + " of rank \(peer), which is on another host; set it to auto or verbs",
                    ranks: [rank, peer].sorted())
            }
            if let rank = onDevice.map({ ranks[$0] }) {
                throw MoriError(
                    .unsupported,
                    "\(purpose): MORI_EP_FABRIC is loopback, and the host cannot write into the"
                        + " device memory of rank \(rank); set it to auto or verbs", ranks: [rank])
            }
            return .loopback
        }
    }

    /// The fabric over RDMA NICs.
    ///
    /// - Throws: `unsupported` when the package was built without it.
    package static func verbs(
        _ settings: RDMASettings, for purpose: String
    ) throws(MoriError) -> any Fabric {
        #if RDMA
        return VerbsFabric(settings)
        #else
        throw MoriError(
            .unsupported,
            "\(purpose) needs RDMA between its ranks, and \(RDMAHost.builtWithout)")
        #endif
    }
}

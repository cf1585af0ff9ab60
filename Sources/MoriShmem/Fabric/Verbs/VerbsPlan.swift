package import MoriDevice

/// What the ranks conclude from all surveys: the same on every rank, because it is computed from the
/// same bytes.
package struct VerbsPlan: Hashable, Sendable {
    /// How peers reach each other, the same for all.
    package var transport: RDMATransport
    /// The ports that each rank uses, by rank; none for ranks without peers.
    ///
    /// Queue k to any peer goes through port k modulo their number.
    package var ports: [[String]]

    /// Concludes.
    ///
    /// - Parameters:
    ///   - surveys: What each rank said, by rank.
    ///   - purpose: What for, in words, for the errors.
    /// - Returns: The plan; nil when no rank has peers.
    /// - Throws: The problem of the first rank that has one; `ranksDisagree` naming both settings;
    ///   `unsupported` naming the ranks without a common fabric, their NICs and why each was
    ///   rejected. The same on every rank.
    package static func make(
        from surveys: [VerbsSurvey], for purpose: String
    ) throws(MoriError) -> VerbsPlan? {
        for (rank, survey) in surveys.enumerated() {
            if let problem = survey.problem { throw problem.error(of: rank, purpose) }
        }
        try checkAgreement(surveys, purpose)
        let members = surveys.indices.filter { !surveys[$0].peers.isEmpty }
        guard !members.isEmpty else { return nil }
        // One way for all, so that two ranks never choose differently for the same pair.
        let common = RDMATransport.allCases.first { transport in
            members.allSatisfy { rank in
                surveys[rank].ports.contains { $0.transports.contains(transport) }
            }
        }
        guard let common else { throw noCommonFabric(surveys, members, purpose) }
        let groups = surveys.map { $0.peers.isEmpty ? [] : sorted($0, common) }
        return VerbsPlan(
            transport: common, ports: surveys.indices.map { ports(of: $0, surveys, groups) })
    }

    /// The names of a rank's usable ports, the equally near ones together, nearest first.
    private static func sorted(
        _ survey: VerbsSurvey, _ transport: RDMATransport
    ) -> [[String]] {
        let usable = survey.ports.filter { $0.transports.contains(transport) }
        return Dictionary(grouping: usable, by: \.group)
            .sorted { $0.key < $1.key }
            .map { $0.value.map(\.name) }
    }

    /// The ports of a rank.
    ///
    /// The nearest first; among equally near ones the ranks of a host that have the same start at
    /// different ones, so that they share the load. Farther ones only where MORI_RDMA_DEVICES names
    /// several.
    private static func ports(
        of rank: Int, _ surveys: [VerbsSurvey], _ groups: [[[String]]]
    ) -> [String] {
        let own = surveys[rank]
        guard let nearest = groups[rank].first else { return [] }
        // The ranks of this host that would take the same port first, and come before this one.
        let turn = (0..<rank).count {
            surveys[$0].host == own.host && groups[$0].first == nearest
        }
        let rotated = groups[rank].map { group in
            group.indices.map { group[($0 + turn) % group.count] }
        }
        let candidates = own.namesSeveral ? Array(rotated.joined()) : rotated[0]
        return Array(candidates.prefix(own.queuesPerPeer))
    }

    private static func checkAgreement(
        _ surveys: [VerbsSurvey], _ purpose: String
    ) throws(MoriError) {
        // Against rank 0's, so that every rank throws the same.
        for (rank, survey) in surveys.enumerated() {
            for (own, others) in zip(surveys[0].settings, survey.settings) where own != others {
                throw MoriError(
                    .ranksDisagree,
                    "\(purpose): rank 0 has \(own.name) \(own.value), rank \(rank)"
                        + " \(others.name) \(others.value); all ranks must have the same",
                    ranks: [0, rank])
            }
        }
        let peers = surveys.map { Set($0.peers) }
        for (rank, survey) in surveys.enumerated() {
            for peer in survey.peers
            where !surveys.indices.contains(peer) || peer == rank || !peers[peer].contains(rank) {
                throw MoriError(
                    .ranksDisagree,
                    "\(purpose): rank \(rank) exchanges writes with rank \(peer), which does not"
                        + " with rank \(rank); both must name each other",
                    ranks: [rank, peer].sorted())
            }
        }
    }

    private static func noCommonFabric(
        _ surveys: [VerbsSurvey], _ members: [Int], _ purpose: String
    ) -> MoriError {
        // Ranks with the same sight are named together: a host's ranks mostly have one.
        var sights: [(text: String, ranks: [Int])] = []
        for rank in members {
            let text = sight(of: surveys[rank])
            if let index = sights.firstIndex(where: { $0.text == text }) {
                sights[index].ranks.append(rank)
            } else {
                sights.append((text, [rank]))
            }
        }
        let blind = members.filter { surveys[$0].ports.isEmpty }
        let seen = sights.map { "\(rankList($0.ranks)) \($0.text)" }.joined(separator: "; ")
        return MoriError(
            .unsupported,
            "\(purpose): \(rankList(members)) cannot map all of each other's memory and have no"
                + " RDMA fabric in common: \(seen). Every one needs an active NIC port"
                + (blind.isEmpty ? " of the same kind" : "")
                + ": bring the ports up, name others in MORI_RDMA_DEVICES, or leave"
                + " MORI_IB_GID_INDEX unset; ranks of one host can do without NICs with"
                + " MORI_EP_FABRIC=loopback",
            ranks: blind.isEmpty ? members : blind)
    }

    private static func sight(of survey: VerbsSurvey) -> String {
        let usable = survey.ports.map { port in
            "\(port.name) (\(port.transports.map(\.description).joined(separator: ", ")))"
        }
        var text = "on \(survey.hostName)"
        text += usable.isEmpty ? " can use no NIC" : " can use \(usable.joined(separator: ", "))"
        if !survey.rejected.isEmpty {
            text += ", rejected \(survey.rejected.joined(separator: ", "))"
        }
        return text
    }
}

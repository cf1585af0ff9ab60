import MoriDevice
import Testing

@testable import MoriShmem

struct VerbsPlanTests {
    /// A rank of a host whose NICs are given by group, all equally able.
    private func survey(
        host: String, peers: [Int], nics: [[String]], queues: Int = 1, namesSeveral: Bool = false,
        transports: [RDMATransport] = [.roceV2OverIPv4], rejected: [String] = []
    ) -> VerbsSurvey {
        var survey = VerbsSurvey()
        survey.host = Array(host.utf8)
        survey.hostName = host
        survey.peers = peers
        survey.queuesPerPeer = queues
        survey.namesSeveral = namesSeveral
        survey.rejected = rejected
        survey.settings = [.init(name: "MORI_RDMA_SL", value: "0")]
        for (group, names) in nics.enumerated() {
            survey.ports += names.map { .init(name: $0, group: group, transports: transports) }
        }
        return survey
    }

    private func plan(_ surveys: [VerbsSurvey]) throws -> VerbsPlan? {
        // As the other ranks get them.
        try VerbsPlan.make(
            from: surveys.map { try #require(VerbsSurvey($0.bytes)) }, for: "an operator")
    }

    private func refusal(_ surveys: [VerbsSurvey]) throws -> MoriError {
        try #require(throws: MoriError.self) { try plan(surveys) }
    }

    /// Two hosts of two ranks that exchange writes with the ranks of the other host.
    private func twoHosts(
        nics: [[String]], queues: Int = 1, namesSeveral: Bool = false
    ) -> [VerbsSurvey] {
        (0..<4).map { rank in
            survey(
                host: rank < 2 ? "a" : "b", peers: rank < 2 ? [2, 3] : [0, 1], nics: nics,
                queues: queues, namesSeveral: namesSeveral)
        }
    }

    // -------------------------------------------------------------------------------------------
    // Choice

    @Test func aRankTakesTheNearestNIC() throws {
        let plan = try #require(try plan(twoHosts(nics: [["mlx5_1:1"], ["mlx5_0:1"]], queues: 2)))
        #expect(plan.transport == .roceV2OverIPv4)
        #expect(plan.ports == [["mlx5_1:1"], ["mlx5_1:1"], ["mlx5_1:1"], ["mlx5_1:1"]])
    }

    @Test func theRanksOfAHostAreSpreadOverEquallyNearNICs() throws {
        let plan = try #require(try plan(twoHosts(nics: [["mlx5_0:1", "mlx5_1:1"]])))
        #expect(plan.ports == [["mlx5_0:1"], ["mlx5_1:1"], ["mlx5_0:1"], ["mlx5_1:1"]])
    }

    @Test func ranksThatAreNearOtherNICsDoNotCount() throws {
        // Ranks 0 and 2 of the host sit at one socket, 1 and 3 at the other.
        let near = [["mlx5_0:1", "mlx5_1:1"], ["mlx5_2:1", "mlx5_3:1"]]
        var surveys = (0..<4).map { rank in
            survey(
                host: "a", peers: [4], nics: rank.isMultiple(of: 2) ? near : near.reversed())
        }
        surveys.append(survey(host: "b", peers: [0, 1, 2, 3], nics: [["mlx5_0:1"]]))
        let plan = try #require(try plan(surveys))
        #expect(
            plan.ports == [["mlx5_0:1"], ["mlx5_2:1"], ["mlx5_1:1"], ["mlx5_3:1"], ["mlx5_0:1"]])
    }

    @Test func severalQueuesAreDealtOverEquallyNearNICs() throws {
        let plan = try #require(
            try plan(twoHosts(nics: [["mlx5_0:1", "mlx5_1:1"], ["mlx5_2:1"]], queues: 3)))
        #expect(plan.ports[0] == ["mlx5_0:1", "mlx5_1:1"])
        #expect(plan.ports[1] == ["mlx5_1:1", "mlx5_0:1"])
    }

    @Test func namedNICsAreUsedEvenWhenFarther() throws {
        let plan = try #require(
            try plan(
                twoHosts(nics: [["mlx5_0:1"], ["mlx5_1:1"]], queues: 3, namesSeveral: true)))
        #expect(plan.ports[0] == ["mlx5_0:1", "mlx5_1:1"])
    }

    @Test func ranksWithoutPeersNeedNoNIC() throws {
        #expect(try plan([survey(host: "a", peers: [], nics: [])]) == nil)
        let plan = try #require(
            try plan([
                survey(host: "a", peers: [], nics: []),
                survey(host: "a", peers: [2], nics: [["mlx5_0:1"]]),
                survey(host: "b", peers: [1], nics: [["mlx5_0:1"]]),
            ]))
        #expect(plan.ports == [[], ["mlx5_0:1"], ["mlx5_0:1"]])
    }

    @Test func theWayThatAllHaveIsTaken() throws {
        let plan = try #require(
            try plan([
                survey(
                    host: "a", peers: [1], nics: [["mlx5_0:1"]],
                    transports: [.roceV2OverIPv4, .roceV2OverLinkLocal, .roceV1]),
                survey(
                    host: "b", peers: [0], nics: [["bnxt_0:1"]],
                    transports: [.roceV2OverIPv6, .roceV2OverLinkLocal, .roceV1]),
            ]))
        #expect(plan.transport == .roceV2OverLinkLocal)
    }

    // -------------------------------------------------------------------------------------------
    // Refusals

    @Test func withoutACommonFabricTheErrorNamesRanksNICsAndReasons() throws {
        var surveys = twoHosts(nics: [["mlx5_0:1"]])
        for rank in 2..<4 {
            surveys[rank].ports = []
            surveys[rank].rejected = ["mlx5_0:1 (its state is PORT_DOWN)"]
        }
        let error = try refusal(surveys)
        #expect(error.code == .unsupported)
        #expect(error.ranks == [2, 3])
        #expect(
            error.message.hasPrefix(
                "an operator: ranks 0, 1, 2 and 3 cannot map all of each other's memory and have"
                    + " no RDMA fabric in common: ranks 0 and 1 on a can use mlx5_0:1 (RoCE v2 over"
                    + " IPv4); ranks 2 and 3 on b can use no NIC, rejected mlx5_0:1 (its state is"
                    + " PORT_DOWN). Every one needs an active NIC port: bring the ports up"))
    }

    @Test func portsOfDifferentKindsAreNoCommonFabric() throws {
        let error = try refusal([
            survey(host: "a", peers: [1], nics: [["mlx5_0:1"]], transports: [.infiniBand]),
            survey(host: "b", peers: [0], nics: [["mlx5_0:1"]], transports: [.roceV2OverIPv4]),
        ])
        #expect(error.code == .unsupported)
        #expect(error.ranks == [0, 1])
        #expect(error.message.contains("rank 0 on a can use mlx5_0:1 (InfiniBand)"))
        #expect(error.message.contains("an active NIC port of the same kind"))
    }

    @Test func theFirstRanksProblemIsEveryRanksError() throws {
        var surveys = twoHosts(nics: [["mlx5_0:1"]])
        surveys[3].problem = VerbsProblem(MoriError(.outOfMemory, "later"))
        surveys[1].problem = VerbsProblem(
            MoriError(.invalidConfiguration, "MORI_RDMA_DEVICES names mlx5_9"))
        let error = try refusal(surveys)
        #expect(error.code == .invalidConfiguration)
        #expect(error.ranks == [1])
        #expect(error.message == "an operator: rank 1: MORI_RDMA_DEVICES names mlx5_9")
    }

    @Test func otherSettingsAreRefusedWithBothValues() throws {
        var surveys = twoHosts(nics: [["mlx5_0:1"]])
        surveys[2].settings = [.init(name: "MORI_RDMA_SL", value: "3")]
        let error = try refusal(surveys)
        #expect(error.code == .ranksDisagree)
        #expect(error.ranks == [0, 2])
        #expect(
            error.message == "an operator: rank 0 has MORI_RDMA_SL 0, rank 2 MORI_RDMA_SL 3; all"
                + " ranks must have the same")
    }

    @Test func peersMustNameEachOther() throws {
        var surveys = twoHosts(nics: [["mlx5_0:1"]])
        surveys[3].peers = [0]
        let error = try refusal(surveys)
        #expect(error.code == .ranksDisagree)
        #expect(error.ranks == [1, 3])
    }

    // -------------------------------------------------------------------------------------------
    // Messages

    @Test func whatIsNoMessageIsRefused() {
        let bytes = survey(host: "a", peers: [1], nics: [["mlx5_0:1"]]).bytes
        for count in 0..<bytes.count {
            #expect(VerbsSurvey(Array(bytes.prefix(count))) == nil)
        }
        #expect(VerbsEndpoints([1, 2, 3]) == nil)
        #expect(VerbsOutcome([]) == nil)
    }

    @Test func endpointsArriveAsSent() throws {
        var endpoints = VerbsEndpoints()
        endpoints.address = 0x7f00_1234_5000
        endpoints.secret = .max
        endpoints.peers = [1, 2]
        endpoints.ports = [
            .init(
                gid: Array(0..<16), localIdentifier: 7, mtu: 4096, remoteKey: 0xdead_beef,
                address: [10, 0, 0, 5], service: 4711)
        ]
        endpoints.queues = [
            .init(number: 17, firstPacket: 0xff_ffff), .init(number: 18, firstPacket: 0),
        ]
        #expect(VerbsEndpoints(endpoints.bytes) == endpoints)
        endpoints.problem = VerbsProblem(MoriError(.outOfMemory, "no room"))
        #expect(VerbsEndpoints(endpoints.bytes) == endpoints)
        let outcome = VerbsOutcome(endpoints.problem)
        #expect(VerbsOutcome(outcome.bytes) == outcome)
    }
}

import MoriDevice
import Testing

@testable import MoriShmem

struct FabricSelectionTests {
    private func report(
        _ wish: FabricSelection = .auto, host: Bool = true, unmapped: Int? = nil
    ) -> FabricSelection.Report? {
        // As the other ranks get it.
        FabricSelection.Report(
            FabricSelection.Report(wish: wish, isHostMemory: host, unmappedPeer: unmapped).text)
    }

    private func conclude(_ reports: [FabricSelection.Report?]) throws -> FabricSelection {
        try FabricSelection.conclude(reports, for: "an operator")
    }

    @Test func loopbackServesRanksThatMapEachOther() throws {
        #expect(try conclude([report(), report()]) == .loopback)
        #expect(try conclude([report(.loopback), report(.loopback)]) == .loopback)
    }

    @Test func oneUnmappedPeerOrDeviceMakesItVerbsForAll() throws {
        #expect(try conclude([report(), report(unmapped: 0)]) == .verbs)
        #expect(try conclude([report(), report(host: false)]) == .verbs)
        #expect(try conclude([report(.verbs), report(.verbs)]) == .verbs)
    }

    @Test func loopbackIsRefusedWhereItCannotWork() throws {
        let apart = try #require(throws: MoriError.self) {
            try conclude([report(.loopback), report(.loopback), report(.loopback, unmapped: 0)])
        }
        #expect(apart.code == .unsupported)
        #expect(apart.ranks == [0, 2])
        #expect(apart.message.contains("rank 2 cannot map the memory of rank 0"))
        let device = try #require(throws: MoriError.self) {
            try conclude([report(.loopback), report(.loopback, host: false)])
        }
        #expect(device.code == .unsupported)
        #expect(device.ranks == [1])
    }

    @Test func ranksMustWantTheSame() throws {
        let error = try #require(throws: MoriError.self) {
            try conclude([report(), report(), report(.verbs)])
        }
        #expect(error.code == .ranksDisagree)
        #expect(error.ranks == [0, 2])
        #expect(error.message.contains("MORI_EP_FABRIC is auto on rank 0 and verbs on rank 2"))
        let stranger = try #require(throws: MoriError.self) { try conclude([report(), nil]) }
        #expect(stranger.code == .ranksDisagree)
        #expect(stranger.ranks == [1])
    }
}

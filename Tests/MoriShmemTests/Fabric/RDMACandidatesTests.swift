import Testing

@testable import MoriShmem

struct RDMACandidatesTests {
    private func gid(
        _ index: Int, _ kind: RDMAGID.Kind, _ address: String
    ) throws -> RDMAGID {
        let parsed = try #require(IPAddress(address))
        let bytes =
            parsed.bytes.count == 16
            ? parsed.bytes : [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + parsed.bytes
        return RDMAGID(index: index, bytes: bytes, kind: kind)
    }

    /// What a RoCE port of one interface with IPv4, global and link-local IPv6 has.
    private func table() throws -> [RDMAGID] {
        [
            try gid(0, .roceV1, "fe80::1"), try gid(1, .roceV2, "fe80::1"),
            try gid(2, .roceV1, "10.0.0.5"), try gid(3, .roceV2, "10.0.0.5"),
            try gid(4, .roceV1, "fd00::5"), try gid(5, .roceV2, "fd00::5"),
        ]
    }

    private func candidates(
        _ nics: [RDMANIC], list: String? = nil, gidIndex: Int? = nil,
        near location: HostLocation = HostLocation()
    ) throws -> RDMACandidates {
        let parsed = try list.map { try #require(RDMADeviceList($0)) }
        return RDMACandidates(
            of: nics, list: parsed ?? .all, gidIndex: gidIndex, near: location)
    }

    // -------------------------------------------------------------------------------------------
    // GIDs

    @Test func theBestAddressIsRoCEv2OverIPv4ThenIPv6ThenLinkLocalThenV1() throws {
        let nic = RDMANIC(name: "mlx5_0", ports: [RDMAPort(gids: try table())])
        let found = try #require(try candidates([nic]).usable.first)
        #expect(
            found.transports
                == [.roceV2OverIPv4, .roceV2OverIPv6, .roceV2OverLinkLocal, .roceV1])
        #expect(found.gids.map(\.index) == [3, 5, 1, 0])
    }

    @Test func ofTwoAddressesOfAKindTheFirstIsTaken() throws {
        let port = RDMAPort(gids: [
            try gid(9, .roceV2, "10.0.0.9"), try gid(4, .roceV2, "10.0.0.4"),
        ])
        let found = try candidates([RDMANIC(name: "mlx5_0", ports: [port])])
        #expect(found.usable.first?.gids.map(\.index) == [4])
    }

    @Test func theVariableChoosesAnEntryEvenAWorseOne() throws {
        let nic = RDMANIC(name: "mlx5_0", ports: [RDMAPort(gids: try table())])
        let found = try candidates([nic], gidIndex: 1)
        #expect(found.usable.first?.transports == [.roceV2OverLinkLocal])
        let missing = try candidates([nic], gidIndex: 8)
        #expect(missing.usable.isEmpty)
        #expect(
            missing.rejected == [
                "mlx5_0:1 (MORI_IB_GID_INDEX is 8, and the entries in use are 0, 1, 2, 3, 4, 5)"
            ])
    }

    @Test func anInfiniBandPortIsReachedByItsLID() throws {
        let port = RDMAPort(
            linkLayer: .infiniBand, localIdentifier: 7,
            gids: [try gid(0, .infiniBand, "fe80::2:c903:0:1")])
        let found = try candidates([RDMANIC(name: "mlx5_0", ports: [port])])
        #expect(found.usable.first?.transports == [.infiniBand])
    }

    // -------------------------------------------------------------------------------------------
    // Which ports

    @Test func portsThatCannotBeUsedSayWhy() throws {
        let gids = try table()
        let found = try candidates(
            [
                RDMANIC(
                    name: "mlx5_0",
                    ports: [RDMAPort(state: "PORT_DOWN", isActive: false, gids: gids)]),
                RDMANIC(name: "mlx5_1", ports: [RDMAPort(gids: [])]),
                RDMANIC(name: "mlx5_2", ports: [RDMAPort(gids: gids)]),
                RDMANIC(name: "mlx5_3", problem: "ibv_open_device: Permission denied (errno 13)"),
                RDMANIC(name: "mlx5_4", ports: [RDMAPort(gids: gids)]),
            ], list: "^mlx5_2")
        #expect(found.usable.map(\.name) == ["mlx5_4:1"])
        #expect(
            found.rejected == [
                "mlx5_0:1 (its state is PORT_DOWN)",
                "mlx5_1:1 (its GID table is empty; has its interface an address?)",
                "mlx5_2:1 (not wanted by MORI_RDMA_DEVICES)",
                "mlx5_3 (ibv_open_device: Permission denied (errno 13))",
            ])
    }

    private func nic(
        _ name: String, node: Int?, _ path: String = ""
    ) throws -> RDMANIC {
        RDMANIC(
            name: name,
            location: HostLocation(
                numaNode: node, pciPath: path.split(separator: "/").map(String.init)),
            ports: [RDMAPort(gids: try table())])
    }

    private func groups(_ found: RDMACandidates) -> [[String]] {
        Dictionary(grouping: found.usable, by: \.group).sorted { $0.key < $1.key }
            .map { $0.value.map(\.nic) }
    }

    @Test func theHostsThreadIsNearTheNICsOfItsNUMANode() throws {
        let nics = [
            try nic("mlx5_0", node: 1), try nic("mlx5_1", node: 0), try nic("mlx5_2", node: nil),
            try nic("mlx5_3", node: 1),
        ]
        let found = try candidates(nics, near: HostLocation(numaNode: 1))
        #expect(groups(found) == [["mlx5_0", "mlx5_3"], ["mlx5_2"], ["mlx5_1"]])
    }

    @Test func aGPUIsNearTheNICBehindItsSwitch() throws {
        let nics = [
            try nic("mlx5_0", node: 0, "pci0000:00/0000:00:01.0/0000:01:00.0"),
            try nic("mlx5_1", node: 0, "pci0000:20/0000:20:01.0/0000:21:00.0/0000:22:00.0"),
            try nic("mlx5_2", node: 1, "pci0000:80/0000:80:01.0/0000:81:00.0"),
        ]
        let gpu = HostLocation(
            numaNode: 0,
            pciPath: ["pci0000:20", "0000:20:01.0", "0000:21:00.0", "0000:23:00.0"])
        #expect(
            groups(try candidates(nics, near: gpu)) == [["mlx5_1"], ["mlx5_0"], ["mlx5_2"]])
    }

    @Test func equallyNearNICsComeAsListedElseByName() throws {
        let nics = [
            try nic("mlx5_10", node: 0), try nic("mlx5_2", node: 0), try nic("mlx5_1", node: 0),
        ]
        #expect(groups(try candidates(nics)) == [["mlx5_1", "mlx5_2", "mlx5_10"]])
        #expect(
            groups(try candidates(nics, list: "mlx5_2,mlx5_10,mlx5_1"))
                == [["mlx5_2", "mlx5_10", "mlx5_1"]])
    }

    @Test func whatIsNotKnownMakesNoNICNearer() {
        let unknown = HostLocation()
        let virtual = HostLocation(numaNode: 0)
        #expect(unknown.distance(to: virtual) == unknown.distance(to: unknown))
        #expect(virtual.distance(to: virtual) < virtual.distance(to: unknown))
        #expect(virtual.distance(to: unknown) < virtual.distance(to: HostLocation(numaNode: 1)))
    }
}

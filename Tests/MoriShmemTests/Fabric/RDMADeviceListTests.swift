import MoriDevice
import Testing

@testable import MoriShmem

struct RDMADeviceListTests {
    private let nics = [
        RDMANIC(name: "mlx5_0", ports: [RDMAPort(number: 1), RDMAPort(number: 2)]),
        RDMANIC(name: "mlx5_1", ports: [RDMAPort()]),
        RDMANIC(name: "mlx5_10", ports: [RDMAPort()]),
    ]

    private func wanted(_ text: String) throws -> [String] {
        let list = try #require(RDMADeviceList(text))
        try list.check(against: nics)
        return nics.flatMap { nic in
            nic.ports.compactMap { port in
                list.position(of: nic, port).map { _ in "\(nic.name):\(port.number)" }
            }
        }
    }

    @Test func theNamedNICsAreThoseToUse() throws {
        #expect(try wanted("mlx5_0,mlx5_1") == ["mlx5_0:1", "mlx5_0:2", "mlx5_1:1"])
        #expect(try wanted("mlx5_1") == ["mlx5_1:1"])
        #expect(try #require(RDMADeviceList("mlx5_0,mlx5_1")).namesSeveral)
        #expect(try !#require(RDMADeviceList("mlx5_0")).namesSeveral)
    }

    @Test func aCaretLeavesAllTheNamedOut() throws {
        #expect(try wanted("^mlx5_0,mlx5_1") == ["mlx5_10:1"])
        #expect(try wanted("^mlx5_0:2") == ["mlx5_0:1", "mlx5_1:1", "mlx5_10:1"])
        #expect(try !#require(RDMADeviceList("^mlx5_0,mlx5_1")).namesSeveral)
    }

    @Test func aPortMayBeNamed() throws {
        #expect(try wanted("mlx5_0:2,mlx5_10:1") == ["mlx5_0:2", "mlx5_10:1"])
    }

    @Test func aNameIsTheWholeName() throws {
        #expect(try wanted("mlx5_1") == ["mlx5_1:1"])
    }

    @Test func anUnknownNameIsRefusedWithTheNICsThatThereAre() throws {
        for text in ["mlx5_9", "mlx5_0,mlx5_9", "^mlx5_9"] {
            let error = try #require(throws: MoriError.self) { try wanted(text) }
            #expect(error.code == .invalidConfiguration)
            #expect(
                error.message
                    == "MORI_RDMA_DEVICES names mlx5_9, which this host does not have; it has"
                    + " mlx5_0:1, mlx5_0:2, mlx5_1:1, mlx5_10:1")
        }
        let port = try #require(throws: MoriError.self) { try wanted("mlx5_1:2") }
        #expect(port.message.contains("names mlx5_1:2"))
        let none = try #require(throws: MoriError.self) {
            try #require(RDMADeviceList("mlx5_0")).check(against: [])
        }
        #expect(none.message.hasSuffix("it has no RDMA NIC"))
    }

    @Test(arguments: ["", "^", ",", "mlx5_0,", "a b", "mlx5_0:", "mlx5_0:0", "mlx5_0:256", "a:1:2"])
    func whatIsNoListIsRefused(_ text: String) {
        #expect(RDMADeviceList(text) == nil)
    }

    @Test func theVariablesAreRead() throws {
        let none = try MoriEnvironment([:])
        #expect(none.fabric == .auto)
        #expect(none.rdma == RDMASettings())
        let set = try MoriEnvironment([
            "MORI_EP_FABRIC": "verbs", "MORI_RDMA_DEVICES": "^mlx5_2", "MORI_IB_GID_INDEX": "3",
            "MORI_RDMA_SL": "3", "MORI_RDMA_TC": "96", "MORI_RDMA_CM": "1",
        ])
        #expect(set.fabric == .verbs)
        #expect(set.rdma.devices == RDMADeviceList("^mlx5_2"))
        #expect(set.rdma.gidIndex == 3)
        #expect(set.rdma.serviceLevel == 3)
        #expect(set.rdma.trafficClass == 96)
        #expect(set.rdma.usesConnectionManager)
    }

    @Test(arguments: [
        ("MORI_EP_FABRIC", "ib", "auto, verbs, loopback"), ("MORI_RDMA_DEVICES", "a,,b", "mlx5_0"),
        ("MORI_IB_GID_INDEX", "-1", "0 to 255"), ("MORI_RDMA_SL", "16", "0 to 15"),
        ("MORI_RDMA_TC", "256", "0 to 255"), ("MORI_RDMA_CM", "yes", "0 or 1"),
    ])
    func anIllegalValueIsRefusedByName(_ name: String, _ value: String, _ legal: String) throws {
        let error = try #require(throws: MoriError.self) { try MoriEnvironment([name: value]) }
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.contains("\(name) is \"\(value)\""))
        #expect(error.message.contains(legal))
    }
}

import FoundationEssentials
import MoriDevice
import MoriTestSupport
import Synchronization
import Testing

@testable import MoriShmem

@Suite(.timeLimit(.minutes(5)))
struct BootstrapUniqueIDTests {
    @Test func anIDSurvivesBytesAndJSON() throws {
        let id = try UniqueID()
        #expect(id.bytes.count == UniqueID.byteCount)
        #expect(try UniqueID(bytes: id.bytes) == id)
        let json = try JSONEncoder().encode([id])
        #expect(try JSONDecoder().decode([UniqueID].self, from: json) == [id])
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([UniqueID].self, from: Data("[\"AAAA\"]".utf8))
        }
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([UniqueID].self, from: Data("[\"no base64!\"]".utf8))
        }
    }

    @Test func idsDifferAndDoNotShowTheirSecret() throws {
        let id = try UniqueID(address: .loopback)
        let other = try UniqueID(address: .loopback)
        #expect(id != other)
        #expect(id.port != other.port)
        #expect(id.secret != other.secret)
        #expect("\(id)" == "UniqueID(127.0.0.1, port \(id.port))")
        var dumped = ""
        dump(id, to: &dumped)
        #expect(!dumped.contains("secret"))
    }

    @Test func bytesThatAreNoIDAreRefused() throws {
        let good = try UniqueID(address: .loopback).bytes
        var bad: [[UInt8]] = [[], Array(good.dropLast()), good + [0]]
        bad.append(.init(repeating: 0, count: 128))
        // Version, family, port and padding.
        for (index, value) in [(0, 2), (3, 1), (5, 5), (127, 1)] as [(Int, UInt8)] {
            var bytes = good
            bytes[index] = value
            bad.append(bytes)
        }
        bad.append(Array(good[..<6]) + [0, 0] + Array(good[8...]))
        for bytes in bad {
            #expect { try UniqueID(bytes: bytes) } throws: { error in
                (error as? MoriError)?.code == .invalidArgument
            }
        }
    }

    @Test func ranksJoinByID() async throws {
        let id = try UniqueID()
        let world = try await join(id, size: 3).map { try $0.get() }
        let results = await together(3) { rank throws(MoriError) in
            try await world[rank].allGather("x", [UInt8(rank)], timeout: Patience.healthy)
        }
        for result in results { #expect(try result.get() == [[0], [1], [2]]) }
        await close(world)
    }

    @Test func anIDMayBeMadeForAnotherProcess() async throws {
        let id = try UniqueID(address: .loopback)
        // As if this process were not the one that made it, while that one keeps the port bound.
        let kept = BoundSocket.kept.withLock { $0.removeValue(forKey: id) }
        await close(try await join(id, size: 2).map { try $0.get() })
        #expect(kept?.port == id.port)
    }

    @Test func aWrongSecretIsRefusedAtOnce() async throws {
        let id = try UniqueID(address: .loopback)
        var bytes = id.bytes
        bytes[30] ^= 1
        let wrong = try UniqueID(bytes: bytes)
        async let rankZero = join(id, ranks: [0], size: 2)
        let results = await join(wrong, ranks: [1], size: 2, timeout: Patience.healthy)
        #expect(results[0].error?.code == .bootstrapFailed)
        #expect(results[0].error?.message.contains("its secret is not the world's") == true)
        // The world goes on waiting for the rightful rank.
        let rightful = await join(id, ranks: [1], size: 2)
        await close(try await (rankZero + rightful).map { try $0.get() })
    }

    @Test func anIDOfAnotherWorldIsRefusedAtOnce() async throws {
        let id = try UniqueID(address: .loopback)
        var bytes = id.bytes
        bytes[60] ^= 1
        let stale = try UniqueID(bytes: bytes)
        async let rankZero = join(id, ranks: [0], size: 2, timeout: Patience.healthy)
        let results = await join(stale, ranks: [1], size: 2, timeout: Patience.healthy)
        #expect(results[0].error?.code == .bootstrapFailed)
        #expect(results[0].error?.message.contains("of another world") == true)
        let rightful = await join(id, ranks: [1], size: 2)
        await close(try await (rankZero + rightful).map { try $0.get() })
    }

    @Test func anIDWithoutRankZeroEndsAtTheDeadline() async throws {
        let id = try UniqueID(address: .loopback)
        let results = await join(id, ranks: [1], size: 2, timeout: .milliseconds(500))
        #expect(results[0].error?.code == .bootstrapFailed)
        #expect(results[0].error?.ranks == [0])
    }

    @Test func twoRankZerosWithOneIDAreTold() async throws {
        let id = try UniqueID(address: .loopback)
        let results = await join(id, ranks: [0, 0], size: 2, timeout: Patience.healthy)
        for result in results {
            #expect(result.error?.code == .ranksDisagree)
            #expect(result.error?.message.contains("two processes claim rank 0") == true)
        }
    }

    @Test func theInterfaceIsChosenByName() throws {
        let mask = IPAddress("255.255.255.0")
        let address = { (text: String) in try #require(IPAddress(text)) }
        let interfaces = [
            NetworkInterface(name: "lo", address: .loopback, mask: mask),
            NetworkInterface(name: "eth0", address: try address("fd00::1"), mask: nil),
            NetworkInterface(name: "eth0", address: try address("10.0.0.1"), mask: mask),
            NetworkInterface(name: "eth1", address: try address("10.0.1.1"), mask: mask),
        ]
        #expect(try NetworkInterface.address(of: nil, among: interfaces) == address("10.0.0.1"))
        #expect(try NetworkInterface.address(of: "eth1", among: interfaces) == address("10.0.1.1"))
        #expect(try NetworkInterface.address(of: "lo", among: interfaces) == .loopback)
        #expect(try NetworkInterface.address(of: nil, among: []) == .loopback)
        #expect { try NetworkInterface.address(of: "ib0", among: interfaces) } throws: { error in
            (error as? MoriError)?.code == .invalidConfiguration
                && "\(error)".contains("\"ib0\"") && "\(error)".contains("eth0, eth1, lo")
        }
    }

    private func join(
        _ id: UniqueID, ranks: [Int]? = nil, size: Int, timeout: Duration = Patience.healthy
    ) async -> [Result<TCPBootstrap, MoriError>] {
        await MoriShmemTests.join(
            (ranks ?? Array(0..<size)).map {
                .init(rank: $0, worldSize: size, uniqueID: id, timeout: timeout)
            })
    }
}

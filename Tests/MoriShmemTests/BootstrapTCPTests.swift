import Foundation
import MoriDevice
import MoriTestSupport
import NIOCore
import NIOPosix
import Testing

@testable import MoriShmem

@Suite(.timeLimit(.minutes(5)))
struct BootstrapTCPTests {
    @Test func aRankThatNeverComesIsNamedOnEveryRankThatCame() async throws {
        try await withGrowingPatience { patience in
            let place = launcher()
            let errors = await join(
                [0, 1, 3].map { member($0, of: 5, at: place, timeout: patience) }
            ).map(\.error)
            return errors.allSatisfy { error in
                error?.code == .timedOut && error?.ranks == [2, 4]
                    && error?.message.contains("ranks 2 and 4 did not come before") == true
            }
        }
    }

    @Test func theLeastPatientRankEndsTheJoiningOfAll() async throws {
        try await withGrowingPatience { patience in
            let place = launcher()
            let errors = await join([
                member(0, of: 3, at: place, timeout: patience + .seconds(5)),
                member(1, of: 3, at: place, timeout: patience),
            ]).map(\.error)
            return errors.allSatisfy { error in
                error?.code == .timedOut && error?.ranks == [2]
                    && error?.message.contains("before the deadline of rank 1") == true
            }
        }
    }

    @Test func rankZeroThatNeverComesIsNamed() async throws {
        let results = await join([member(1, of: 2, at: launcher(), timeout: .milliseconds(500))])
        let error = try #require(results[0].error)
        #expect(error.code == .bootstrapFailed)
        #expect(error.ranks == [0])
        #expect(error.message.contains("nobody listens there"))
    }

    @Test(arguments: [0, 1])
    func aCancelledJoinEnds(_ rank: Int) async throws {
        let place = launcher()
        let task = Task { await join([member(rank, of: 2, at: place)])[0].error }
        try await Task.sleep(for: .milliseconds(300))
        task.cancel()
        #expect(await task.value?.code == .aborted)
    }

    @Test func ranksMayComeInAnyOrder() async throws {
        let place = launcher()
        let results = await together(3) { rank throws(MoriError) in
            try? await Task.sleep(for: .milliseconds([600, 0, 300][rank]))
            return try await TCPBootstrap.join(member(rank, of: 3, at: place), logger: quietLogger)
        }
        await close(try results.map { try $0.get() })
    }

    @Test func aPeerThatDiesIsReportedAndNamed() async throws {
        let world = try await tcpWorld(size: 4)
        let events = Events()
        for member in world { member.onEvent { [rank = member.rank] in events.add(rank, $0) } }
        async let waiting = together(2) { rank throws(MoriError) in
            try await world[rank].barrier("never", timeout: Patience.healthy)
        }
        try await Task.sleep(for: .milliseconds(50))
        await world[3].drop()
        for result in await waiting {
            let error = try #require(result.error)
            #expect(error.code == .peerLost)
            #expect(error.ranks == [3])
            #expect(error.message.contains("rank 3 was lost"))
        }
        for rank in 0..<3 {
            #expect(await events.wait(for: 1, of: rank) == [.peerLost(rank: 3)])
        }
        let later = await together(1) { _ throws(MoriError) in
            try await world[2].barrier("later", timeout: Patience.healthy)
        }
        #expect(later[0].error?.code == .peerLost)
        await close(Array(world[..<3]))
    }

    @Test func theDeathOfRankZeroIsReportedToo() async throws {
        let world = try await tcpWorld(size: 3)
        let events = Events()
        for member in world { member.onEvent { [rank = member.rank] in events.add(rank, $0) } }
        await world[0].drop()
        for rank in 1..<3 {
            #expect(await events.wait(for: 1, of: rank) == [.peerLost(rank: 0)])
            let result = await together(1) { _ throws(MoriError) in
                try await world[rank].barrier("later", timeout: Patience.healthy)
            }
            #expect(result[0].error?.code == .peerLost)
            #expect(result[0].error?.ranks == [0])
        }
        await close(Array(world[1...]))
    }

    @Test func rankZeroWaitsForTheOthersAtMostAsLongAsItIsTold() async throws {
        let world = try await tcpWorld(size: 2)
        let time = await ContinuousClock().measure { await world[0].close(timeout: .seconds(1)) }
        #expect(time > .milliseconds(900) && time < Patience.prompt)
        let result = await together(1) { _ throws(MoriError) in
            try await world[1].barrier("later", timeout: Patience.healthy)
        }
        #expect(result[0].error?.code == .peerLost)
        #expect(result[0].error?.ranks == [0])
        await world[1].close(timeout: .seconds(10))
    }

    @Test func aMemberThatIsDroppedSaysGoodbye() async throws {
        var world: [TCPBootstrap] = try await tcpWorld(size: 2)
        let events = Events()
        world[0].onEvent { events.add(0, $0) }
        world.removeLast()
        let result = await together(1) { [first = world[0]] _ throws(MoriError) in
            try await first.barrier("alone", timeout: Patience.healthy)
        }
        #expect(result[0].error?.message.contains("rank 1 left") == true)
        #expect(events.of(0).isEmpty)
        await close(world)
    }

    @Test func theLaunchersPortMayBeTaken() async throws {
        // As torchrun's agent does: it listens on the port and says nothing.
        let (place, agents) = try await launcher { place in
            try await [0, 1, 3].asyncMap { try await listen(place.port + $0) }
        }
        let world = try await tcpWorld(size: 3, at: place)
        let results = await together(3) { rank throws(MoriError) in
            try await world[rank].barrier("go", timeout: Patience.healthy)
        }
        #expect(results.allSatisfy { $0.error == nil })
        await close(world)
        for agent in agents { try await agent.close() }
    }

    @Test func noFreePortIsAnErrorThatSaysWhatToSet() async throws {
        var place = launcher(port: 65_534)
        let agents = try await [0, 1].asyncMap { try await listen(place.port + $0) }
        let results = await join([member(0, of: 2, at: place, timeout: Patience.healthy)])
        let error = try #require(results[0].error)
        #expect(error.code == .bootstrapFailed)
        #expect(error.message.contains("set MASTER_PORT"))
        #expect(error.cause == .errno(call: "bind", code: 98))
        for agent in agents { try await agent.close() }
        place.port = 65_535
        #expect(place.ports == [65_535])
    }

    @Test(arguments: ["secret", "job"])
    func worldsThatShareTheirPortsDoNotMix(_ difference: String) async throws {
        let first = launcher(secret: "one")
        var second = first
        if difference == "secret" {
            second.secret = Array("two".utf8)
        } else {
            second.job = "other"
        }
        let worlds = await together(2) { [second] index throws(MoriError) in
            let place = index == 0 ? first : second
            var members: [TCPBootstrap] = []
            for result in await join((0..<4).map { member($0, of: 4, at: place) }) {
                members.append(try result.get())
            }
            return members
        }
        for (index, world) in worlds.enumerated() {
            let members = try world.get()
            let gathered = await together(4) { rank throws(MoriError) in
                try await members[rank].allGather(
                    "world", [UInt8(index)], timeout: Patience.healthy)
            }
            for result in gathered {
                #expect(try result.get() == .init(repeating: [UInt8(index)], count: 4))
            }
        }
        for world in worlds { await close(try world.get()) }
    }

    @Test func severalHostsMeetAtTheMastersAddress() async throws {
        // Not local: the store listens on every address and looks at its peers'.
        var place = launcher(isLocal: false)
        place.address = "localhost"
        place.hosts = ["localhost", "no-such-host.invalid"]
        await close(try await tcpWorld(size: 2, at: place))
        place.hosts = nil
        await close(try await tcpWorld(size: 2, at: place))
        place.secret = Array("a long random text".utf8)
        await close(try await tcpWorld(size: 2, at: place))
    }

    @Test func theStoreListensOnTheChosenInterfaceOnly() async throws {
        var place = launcher(isLocal: false)
        place.secret = Array("a long random text".utf8)
        // The control: without a choice it listens everywhere.
        let everywhere = try await tcpWorld(size: 2, at: place)
        #expect(try listeners(at: place) == ["00000000"])
        await close(everywhere)
        place = launcher(isLocal: false, secret: "a long random text")
        place.interface = "lo"
        let chosen = try await tcpWorld(size: 2, at: place)
        #expect(try listeners(at: place) == ["0100007F"])
        await close(chosen)
        place.interface = "no-such-interface"
        let refused = await join([member(0, of: 1, at: place)])
        #expect(throws: MoriError.self) { try refused[0].get() }
        guard case .failure(let error) = refused[0] else { return }
        #expect(error.code == .invalidConfiguration && error.message.contains("there are: "))
    }

    /// The addresses, as the kernel writes them, on which somebody listens at the launcher's ports.
    private func listeners(at place: Launcher) throws -> Set<String> {
        // Not `String(contentsOfFile:)`, which takes the first piece that the kernel gives for all.
        let file = try #require(FileHandle(forReadingAtPath: "/proc/net/tcp"))
        let table = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
        var found: Set<String> = []
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ")
            let local = fields[1].split(separator: ":")
            // State 0A is LISTEN.
            guard fields[3] == "0A", let port = Int(local[1], radix: 16) else { continue }
            if (place.port..<place.port + 4).contains(port) { found.insert(String(local[0])) }
        }
        return found
    }

    @Test func twentyFourRanksJoin() async throws {
        let world = try await tcpWorld(size: 24)
        let results = await together(24) { rank throws(MoriError) in
            try await world[rank].allGather("ranks", [UInt8(rank)], timeout: Patience.healthy)
        }
        for result in results { #expect(try result.get() == (0..<24).map { [$0] }) }
        await close(world)
    }

    private func listen(_ port: Int) async throws -> any Channel {
        try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .bind(host: "127.0.0.1", port: port).get()
    }
}

extension Array {
    fileprivate func asyncMap<Result>(
        _ body: (Element) async throws -> Result
    ) async throws -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await body(element)) }
        return results
    }
}

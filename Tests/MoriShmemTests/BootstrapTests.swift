import MoriDevice
import MoriTestSupport
import Synchronization
import Testing

@testable import MoriShmem

/// What both kinds of bootstrap promise.
@Suite(.timeLimit(.minutes(5)))
struct BootstrapTests {
    enum Kind: CaseIterable, Sendable {
        case local
        case tcp

        func world(size: Int) async throws -> [any Bootstrap] {
            switch self {
            case .local: LocalBootstrap.world(size: size)
            case .tcp: try await tcpWorld(size: size)
            }
        }
    }

    @Test(arguments: Kind.allCases, [1, 2, 8])
    func allGatherGivesEveryRankEverybodysBytes(_ kind: Kind, _ size: Int) async throws {
        let world = try await kind.world(size: size)
        let expected = (0..<size).map { [UInt8](repeating: UInt8($0), count: $0 * 1000) }
        let results = await together(size) { rank throws(MoriError) in
            try await world[rank].allGather("values", expected[rank], timeout: Patience.healthy)
        }
        for result in results { #expect(try result.get() == expected) }
        await closeAll(world)
    }

    /// A rank may have its answer, and leave, while others do not have theirs yet.
    @Test(arguments: Kind.allCases)
    func ranksThatLeaveAtOnceTakeNobodysAnswer(_ kind: Kind) async throws {
        for _ in 0..<(kind == .local ? 500 : 5) {
            let world = try await kind.world(size: 4)
            let results = await together(4) { rank throws(MoriError) in
                let all = try await world[rank].allGather(
                    "values", [UInt8(rank)], timeout: Patience.healthy)
                await world[rank].close(timeout: Patience.healthy)
                return all
            }
            for result in results { #expect(try result.get() == [[0], [1], [2], [3]]) }
        }
    }

    @Test(arguments: Kind.allCases)
    func callsOfOneNameAreNumbered(_ kind: Kind) async throws {
        let world = try await kind.world(size: 3)
        let results = await together(3) { rank throws(MoriError) in
            var sums: [Int] = []
            for call in 0..<100 {
                let bytes = try await world[rank].allGather(
                    "again", [UInt8(call), UInt8(rank)], timeout: Patience.healthy)
                sums.append(bytes.reduce(0) { $0 + Int($1[0]) })
                // The same name as a barrier must not meet the all-gather.
                try await world[rank].barrier("again", timeout: Patience.healthy)
            }
            return sums
        }
        for result in results { #expect(try result.get() == (0..<100).map { $0 * 3 }) }
        await closeAll(world)
    }

    @Test(arguments: Kind.allCases)
    func missingRanksAreNamed(_ kind: Kind) async throws {
        try await withGrowingPatience(from: .milliseconds(200)) { patience in
            try await missingRanksAreNamed(kind, after: patience)
        }
    }

    /// Whether the ranks that came name the others, and those only; the world goes on anyway.
    private func missingRanksAreNamed(
        _ kind: Kind, after patience: Duration
    ) async throws -> Bool {
        let world = try await kind.world(size: 4)
        let results = await together(2) { index throws(MoriError) in
            try await world[index * 2].barrier("missing", timeout: patience)
        }
        // The late ranks complete it for themselves; the next call meets everybody again.
        let late = await together(2) { index throws(MoriError) in
            try await world[index * 2 + 1].barrier("missing", timeout: Patience.healthy)
        }
        for result in late { #expect(result.error == nil) }
        let next = await together(4) { rank throws(MoriError) in
            try await world[rank].barrier("missing", timeout: Patience.healthy)
        }
        for result in next { #expect(result.error == nil) }
        await closeAll(world)
        return results.allSatisfy { result in
            result.error?.code == .timedOut && result.error?.ranks == [1, 3]
                && result.error?.message.contains("ranks 1 and 3 did not come within") == true
        }
    }

    @Test(arguments: Kind.allCases)
    func anAbortEndsAllWaitsAndIsReported(_ kind: Kind) async throws {
        let world = try await kind.world(size: 3)
        let events = Events()
        for member in world { member.onEvent { [rank = member.rank] in events.add(rank, $0) } }
        async let waiting = together(2) { index throws(MoriError) in
            try await world[index * 2].barrier("never", timeout: Patience.healthy)
        }
        try await Task.sleep(for: .milliseconds(50))
        world[1].abort(culprit: 2, message: "its expert ids are out of range")
        for result in await waiting {
            let error = try #require(result.error)
            #expect(error.code == .aborted)
            #expect(error.ranks == [2])
            #expect(error.message.contains("rank 1 aborted"))
            #expect(error.message.contains("its expert ids are out of range"))
        }
        await #expect(throws: MoriError.self) {
            try await world[1].barrier("afterwards", timeout: .seconds(1))
        }
        let event = BootstrapEvent.aborted(
            by: 1, culprit: 2, message: "its expert ids are out of range")
        for rank in [0, 2] { #expect(await events.wait(for: 1, of: rank) == [event]) }
        #expect(events.of(1) == [])
        await closeAll(world)
    }

    @Test(arguments: Kind.allCases)
    func eventsFromBeforeTheHandlerAreDelivered(_ kind: Kind) async throws {
        let world = try await kind.world(size: 2)
        world[0].abort(culprit: nil, message: "no reason")
        // Returns once the abort has arrived.
        try? await world[1].barrier("x", timeout: Patience.healthy)
        let events = Events()
        world[1].onEvent { events.add(1, $0) }
        world[1].onEvent { events.add(1, $0) }
        #expect(
            await events.wait(for: 1, of: 1)
                == [.aborted(by: 0, culprit: nil, message: "no reason")])
        await closeAll(world)
    }

    @Test(arguments: Kind.allCases)
    func aRankThatLeftIsNamedAndNotLost(_ kind: Kind) async throws {
        let world = try await kind.world(size: 3)
        let events = Events()
        for member in world { member.onEvent { [rank = member.rank] in events.add(rank, $0) } }
        async let early = together(1) { _ throws(MoriError) in
            try await world[0].barrier("left", timeout: Patience.healthy)
        }
        try await Task.sleep(for: .milliseconds(50))
        await world[2].close(timeout: .seconds(10))
        let late = await together(1) { _ throws(MoriError) in
            try await world[1].barrier("left", timeout: Patience.healthy)
        }
        for result in await early + late {
            let error = try #require(result.error)
            #expect(error.code == .peerLost)
            #expect(error.ranks == [2])
            #expect(error.message.contains("rank 2 left"))
        }
        let own = await together(1) { _ throws(MoriError) in
            try await world[2].barrier("left", timeout: Patience.healthy)
        }
        #expect(own[0].error?.code == .closed)
        await closeAll(world)
        #expect((0..<3).allSatisfy { events.of($0).isEmpty })
    }

    @Test(arguments: Kind.allCases)
    func closingWorksInAnyOrderAndTwice(_ kind: Kind) async throws {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let world = try await kind.world(size: 3)
            await withTaskGroup { tasks in
                for rank in order {
                    tasks.addTask { await world[rank].close(timeout: .seconds(10)) }
                    try? await Task.sleep(for: .milliseconds(20))
                }
            }
            for member in world { await member.close(timeout: .seconds(10)) }
            world[0].abort(culprit: nil, message: "after the end")
        }
    }

    @Test(arguments: Kind.allCases)
    func aCancelledWaitEnds(_ kind: Kind) async throws {
        let world = try await kind.world(size: 2)
        let task = Task { () -> MoriError? in
            do throws(MoriError) {
                try await world[0].barrier("cancelled", timeout: Patience.healthy)
                return nil
            } catch {
                return error
            }
        }
        try await Task.sleep(for: .milliseconds(20))
        task.cancel()
        #expect(await task.value?.code == .aborted)
        await closeAll(world)
    }

    @Test(arguments: Kind.allCases)
    func illegalNamesAndValuesAreRefused(_ kind: Kind) async throws {
        let world = try await kind.world(size: 1)
        let long = String(repeating: "x", count: 1025)
        for name in ["", long] {
            let result = await together(1) { _ throws(MoriError) in
                try await world[0].allGather(name, [], timeout: .seconds(1))
            }
            #expect(result[0].error?.code == .invalidArgument)
        }
        let most = BootstrapLimit.value(worldSize: 1)
        let results = await together(2) { excess throws(MoriError) in
            try await world[0].allGather(
                "big \(excess)", [UInt8](repeating: 7, count: most + excess),
                timeout: Patience.healthy)
        }
        #expect(try results[0].get()[0].count == most)
        #expect(results[1].error?.code == .invalidArgument)
        #expect(results[1].error?.message.contains("at most \(most)") == true)
        await closeAll(world)
    }

    private func closeAll(_ world: [any Bootstrap]) async {
        await withTaskGroup { tasks in
            for member in world { tasks.addTask { await member.close(timeout: .seconds(10)) } }
        }
    }
}

/// Collects the events that each rank saw.
final class Events: Sendable {
    private let seen = Mutex<[Int: [BootstrapEvent]]>([:])

    func add(_ rank: Int, _ event: BootstrapEvent) {
        seen.withLock { $0[rank, default: []].append(event) }
    }

    func of(_ rank: Int) -> [BootstrapEvent] { seen.withLock { $0[rank] ?? [] } }

    /// Waits until a rank has seen so many events, at most a minute.
    func wait(for count: Int, of rank: Int) async -> [BootstrapEvent] {
        for _ in 0..<6000 where of(rank).count < count {
            try? await Task.sleep(for: .milliseconds(10))
        }
        return of(rank)
    }
}

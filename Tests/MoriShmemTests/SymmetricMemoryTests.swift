import MoriDevice
import MoriShmem
import MoriTestSupport
import Testing

/// Worlds of threads, and the memory that their ranks share.
@Suite(.serialized) struct SymmetricMemoryTests {
    @Test(.timeLimit(.minutes(1)), arguments: [1, 2, 3, 8, 64, 256])
    func everyRankOfALocalWorldKnowsItsPlace(worldSize: Int) async throws {
        let places = try await withLocalWorld(worldSize) { world in
            #expect(world.worldSize == worldSize && world.localWorldSize == worldSize)
            #expect(world.localRank == world.rank)
            #expect(world.device.description == "host:0")
            let gathered = try await world.allGather([UInt8(world.rank), 7])
            #expect(gathered == (0..<worldSize).map { [UInt8($0), 7] })
            for _ in 0..<3 { try await world.barrier() }
            return world.rank
        }
        #expect(places == Array(0..<worldSize))
    }

    @Test(.timeLimit(.minutes(1)), arguments: [0, -1, 257, Int.max, Int.min])
    func worldsOfOtherSizesAreRefused(worldSize: Int) async throws {
        let local = try await #require(throws: MoriError.self) {
            _ = try await SymmetricMemory.local(worldSize: worldSize, device: Device(.host))
        }
        #expect(local.code == .invalidArgument)
        #expect(local.message.contains("\(worldSize) ranks; legal are 1 to 256"))
        // Before anybody is waited for.
        let id = try UniqueID()
        let joined = try await #require(throws: MoriError.self) {
            _ = try await SymmetricMemory.join(
                rank: 0, worldSize: worldSize, uniqueID: id, device: Device(.host))
        }
        #expect(joined.code == .invalidArgument)
        #expect(joined.message.contains("\(worldSize)"), "\(joined)")
    }

    @Test(.timeLimit(.minutes(1)), arguments: [-1, Int.min, Int.max])
    func ranksOutsideOfTheWorldAreRefused(rank: Int) async throws {
        let id = try UniqueID()
        let error = try await #require(throws: MoriError.self) {
            _ = try await SymmetricMemory.join(
                rank: rank, worldSize: 3, uniqueID: id, device: Device(.host))
        }
        #expect(error.code == .invalidArgument)
        #expect(error.message.contains("\(rank)"), "\(error)")
    }

    @Test(arguments: [Duration.zero, .seconds(-1)])
    func aDeadlineThatHasAlwaysPassedIsRefused(timeout: Duration) async throws {
        let error = try await #require(throws: MoriError.self) {
            _ = try await SymmetricMemory.local(
                worldSize: 2, device: Device(.host), roundTimeout: timeout)
        }
        #expect(error.code == .invalidArgument)
        #expect(error.message.contains("more than zero"))
    }

    @Test(.timeLimit(.minutes(1)))
    func closingTwiceDoesNothingAndLaterCallsSayClosed() async throws {
        _ = try await withLocalWorld(3) { world in
            let buffer = try await world.heap.allocate(byteCount: 64, for: "a test")
            try await world.close()
            try await world.close()
            let calls: [() async throws -> Void] = [
                { try await world.barrier() },
                { _ = try await world.allGather([1]) },
                { _ = try await world.heap.allocate(byteCount: 8, for: "a test") },
                { try await world.heap.free(buffer) },
            ]
            for call in calls {
                let error = try await #require(throws: MoriError.self) { try await call() }
                #expect(error.code == .closed, "\(error)")
            }
        }
    }

    /// Ranks come to close at any time and in any order; nobody leaves before all are there.
    @Test(.timeLimit(.minutes(1)), arguments: [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
    func ranksMayCloseInAnyOrder(order: [Int]) async throws {
        for _ in 0..<3 {
            _ = try await withLocalWorld(3) { world in
                let place = try #require(order.firstIndex(of: world.rank))
                try await Task.sleep(for: .milliseconds(10 * place))
                try await world.close()
            }
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: [1, 2, 5, 64])
    func whatOneRankStoresEveryRankReads(worldSize: Int) async throws {
        let lists = try await withLocalWorld(worldSize) { world in
            let buffer = try await world.heap.allocate(byteCount: 4096, for: "a test")
            #expect(buffer.byteCount == 4096 && buffer.addresses.count == worldSize)
            let stream = try DeviceStream(on: world.device)
            // Into each peer's memory, at this rank's place.
            for address in buffer.addresses {
                try stream.fill(
                    address + UInt(world.rank), with: UInt8(world.rank + 1), byteCount: 1)
            }
            try await stream.completion()
            try await world.barrier()
            let own = unsafe DeviceTensor(
                borrowing: buffer.addresses[world.rank], shape: [worldSize], elementType: .uint8,
                on: world.device)
            let bytes: [UInt8] = try await own.elements(on: stream)
            #expect(bytes == (0..<worldSize).map { UInt8($0 + 1) })
            let table = unsafe DeviceTensor(
                borrowing: buffer.addressTable.address, shape: [8 * worldSize],
                elementType: .uint8, on: world.device)
            let words: [UInt8] = try await table.elements(on: stream)
            for (rank, address) in buffer.addresses.enumerated() {
                let word = (0..<8).reduce(UInt(0)) {
                    $0 | UInt(words[8 * rank + $1]) << (8 * $1)
                }
                #expect(word == address)
            }
            let addresses = buffer.addresses
            try await world.heap.free(buffer)
            return addresses
        }
        #expect(lists.allSatisfy { $0 == lists[0] }, "in one process all ranks see the same memory")
        #expect(Set(lists[0]).count == worldSize)
    }

    @Test(.timeLimit(.minutes(1)), arguments: [0, 1, 2])
    func ranksThatAllocateDifferentlyAreBothNamed(odd: Int) async throws {
        _ = try await withLocalWorld(3) { world in
            let byteCount = world.rank == odd ? 100 : 200
            let error = try await #require(throws: MoriError.self) {
                _ = try await world.heap.allocate(byteCount: byteCount, for: "a test")
            }
            #expect(error.code == .ranksDisagree)
            #expect(error.ranks.contains(odd) && error.ranks.contains(world.rank))
            #expect(error.message.contains("100") && error.message.contains("200"))
            #expect(error.message.contains("a test"))
            // Nothing was kept of it, and the next allocation is in step again.
            let buffer = try await world.heap.allocate(byteCount: 64, for: "another test")
            try await world.heap.free(buffer)
        }
    }

    /// The heap would allow it, the machine does not.
    @Test(.timeLimit(.minutes(1)))
    func aRankWithoutMemoryIsNamedToEveryone() async throws {
        _ = try await withLocalWorld(3, heapByteLimit: .max) { world in
            let error = try await #require(throws: MoriError.self) {
                _ = try await world.heap.allocate(byteCount: 1 << 60, for: "a test")
            }
            #expect(error.code == .outOfMemory)
            #expect(error.ranks == [0])
            #expect(error.message.contains("rank 0 has no memory for a test"), "\(error)")
            let buffer = try await world.heap.allocate(byteCount: 64, for: "another test")
            try await world.heap.free(buffer)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func theHeapsLimitHoldsToTheByte() async throws {
        let abortWords = 2 * 8
        _ = try await withLocalWorld(2, heapByteLimit: 1000 + abortWords) { world in
            #expect(world.heapByteLimit == 1000 + abortWords)
            for _ in 0..<3 {
                let first = try await world.heap.allocate(byteCount: 600, for: "a test")
                let second = try await world.heap.allocate(byteCount: 400, for: "a test")
                let error = try await #require(throws: MoriError.self) {
                    _ = try await world.heap.allocate(byteCount: 1, for: "one byte more")
                }
                #expect(error.code == .outOfMemory)
                #expect(error.message.contains("one byte more needs 1 bytes"))
                #expect(error.message.contains("set MORI_SHMEM_HEAP_SIZE to 1017 or more"))
                try await world.heap.free(first)
                try await world.heap.free(second)
            }
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: [0, -1, 15])
    func aHeapWithoutRoomForTheWorldItselfIsRefused(limit: Int) async throws {
        let error = try await #require(throws: MoriError.self) {
            _ = try await SymmetricMemory.local(
                worldSize: 2, device: Device(.host), heapByteLimit: limit)
        }
        #expect(error.code == .outOfMemory)
        #expect(error.message.contains("set MORI_SHMEM_HEAP_SIZE to 16 or more"), "\(error)")
    }

    /// A rank may give up before its failure was reported: the others hear the reason all the same.
    @Test func abortAfterAFailureNamesItsCulprit() async throws {
        let worlds = try await SymmetricMemory.local(worldSize: 3, device: Device(.host))
        worlds[0].fail(
            MoriError(.networkFailure, "a write to rank 2 failed", ranks: [2]), culprit: 2)
        worlds[0].abort("gave up")
        for world in worlds.dropFirst() {
            let error = await #expect(throws: MoriError.self) { try await world.barrier() }
            #expect(error?.ranks == [2], "\(String(describing: error))")
            #expect(error?.message.contains("a write to rank 2 failed") == true)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func abortEndsCollectiveCallsOnEveryRank() async throws {
        let worlds = try await SymmetricMemory.local(worldSize: 3, device: Device(.host))
        let results = await onEveryRank(of: worlds) { world in
            if world.rank == 2 {
                try await Task.sleep(for: .milliseconds(20))
                world.abort("nothing works")
            }
            for _ in 0..<2 {
                let error = try await #require(throws: MoriError.self) {
                    try await world.barrier()
                }
                #expect(error.code == .aborted)
                #expect(error.ranks == [2])
                #expect(error.message.contains("nothing works"), "\(error)")
            }
            try await world.close()
        }
        for result in results { try result.get() }
    }

    /// A rank whose object went without `close` has left; the others do not wait for it.
    @Test(.timeLimit(.minutes(1)))
    func aRankThatLeftIsNamed() async throws {
        var worlds = try await SymmetricMemory.local(worldSize: 3, device: Device(.host))
        worlds.remove(at: 1)
        let results = await onEveryRank(of: worlds) { world in
            let error = try await #require(throws: MoriError.self) { try await world.barrier() }
            #expect(error.code == .peerLost)
            #expect(error.ranks == [1], "\(error)")
        }
        for result in results { try result.get() }
    }

    @Test(.timeLimit(.minutes(1)))
    func collectiveCallsOfTwoWorldsDoNotMeet() async throws {
        async let first: [Void] = withLocalWorld(3) { world in
            for turn in 0..<100 {
                let all = try await world.allGather([UInt8(turn), 1])
                #expect(all == Array(repeating: [UInt8(turn), 1], count: 3))
            }
        }
        async let second: [Void] = withLocalWorld(4) { world in
            for turn in 0..<100 {
                let all = try await world.allGather([UInt8(turn), 2])
                #expect(all == Array(repeating: [UInt8(turn), 2], count: 4))
            }
        }
        _ = try await (first, second)
    }

    @Test(.timeLimit(.minutes(1)))
    func ranksJoinByUniqueID() async throws {
        let id = try UniqueID()
        try await withThrowingTaskGroup { group in
            for rank in 0..<3 {
                group.addTask {
                    let world = try await SymmetricMemory.join(
                        rank: rank, worldSize: 3, uniqueID: id, device: Device(.host))
                    #expect(world.rank == rank && world.worldSize == 3)
                    #expect(world.localRank == rank && world.localWorldSize == 3)
                    let buffer = try await world.heap.allocate(byteCount: 128, for: "a test")
                    let stream = try DeviceStream(on: world.device)
                    for address in buffer.addresses {
                        try stream.fill(address + UInt(rank), with: UInt8(rank + 1), byteCount: 1)
                    }
                    try await stream.completion()
                    try await world.barrier()
                    let own = unsafe DeviceTensor(
                        borrowing: buffer.addresses[rank], shape: [3], elementType: .uint8,
                        on: world.device)
                    #expect(try await own.elements(as: UInt8.self, on: stream) == [1, 2, 3])
                    try await world.heap.free(buffer)
                    try await world.close()
                }
            }
            try await group.waitForAll()
        }
    }

    /// Nothing is left of a world, closed or not.
    @Test(.timeLimit(.minutes(1)), arguments: [true, false])
    func worldsGiveEverythingBack(isClosed: Bool) async {
        await #expect(processExitsWith: .success) { [isClosed] in
            for worldSize in [1, 3, 64] {
                do {
                    let worlds = try await SymmetricMemory.local(
                        worldSize: worldSize, device: Device(.host))
                    let results = await onEveryRank(of: worlds) { world in
                        _ = try await world.heap.allocate(byteCount: 1 << 20, for: "a test")
                        if isClosed { try await world.close() }
                    }
                    for result in results { try result.get() }
                }
                try await requireNothingLive()
            }
        }
    }
}

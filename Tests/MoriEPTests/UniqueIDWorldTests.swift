import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.UniqueIDWorldTests {
    /// Each rank joins over TCP as a process would; only the memory is this process's own.
    @Test(.timeLimit(.minutes(1)), arguments: [1, 4], CombineInput.allCases)
    func ranksThatJoinedByUniqueIDRunRounds(ranks: Int, input: CombineInput) async throws {
        let id = try UniqueID()
        let workload = Workload(
            worldSize: ranks, tokens: (0..<ranks).map { 5 - $0 }, hidden: 65, topK: 3,
            expertsPerRank: 3, seed: 2)
        let routes = Routes(workload)
        let round = RoundCase(workload) { $0.options.input = input }
        try await withThrowingTaskGroup { group in
            for rank in 0..<ranks {
                group.addTask {
                    let world = try await SymmetricMemory.join(
                        rank: rank, worldSize: ranks, uniqueID: id, device: Device(.host))
                    #expect(world.rank == rank && world.worldSize == ranks)
                    #expect(world.localRank == rank && world.localWorldSize == ranks)
                    let op = try await EPDispatchCombineOp(round.config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    for _ in 0..<10 {
                        try await checkRound(
                            routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                            on: stream, options: round.options)
                    }
                    try await op.close()
                    try await world.close()
                }
            }
            try await group.waitForAll()
        }
    }

    /// Words and reasons go over TCP: a peer's device only sees that somebody ended the round.
    @Test(.timeLimit(.minutes(1)))
    func abortFreesPeersThatJoinedByUniqueID() async throws {
        let id = try UniqueID()
        let config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 1,
            expertsPerToken: 1)
        try await withThrowingTaskGroup { group in
            for rank in 0..<3 {
                group.addTask {
                    let world = try await SymmetricMemory.join(
                        rank: rank, worldSize: 3, uniqueID: id, device: Device(.host))
                    let op = try await EPDispatchCombineOp(config, in: world)
                    let stream = try DeviceStream(on: world.device)
                    if rank == 1 {
                        world.abort("rank 1 has had enough")
                    } else {
                        let tokens = try DeviceTensor(
                            shape: [0, 8], elementType: .bfloat16, on: world.device)
                        let indices = try DeviceTensor(
                            shape: [0, 1], elementType: .int32, on: world.device)
                        let error = try await #require(throws: MoriError.self) {
                            let received = try op.dispatch(tokens, indices: indices, on: stream)
                            try await stream.completion()
                            try op.discard(received)
                        }
                        #expect(error.code == .aborted)
                        #expect(error.ranks == [1])
                        #expect(error.message.contains("rank 1 has had enough"), "\(error)")
                    }
                    try await op.close()
                    try await world.close()
                }
            }
            try await group.waitForAll()
        }
    }
}

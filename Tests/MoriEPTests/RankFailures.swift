import MoriEP
import MoriTestSupport
import Testing

/// Runs `body` on every rank at once, each of which must fail, and gives the failures by rank.
/// Unlike `onEveryRank`, a rank that failed does not abort the world: its peers have to notice.
func failures(
    of worlds: [SymmetricMemory],
    _ body: @escaping @Sendable (SymmetricMemory) async throws -> Void
) async throws -> [MoriError] {
    let results = await withTaskGroup(of: (Int, (any Error)?).self) { group in
        for world in worlds {
            group.addTask {
                do {
                    try await body(world)
                    return (world.rank, nil)
                } catch {
                    return (world.rank, error)
                }
            }
        }
        var results = [(any Error)?](repeating: nil, count: worlds.count)
        for await (rank, error) in group { results[rank] = error }
        return results
    }
    return try results.enumerated().map { rank, error in
        guard let error = error as? MoriError else {
            throw Mismatch("rank \(rank): \(error.map { "\($0)" } ?? "no error")")
        }
        return error
    }
}

/// A world whose ranks may fail without ending the test.
func failingWorld(
    _ worldSize: Int, roundTimeout: Duration = Patience.healthy
) async throws -> [SymmetricMemory] {
    try await SymmetricMemory.local(
        worldSize: worldSize, device: Device(.host), roundTimeout: roundTimeout)
}

/// Closes every rank's part at once.
func close(_ worlds: [SymmetricMemory]) async throws {
    try await withThrowingTaskGroup { group in
        for world in worlds { group.addTask { try await world.close() } }
        try await group.waitForAll()
    }
}

/// Every failed round ends the world's: all later calls say so.
func requireAborted(_ op: EPDispatchCombineOp, _ body: () throws -> Void) throws {
    let later = try #require(throws: MoriError.self) { try body() }
    #expect(later.code == .aborted, "\(later)")
}

public import MoriEP

/// Runs `body` once for each rank of a world of threads, all at once, and closes the world.
///
/// - Throws: the first error of the lowest rank that has one.
public func withLocalWorld<Success: Sendable>(
    _ worldSize: Int, heapByteLimit: Int? = nil, roundTimeout: Duration? = Patience.healthy,
    _ body: @escaping @Sendable (SymmetricMemory) async throws -> Success
) async throws -> [Success] {
    try await withLocalWorld(
        worldSize, heapByteLimit: heapByteLimit, roundTimeout: roundTimeout, fabric: nil, body)
}

/// The same, over a fabric that the kernels between nodes use whatever MORI_EP_FABRIC says, or in an
/// environment that is not the process's.
package func withLocalWorld<Success: Sendable>(
    _ worldSize: Int, heapByteLimit: Int? = nil, roundTimeout: Duration? = Patience.healthy,
    fabric: (any Fabric)?, environment: MoriEnvironment? = nil,
    _ body: @escaping @Sendable (SymmetricMemory) async throws -> Success
) async throws -> [Success] {
    let worlds = try await SymmetricMemory.local(
        worldSize: worldSize, device: TestDevice.selected(), heapByteLimit: heapByteLimit,
        roundTimeout: roundTimeout, fabric: fabric, environment: environment)
    let results = await onEveryRank(of: worlds) { world in
        let result = try await body(world)
        try await world.close()
        return result
    }
    return try results.map { try $0.get() }
}

/// Runs `body` for each rank at once and gives every rank's outcome, by rank.
public func onEveryRank<Success: Sendable>(
    of worlds: [SymmetricMemory],
    _ body: @escaping @Sendable (SymmetricMemory) async throws -> Success
) async -> [Result<Success, any Error>] {
    await withTaskGroup(of: (Int, Result<Success, any Error>).self) { group in
        for world in worlds {
            group.addTask {
                do {
                    return (world.rank, .success(try await body(world)))
                } catch {
                    // Peers do not wait for a rank that gave up.
                    world.abort("\(error)")
                    return (world.rank, .failure(error))
                }
            }
        }
        var results: [(Int, Result<Success, any Error>)] = []
        for await result in group { results.append(result) }
        return results.sorted { $0.0 < $1.0 }.map(\.1)
    }
}

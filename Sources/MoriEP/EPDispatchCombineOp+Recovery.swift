package import MoriDevice
package import MoriShmem

// What `SymmetricMemory.recover` does with an operator: its memory, rings and queues are made anew among
// the ranks that go on, and the object that the caller holds goes over to them.

extension EPDispatchCombineOp: Recoverable {
    package func drain(
        before deadline: ContinuousClock.Instant
    ) async throws(MoriError) -> RoundNumbers {
        let (stream, kernels) = state.withLock { ($0.lastStream, $0.kernels) }
        if let stream {
            // Every wait ends by itself, but what the caller enqueued beside may take its time. Its own
            // failure is known: here only its end matters.
            guard try await stream.isDone(before: deadline) else {
                throw MoriError(
                    .timedOut,
                    "rank \(world.rank) cannot recover: what it enqueued on its own stream did not end"
                        + " in time; give recover more time, or wait for the stream first",
                    ranks: [world.rank])
            }
        }
        await kernels.retire()
        return try await kernels.roundNumbers()
    }

    package func prepare(
        in generation: WorldGeneration, base: UInt32
    ) async throws(MoriError) {
        let kernels = try await OperatorKernels(
            config, in: world, generation: generation, base: base,
            timeout: state.withLock { $0.timeout })
        state.withLock { $0.prepared = kernels }
    }

    package var waitFailure: WaitFailure? {
        guard let record = kernels.failureRecord, record.isUndecided else { return nil }
        return WaitFailure(waitsFor: record.waitsFor) { record.error(blaming: $0) }
    }

    package func settle(_ succeeded: Bool, firstIncompleteRound: Int?) {
        // Freed outside the lock.
        let former = state.withLock { state -> OperatorKernels? in
            defer { state.prepared = nil }
            guard succeeded, let prepared = state.prepared else { return state.prepared }
            let former = state.kernels
            state.kernels = prepared
            // Its records are of memory that is void.
            state.trace?.stop()
            state.trace = nil
            state.slots = Array(repeating: .free, count: config.slots)
            state.firstIncompleteRound = firstIncompleteRound
            return former
        }
        _ = former
    }
}

package import MoriDevice

// What the host of a rank does when a wait reached its deadline, here or at a peer.

extension SymmetricMemory {
    /// Waits until it is known who failed; `Inquest.duration` or little more.
    package func findCulprit(in generation: WorldGeneration) async {
        await search(in: generation).value
    }

    /// Begins to look for the rank that failed, once in a generation.
    @discardableResult
    package func search(in generation: WorldGeneration) -> Task<Void, Never> {
        generation.inquest.begin { Task { [weak self] in await self?.inquire(in: generation) } }
    }

    private func inquire(in generation: WorldGeneration) async {
        let end = ContinuousClock.now + Inquest.duration
        // Kernels of this rank that wait shall end and say for whom; those of other hosts as well.
        if fault == nil { generation.raiseAbort(.timedOut, culprit: nil) }
        var hasSpoken = false
        while ContinuousClock.now < end {
            if !hasSpoken, let ranks = waitsOfOperators {
                hasSpoken = true
                generation.bootstrap.report(waitingFor: ranks)
            }
            // A connection that ended says more than any wait.
            if let fault, !fault.isHearsay { break }
            if generation.inquest.witnesses == generation.activeRanks { break }
            try? await Task.sleep(for: .milliseconds(1))
        }
        let culprits = generation.inquest.conclude(
            rank: rank, hasSpoken: hasSpoken, leader: generation.activeRanks.first ?? 0,
            members: generation.activeRanks)
        let own = operators.compactMap(\.waitFailure).map { $0.error(culprits) }
        let error =
            own.first { $0.code == .timedOut } ?? own.first
            ?? MoriError(
                .aborted,
                "\(witness(of: generation)) reached the deadline of a wait because of"
                    + " \(rankList(culprits))", ranks: culprits)
        fail(error, culprit: culprits.first, in: generation)
        // Barriers and all-gathers of ranks that do not wait in a kernel end too.
        if error.code == .timedOut {
            generation.bootstrap.abort(culprit: culprits.first, message: error.message)
        }
    }

    /// Whether rounds of this world have failed, also where nobody has asked yet.
    func hasFailed(in generation: WorldGeneration) async -> Bool {
        if generation.inquest.hasBegun || operators.contains(where: { $0.waitFailure != nil }) {
            await findCulprit(in: generation)
            return true
        }
        return fault != nil
    }

    private func witness(of generation: WorldGeneration) -> String {
        generation.inquest.witnesses.first { $0 != rank }.map { "rank \($0)" } ?? "a rank"
    }

    private var operators: [any Recoverable] {
        state.withLock { $0.members.compactMap(\.member) }
    }

    /// For whom this rank's kernels waited when they failed; nil while none did.
    private var waitsOfOperators: [Int]? {
        let failures = operators.compactMap(\.waitFailure)
        return failures.isEmpty ? nil : Set(failures.flatMap(\.waitsFor)).sorted()
    }
}

/// A round that failed because some rank's wait reached its deadline.
package struct WaitFailure: Sendable {
    /// The ranks whose words had not come here.
    package var waitsFor: [Int]
    /// The error that names these ranks as those that failed.
    package var error: @Sendable ([Int]) -> MoriError

    /// Creates one.
    package init(waitsFor: [Int], error: @escaping @Sendable ([Int]) -> MoriError) {
        self.waitsFor = waitsFor
        self.error = error
    }
}

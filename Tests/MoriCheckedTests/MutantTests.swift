#if Checked
import MoriEP
import MoriTestSupport
import Testing

extension CheckedTests.MutantTests {
    /// Where a mistake shows.
    private static let scenarios: [String: Scenario] = [
        "publishWithoutFence": .races,
        "publishByOneWarp": .races,
        "waitWithoutAcquire": .forwardedRaces,
        "lastBlockWithoutAcquire": .races,
        "streamingWithoutFence": .streamedRows,
        "signalBeforePayload": .races,
        "lastBlockTooEarly": .blocks,
        "reusedSlot": .blocks,
        "staleEpoch": .lateStart,
        "growingWord": .lateReception,
        "combineSparesPeers": .sparedPeer,
        "counterZeroedLate": .lateStart,
        "barrierSkipped": .discardedRound,
        "wordOvertakesPayload": .shuffledQueues,
        "ringOverrun": .fullRing,
        "stagingReused": .retransmission,
        "chunkForgotten": .chunks,
        "endlessWait": .noOneComes,
        "silentFailure": .onlyOneGivesUp,
        "voidRoundKeepsRows": .lateCombine,
        "signatureIgnored": .disagreement,
    ]

    @Test(.timeLimit(.minutes(5)))
    func everyMutantIsCaught() async throws {
        var survivors: [String] = []
        for mutant in Mutant.all {
            guard let scenario = Self.scenarios[mutant.name] else {
                survivors.append("\(mutant.name): nothing looks for it")
                continue
            }
            let findings = try await Mutant.using(mutant) { try await scenario.run() }
            let first = findings.first?.prefix(300) ?? "SURVIVED"
            print("mutant \(mutant.name): \(first)")
            if findings.isEmpty { survivors.append("\(mutant.name) by \(scenario.name)") }
        }
        #expect(survivors.isEmpty)
    }

    /// What would be noticed without a mistake says nothing of the mistakes.
    @Test(.timeLimit(.minutes(5)), arguments: Scenario.all)
    func rightKernelsAreNotBlamed(_ scenario: Scenario) async throws {
        let findings = try await Mutant.using(nil) { try await scenario.run() }
        #expect(findings == [])
    }
}
#endif

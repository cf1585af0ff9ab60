#if RDMA
import CIBVerbs
package import MoriDevice

/// Writes over RDMA NICs: reliable connections through libibverbs.
///
/// Ranks without peers take part in `connect` and get a link without queues; their hosts need no
/// NIC. What the ranks decide together (the NICs, the kind of addresses, who is at fault) each
/// computes for itself from the same bytes, so that all come to the same.
package final class VerbsFabric: Fabric {
    package let name = "verbs"
    private let settings: RDMASettings

    /// Creates a fabric; nothing is opened before `connect`.
    package init(_ settings: RDMASettings) { self.settings = settings }

    package func connect(
        _ request: FabricRequest, over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) -> any FabricLink {
        let settings = settings
        let deadline = ContinuousClock.now + timeout
        // Driver calls block, registration of gigabytes for seconds.
        let seen = try await BackgroundThread.run {
            VerbsPreparation.survey(for: request, settings)
        }
        let surveys = try await exchange(
            "verbs survey", seen.survey.bytes, absent: VerbsSurvey(), over: bootstrap,
            timeout: timeout
        ) { VerbsSurvey($0) }
        let plan = try VerbsPlan.make(from: surveys, for: request.purpose)

        let prepared = try await BackgroundThread.run {
            () -> Result<VerbsPreparation, MoriError> in
            Result { () throws(MoriError) in
                try VerbsPreparation(
                    request, nics: seen.nics, rank: bootstrap.rank, plan: plan, settings)
            }
        }
        let offer: VerbsEndpoints
        switch prepared {
        case .success(let preparation): offer = preparation.endpoints
        case .failure(let error):
            // Said to everyone instead of thrown: the others are waiting.
            var failed = VerbsEndpoints()
            failed.problem = VerbsProblem(error)
            offer = failed
        }
        let endpoints = try await exchange(
            "verbs endpoints", offer.bytes, absent: VerbsEndpoints(), over: bootstrap,
            timeout: timeout
        ) { VerbsEndpoints($0) }
        try throwFirst(endpoints.map(\.problem), request.purpose)
        let preparation = try prepared.get()

        let connected = try await BackgroundThread.run {
            () -> Result<VerbsLink, MoriError> in
            Result { () throws(MoriError) in
                try preparation.connect(
                    rank: bootstrap.rank, to: endpoints, settings, before: deadline)
            }
        }
        var problem: VerbsProblem?
        if case .failure(let error) = connected { problem = VerbsProblem(error) }
        // After this every queue is ready, so the first write finds its peer.
        let outcomes = try await exchange(
            "verbs connected", VerbsOutcome(problem).bytes, absent: VerbsOutcome(nil),
            over: bootstrap, timeout: timeout
        ) { VerbsOutcome($0) }
        try throwFirst(outcomes.map(\.problem), request.purpose)
        return try connected.get()
    }

    /// Gives every rank's message to every rank; `absent` stands for those that take no part.
    private func exchange<Message>(
        _ name: String, _ bytes: [UInt8], absent: Message, over bootstrap: any Bootstrap,
        timeout: Duration, _ read: ([UInt8]) -> Message?
    ) async throws(MoriError) -> [Message] {
        let answers = try await bootstrap.allGather(name, bytes, timeout: timeout)
        var messages = Array(repeating: absent, count: answers.count)
        for rank in bootstrap.members {
            let answer = answers[rank]
            guard let message = read(answer) else {
                throw MoriError(
                    .ranksDisagree,
                    "\(name): rank \(rank) sent \(answer.count) bytes that are none; do all ranks"
                        + " run the same version of MoriEP?", ranks: [rank])
            }
            messages[rank] = message
        }
        return messages
    }

    private func throwFirst(
        _ problems: [VerbsProblem?], _ purpose: String
    ) throws(MoriError) {
        for (rank, problem) in problems.enumerated() {
            if let problem { throw problem.error(of: rank, purpose) }
        }
    }
}
#endif

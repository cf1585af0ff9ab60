import MoEModel
import MoriEP

/// One rank's work: step after step what the plan says, for the sequences that are this rank's.
///
/// All ranks do the same steps, a rank without sequences with 0 rows: dispatch and combine are
/// collective.
final class RankLoop {
    /// A text that is being continued.
    private struct Sequence {
        let id: UInt64
        let cache: KeyValueCache
        var sampler: Sampler
        /// The token that is not in the cache yet.
        var last: UInt8
        /// Tokens that may still be made.
        var left: Int
    }

    private let rank: Int
    private let transformer: Transformer
    private var sequences: [Sequence] = []
    /// Room of sequences that ended.
    private var caches: [KeyValueCache] = []

    init(rank: Int, _ transformer: Transformer) {
        self.rank = rank
        self.transformer = transformer
    }

    /// Does one step.
    ///
    /// - Returns: A token for each sequence that went on.
    /// - Throws: what ended the ranks' rounds.
    func step(_ plan: StepPlan) throws -> [TokenEvent] {
        for id in plan.cancellations { end { $0.id == id } }
        var events: [TokenEvent] = []
        if !plan.admissions.isEmpty {
            events += try prefill(plan.admissions.filter { $0.rank == rank })
        }
        if plan.decodes { events += try decode() }
        return events
    }

    /// Forgets all sequences.
    func reset() { end { _ in true } }

    private func prefill(_ admissions: [StepPlan.Admission]) throws -> [TokenEvent] {
        var rows: [Transformer.Row] = []
        let first = sequences.count
        for admission in admissions {
            let parameters = admission.parameters
            let cache = caches.popLast() ?? KeyValueCache(transformer.configuration)
            let tokens = [Vocabulary.boundary] + parameters.prompt
            for (index, token) in tokens.enumerated() {
                let isLast = index == tokens.count - 1
                rows.append(Transformer.Row(token, in: cache, wantsLogits: isLast))
            }
            sequences.append(
                Sequence(
                    id: admission.id, cache: cache,
                    sampler: Sampler(
                        temperature: parameters.temperature, seed: parameters.seed),
                    last: 0, left: parameters.maxTokens))
        }
        return take(try transformer.append(rows, phase: .prefill), from: first)
    }

    private func decode() throws -> [TokenEvent] {
        let rows = sequences.map { Transformer.Row($0.last, in: $0.cache, wantsLogits: true) }
        return take(try transformer.append(rows, phase: .decode), from: 0)
    }

    /// Chooses a token for each sequence from `first` on, and ends those that are complete.
    private func take(_ logits: [[Float]], from first: Int) -> [TokenEvent] {
        var events: [TokenEvent] = []
        for (index, logits) in logits.enumerated() {
            let token = sequences[first + index].sampler.choose(logits)
            sequences[first + index].last = token
            sequences[first + index].left -= 1
            let isLast = sequences[first + index].left == 0
            let finish: TokenEvent.Finish =
                token == Vocabulary.boundary ? .stop : isLast ? .length : .none
            events.append(
                TokenEvent(id: sequences[first + index].id, token: token, finish: finish))
        }
        let ended = Set(events.filter { $0.finish != .none }.map(\.id))
        if !ended.isEmpty { end { ended.contains($0.id) } }
        return events
    }

    private func end(where isOver: (Sequence) -> Bool) {
        for sequence in sequences where isOver(sequence) {
            sequence.cache.reset()
            caches.append(sequence.cache)
        }
        sequences.removeAll(where: isOver)
    }
}

/// What tokens mean.
package enum Vocabulary {
    /// Begins every text, and so ends the one before; all other tokens are bytes of text.
    package static let boundary: UInt8 = 0
}

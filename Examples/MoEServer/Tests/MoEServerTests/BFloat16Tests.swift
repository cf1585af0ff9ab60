import Logging
import MoEModel
import MoEServing
import MoriEP
import Testing

/// Rows of bf16: what exactly is rounded, and how far that moves the logits.
///
/// Four values a layer are rounded where one process keeps fp32: a row on its way to an expert, what the
/// expert made, the weighted sum of a rank, and the sum of the ranks. Each error is at most 2^-8 of
/// its element. To first order a logit's error is a sum of some ten thousand such errors, each with a
/// factor of its own and none of them large: normally distributed, with mean zero. Errors drawn evenly
/// from all of [-2^-8, 2^-8] have at least the variance of rounding's, so the standard deviation s that
/// they cause bounds that of rounding, and 8 s is passed by one logit in 10^14. The bound that is
/// stated and tested is 8 s, with s measured behind the same tokens. It holds while every row goes to
/// the experts that it goes to in fp32; where two experts' scores are nearly equal that can change, and
/// the positions from there on are left out.
@Suite struct BFloat16Tests {
    static let unit: Float = 0x1p-8

    /// Remembers where rows went.
    final class Recorder: Mixture {
        let inner: any Mixture
        var routes: [[Int32]] = []

        init(_ inner: any Mixture) { self.inner = inner }

        func apply(_ rows: RoutedRows, into sums: inout [Float], meanwhile: () -> Void) throws {
            routes.append(rows.experts)
            try inner.apply(rows, into: &sums, meanwhile: meanwhile)
        }
    }

    struct Outcome: Sendable {
        /// [position][vocabulary].
        var logits: [[Float]]
        /// [layer][position * top-k].
        var routes: [[Int32]]

        /// Positions before the first whose experts differ.
        func common(with other: Outcome, topK: Int) -> Int {
            zip(routes, other.routes).map { own, others in
                (zip(own, others).enumerated().first { $1.0 != $1.1 }?.offset ?? own.count) / topK
            }.min() ?? 0
        }
    }

    static func read(_ text: String, _ mixture: any Mixture) throws -> Outcome {
        let recorder = Recorder(mixture)
        let model = Transformer(Models.weights, recorder)
        let cache = KeyValueCache(model.configuration)
        let rows = ([0] + Array(text.utf8)).map {
            Transformer.Row($0, in: cache, wantsLogits: true)
        }
        return Outcome(logits: try model.append(rows, phase: .prefill), routes: recorder.routes)
    }

    /// The same on ranks, whose rows are bf16: rank 0 has the text, the others nothing.
    static func readOnRanks(_ text: String, ranks: Int) async throws -> Outcome {
        let worlds = try await SymmetricMemory.local(worldSize: ranks, device: Device(.host))
        let tasks = worlds.map { world in
            let thread = RankThread(name: "rank \(world.rank)")
            return Task(executorPreference: thread) {
                defer { thread.stop() }
                let c = Models.weights.configuration
                let own = RankMixture.experts(of: world.rank, worldSize: ranks, c)
                let weights = try ModelWeights(Models.file, experts: own)
                let mixture = try await RankMixture(
                    weights, in: world,
                    .init(
                        rowType: .bfloat16, prefillRows: c.context, decodeRows: 1,
                        worldSize: ranks))
                let outcome: Outcome
                if world.rank == 0 {
                    outcome = try read(text, mixture)
                } else {
                    _ = try Transformer(weights, mixture).append([], phase: .prefill)
                    outcome = Outcome(logits: [], routes: [])
                }
                try await mixture.close()
                try await world.close()
                return outcome
            }
        }
        var outcomes: [Outcome] = []
        for task in tasks { outcomes.append(try await task.value) }
        return outcomes[0]
    }

    static let texts = [
        "This program is free software: you can redistribute it and/or modify it under the terms",
        "      Copyright (C) 2007 Free Software Foundation, Inc. <https://fsf.org/>\n Everyone is",
        "1. Definitions.\n\n      \"License\" shall mean the terms and conditions for use,",
    ]

    @Test(arguments: [1, 2, 4, 8])
    func ranksRoundWhatTheReferenceRoundsAndNothingElse(_ ranks: Int) async throws {
        let text = Self.texts[0]
        let found = try await Self.readOnRanks(text, ranks: ranks)
        let expected = try Self.read(
            text,
            ReferenceMixture(Models.weights, inOrderOf: ranks, rounding: { BFloat16($0).float }))
        #expect(found.routes == expected.routes)
        // Bit by bit.
        #expect(found.logits == expected.logits)
    }

    @Test(arguments: texts.indices)
    func logitsStayWithinEightStandardDeviations(_ index: Int) async throws {
        let text = Self.texts[index]
        let topK = Models.weights.configuration.expertsPerToken
        let exact = try Self.read(text, ReferenceMixture(Models.weights))
        let found = try await Self.readOnRanks(text, ranks: 4)
        var positions = exact.common(with: found, topK: topK)
        var generator = SystemRandomNumberGenerator()
        var squares = [Double](repeating: 0, count: exact.logits.count)
        let draws = 24
        var drawn = [Int](repeating: 0, count: exact.logits.count)
        for _ in 0..<draws {
            let disturbed = try Self.read(
                text,
                ReferenceMixture(
                    Models.weights, inOrderOf: 4,
                    rounding: {
                        $0 * (1 + Float.random(in: -Self.unit...Self.unit, using: &generator))
                    }))
            for position in 0..<exact.common(with: disturbed, topK: topK) {
                drawn[position] += 1
                for (own, other) in zip(exact.logits[position], disturbed.logits[position]) {
                    squares[position] += Double((own - other) * (own - other)) / 256
                }
            }
        }
        // Too few draws say nothing.
        positions = min(positions, drawn.firstIndex { $0 < draws / 3 } ?? positions)
        #expect(positions > 5)
        var (largest, bound) = (0.0, 0.0)
        for position in 0..<positions {
            let deviation = (squares[position] / Double(drawn[position])).squareRoot()
            let difference =
                zip(exact.logits[position], found.logits[position]).map {
                    Double(abs($0 - $1))
                }.max() ?? .infinity
            #expect(difference <= 8 * deviation)
            (largest, bound) = (max(largest, difference), max(bound, 8 * deviation))
        }
        print(
            "bf16: \(positions) of \(exact.logits.count) positions, logits differ by"
                + " \(largest) at most, bounds up to \(bound)")
    }
}

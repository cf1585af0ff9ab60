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

    /// How a text is read: by how many ranks, on which nodes, and by which kernel's rounds.
    struct Setting: Hashable, Sendable, CustomTestStringConvertible {
        var ranks: Int
        var ranksPerNode: Int?
        var phase = Phase.prefill
        var decodeKernel = KernelType.asyncLL
        var rowType = ElementType.bfloat16

        var testDescription: String {
            "\(ranks) ranks, \(ranksPerNode ?? ranks) a node, \(rowType), \(phase)"
                + (phase == .decode ? " by \(decodeKernel)" : "")
        }
    }

    /// All rows at once, or one by one.
    static func read(
        _ text: String, _ mixture: any Mixture, phase: Phase = .prefill
    ) throws -> Outcome {
        let recorder = Recorder(mixture)
        let model = Transformer(Models.weights, recorder)
        let layers = model.configuration.layers
        let cache = KeyValueCache(model.configuration)
        let rows = tokens(text).map { Transformer.Row($0, in: cache, wantsLogits: true) }
        let logits =
            try phase == .prefill
            ? model.append(rows, phase: phase)
            : rows.flatMap { try model.append([$0], phase: phase) }
        let routes = (0..<layers).map { layer in
            stride(from: layer, to: recorder.routes.count, by: layers).flatMap {
                recorder.routes[$0]
            }
        }
        return Outcome(logits: logits, routes: routes)
    }

    static func tokens(_ text: String) -> [UInt8] { [0] + Array(text.utf8) }

    /// The same on ranks: rank 0 has the text, the others nothing.
    static func readOnRanks(_ text: String, _ setting: Setting) async throws -> Outcome {
        let worlds = try await SymmetricMemory.local(
            worldSize: setting.ranks, device: Device(.host))
        let tasks = worlds.map { world in
            let thread = RankThread(name: "rank \(world.rank)")
            return Task(executorPreference: thread) {
                defer { thread.stop() }
                let c = Models.weights.configuration
                let own = RankMixture.experts(of: world.rank, worldSize: setting.ranks, c)
                let weights = try ModelWeights(Models.file, experts: own)
                let mixture = try await RankMixture(
                    weights, in: world,
                    .init(
                        rowType: setting.rowType, prefillRows: c.context, decodeRows: 1,
                        worldSize: setting.ranks, ranksPerNode: setting.ranksPerNode,
                        decodeKernel: setting.decodeKernel))
                var outcome = Outcome(logits: [], routes: [])
                if world.rank == 0 {
                    outcome = try read(text, mixture, phase: setting.phase)
                } else {
                    let model = Transformer(weights, mixture)
                    for _ in 0..<(setting.phase == .prefill ? 1 : tokens(text).count) {
                        _ = try model.append([], phase: setting.phase)
                    }
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

    /// On one node by IntraNode and AsyncLL, on two by InterNodeV1, InterNodeV1LL and AsyncLL.
    static let settingsOfFourRanks = [
        Setting(ranks: 4), Setting(ranks: 4, phase: .decode), Setting(ranks: 4, ranksPerNode: 2),
        Setting(ranks: 4, ranksPerNode: 2, phase: .decode, decodeKernel: .interNodeV1LL),
        Setting(ranks: 4, ranksPerNode: 2, phase: .decode),
    ]

    // With two experts a token, whatever else InterNodeV1 rounds is one number that was rounded before: a
    // node's sum has one term, or the sum of the nodes has.
    @Test(
        arguments: [Setting(ranks: 1), Setting(ranks: 2), Setting(ranks: 8)] + settingsOfFourRanks)
    func ranksRoundWhatTheReferenceRoundsAndNothingElse(_ setting: Setting) async throws {
        let text = Self.texts[0]
        let found = try await Self.readOnRanks(text, setting)
        let expected = try Self.read(
            text,
            ReferenceMixture(
                Models.weights, inOrderOf: setting.ranks, rounding: { BFloat16($0).float }))
        #expect(found.routes == expected.routes)
        // Bit by bit.
        #expect(found.logits == expected.logits)
    }

    @Test(arguments: settingsOfFourRanks)
    func rowsOfFloat32AreRoundedNowhere(_ setting: Setting) async throws {
        var setting = setting
        setting.rowType = .float32
        let text = Self.texts[0]
        let found = try await Self.readOnRanks(text, setting)
        let expected = try Self.read(text, ReferenceMixture(Models.weights))
        #expect(found.routes == expected.routes)
        #expect(found.logits == expected.logits)
    }

    /// What even errors of the same size do to the logits behind a text.
    struct Deviations: Sendable {
        let exact: Outcome
        /// Of each position whose rows went to the same experts often enough.
        let standard: [Double]
    }

    static let deviations = texts.map { text in Task { try deviations(of: text) } }

    private static func deviations(of text: String) throws -> Deviations {
        let topK = Models.weights.configuration.expertsPerToken
        let exact = try Self.read(text, ReferenceMixture(Models.weights))
        var generator = SeededGenerator(for: "bf16, \"\(text.prefix(20))\"")
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
        let enough = drawn.prefix { $0 >= draws / 3 }
        return Deviations(
            exact: exact,
            standard: zip(squares, enough).map { ($0 / Double($1)).squareRoot() })
    }

    @Test(arguments: texts.indices, settingsOfFourRanks)
    func logitsStayWithinEightStandardDeviations(_ index: Int, _ setting: Setting) async throws {
        let deviations = try await Self.deviations[index].value
        let exact = deviations.exact
        let found = try await Self.readOnRanks(Self.texts[index], setting)
        let positions = min(
            exact.common(with: found, topK: Models.weights.configuration.expertsPerToken),
            deviations.standard.count)
        #expect(positions > 5)
        var (largest, bound) = (0.0, 0.0)
        for position in 0..<positions {
            let deviation = deviations.standard[position]
            let difference =
                zip(exact.logits[position], found.logits[position]).map {
                    Double(abs($0 - $1))
                }.max() ?? .infinity
            #expect(difference <= 8 * deviation)
            (largest, bound) = (max(largest, difference), max(bound, 8 * deviation))
        }
        print(
            "bf16, \(setting.testDescription): \(positions) of \(exact.logits.count) positions, logits"
                + " differ by \(largest) at most, bounds up to \(bound)")
    }
}

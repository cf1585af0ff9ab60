import Logging
import MoriEP
import Testing

import MoEModel
import MoEServing

/// The ranks beside one process without MoriEP.
@Suite(.serialized) struct RankTests {
    static let prompts = [
        "This program is free software", "", "Permission to use, copy, modify", "x",
        "      Copyright (C) ", "1. Definitions.\n", "GNU", "THE SOFTWARE IS PROVIDED \"AS IS\"",
        "The licenses for most software", "You may not", "Preamble\n\n",
    ]

    /// What comes of all prompts at once, with temperatures.
    static func texts(_ options: EngineOptions) async throws -> [[UInt8]] {
        let engine = try await Engine.start(
            model: Models.file, options, logger: Logger(label: "test"))
        let texts = try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
            for (index, prompt) in prompts.enumerated() {
                group.addTask {
                    let text = try await engine.complete(
                        CompletionParameters(
                            prompt: Array(prompt.utf8), maxTokens: 20 + 5 * index,
                            temperature: index % 2 == 0 ? 0 : 0.9, seed: UInt64(index)))
                    return (index, text)
                }
            }
            return try await group.reduce(into: [Int: [UInt8]]()) { $0[$1.0] = $1.1 }
        }
        await engine.stop()
        return prompts.indices.map { texts[$0] ?? [] }
    }

    static let expected = Task { try await texts(EngineOptions(.reference)) }

    @Test(arguments: [1, 2, 4, 8])
    func everyNumberOfRanksGivesTheTokensOfOneProcess(_ ranks: Int) async throws {
        let expected = try await Self.expected.value
        #expect(expected.contains { $0.count >= 20 })
        #expect(try await Self.texts(EngineOptions(.threads(ranks))) == expected)
    }

    @Test(arguments: [KernelType.asyncLL, .interNodeV1LL])
    func ranksOfTwoNodesGiveThemToo(_ kernel: KernelType) async throws {
        var options = EngineOptions(.threads(4))
        options.ranksPerNode = 2
        options.decodeKernel = kernel
        #expect(try await Self.texts(options) == Self.expected.value)
    }

    @Test func ranksThatDoNotDivideTheExpertsGiveThemToo() async throws {
        var options = EngineOptions(.threads(3))
        // Fewer places than requests: some wait, and join when others leave.
        options.batch = 5
        #expect(try await Self.texts(options) == Self.expected.value)
    }

    @Test func aRequestThatIsCancelledLeavesTheBatch() async throws {
        let engine = try await Engine.start(
            model: Models.file, EngineOptions(.threads(2)), logger: Logger(label: "test"))
        let (id, updates) = try engine.board.submit(
            CompletionParameters(prompt: [65], maxTokens: 500))
        for await _ in updates { break }
        engine.board.cancel(id)
        #expect(engine.board.status.running == 0)
        // And the batch goes on.
        let text = try await engine.complete(CompletionParameters(prompt: [65], maxTokens: 8))
        #expect(text.count <= 8)
        await engine.stop()
    }

    @Test func requestsThatNoSequenceHasRoomForAreRefusedAndHoldNobodyUp() async throws {
        let engine = try await Engine.start(
            model: Models.file, EngineOptions(.threads(2)), logger: Logger(label: "test"))
        let context = engine.configuration.context
        for (promptBytes, maxTokens) in [
            (context, 1), (context + 1, 1), (10 * context, 1), (context - 1, 2), (0, context + 1),
            (0, .max), (1, .max), (1, 0), (1, -1), (1, .min),
        ] {
            let refusal = RequestBoard.Refusal.doesNotFit(
                promptBytes: promptBytes, maxTokens: maxTokens, context: context)
            #expect(throws: refusal) {
                try engine.board.submit(
                    CompletionParameters(
                        prompt: Array(repeating: 65, count: promptBytes), maxTokens: maxTokens))
            }
        }
        // The longest that fit, and others behind them.
        for (promptBytes, maxTokens) in [(context - 1, 1), (context - 8, 8), (1, 4)] {
            let text = try await engine.complete(
                CompletionParameters(
                    prompt: Array(repeating: 65, count: promptBytes), maxTokens: maxTokens))
            #expect(text.count <= maxTokens)
        }
        await engine.stop()
    }

    @Test(arguments: [1, 2, 3, 5, 8, 13])
    func asManySequencesRunAsAreAskedFor(_ batch: Int) async throws {
        var options = EngineOptions(.threads(3))
        options.batch = batch
        let engine = try await Engine.start(
            model: Models.file, options, logger: Logger(label: "test"))
        #expect(engine.board.status.places == batch)
        let taken = try (0..<20).map { _ in
            try engine.board.submit(CompletionParameters(prompt: [65], maxTokens: 40)).updates
        }
        // While some wait, all places are taken; never are more than there are.
        var most = 0
        for updates in taken {
            for await _ in updates { most = max(most, engine.board.status.running) }
        }
        #expect(most == batch)
        await engine.stop()
    }

    @Test func anIdleEngineOfThreadsDoesNoSteps() async throws {
        let engine = try await Engine.start(
            model: Models.file, EngineOptions(.threads(2)), logger: Logger(label: "test"))
        _ = try await engine.complete(CompletionParameters(prompt: [65], maxTokens: 2))
        let steps = engine.board.status.steps
        try await Task.sleep(for: .milliseconds(1200))
        #expect(engine.board.status.steps == steps)
        await engine.stop()
    }

    @Test func requestsBeyondTheQueueAreRefusedAndTheOthersAnswered() async throws {
        var options = EngineOptions(.threads(2))
        (options.batch, options.queue) = (2, 3)
        let engine = try await Engine.start(
            model: Models.file, options, logger: Logger(label: "test"))
        var taken: [AsyncStream<RequestBoard.Update>] = []
        var refused = 0
        for _ in 0..<20 {
            do {
                taken.append(
                    try engine.board.submit(CompletionParameters(prompt: [65], maxTokens: 30))
                        .updates)
            } catch {
                #expect(error == .full(queue: 3))
                refused += 1
            }
        }
        #expect(refused > 0 && taken.count >= 3)
        for updates in taken {
            var last: RequestBoard.Update?
            for await update in updates { last = update }
            guard case .token(let event) = last else {
                Issue.record("ended with \(String(describing: last))")
                continue
            }
            #expect(event.finish != .none)
        }
        await engine.stop()
        #expect(throws: RequestBoard.Refusal.self) {
            try engine.board.submit(CompletionParameters(prompt: [], maxTokens: 1))
        }
    }

    @Test func aFileThatIsNoModelIsRefusedBeforeRanksBegin() async {
        await #expect(throws: SafetensorsFile.Invalid.self) {
            try await Engine.start(
                model: SafetensorsFile(SafetensorsTests.file("{}", [])), EngineOptions(.threads(2)),
                logger: Logger(label: "test"))
        }
    }

    @Test func stepMessagesComeBackAsTheyWere() throws {
        let message = StepMessage(
            plan: StepPlan(
                admissions: [
                    .init(
                        id: 7, rank: 3,
                        parameters: .init(
                            prompt: [1, 2, 3], maxTokens: 9, temperature: 0.5, seed: .max))
                ], cancellations: [1, .max], decodes: true, stops: true),
            events: [.init(id: 4, token: 65, finish: .length)])
        let bytes = message.bytes
        #expect(try StepMessage(bytes) == message)
        // Wherever it is cut, it is read as something shorter or refused.
        for length in 0..<bytes.count {
            #expect((try? StepMessage(Array(bytes[..<length]))) != message)
        }
    }
}

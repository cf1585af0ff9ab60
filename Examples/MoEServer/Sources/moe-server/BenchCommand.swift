import ArgumentParser
import MoEServing

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Tokens per second of the ranks beside one process without MoriEP, in turn.")

    @OptionGroup var options: ModelOptions

    @Option(help: "Tokens of each sequence, 1 to 400.")
    var tokens = 128

    @Option(help: "How often each is measured, 1 or more; the medians are printed.")
    var repeats = 7

    func validate() throws {
        guard (1...400).contains(tokens) else {
            throw ValidationError("--tokens is \(tokens); legal are 1 to 400")
        }
        guard repeats >= 1 else {
            throw ValidationError("--repeats is \(repeats); legal is 1 or more")
        }
        guard options.threads >= 1 else {
            throw ValidationError("--ranks is 0; legal here is 1 or more: 0 is measured beside it")
        }
        guard !ModelOptions.isLaunched else {
            throw ValidationError(
                "bench under a launcher would measure as many times at once; start it alone, with --ranks"
            )
        }
    }

    func run() async throws {
        let logger = ModelOptions.logger
        let file = try options.readModel()
        let reference = try await Engine.start(model: file, engine(ranks: 0), logger: logger)
        let ranks = try await Engine.start(
            model: file, engine(ranks: options.threads), logger: logger)
        // Once unmeasured: memory is touched, and both must say the same.
        let (_, expected) = try await measure(reference)
        let (_, found) = try await measure(ranks)
        let agrees = expected == found
        var rates: (reference: [Double], ranks: [Double]) = ([], [])
        for _ in 0..<repeats {
            rates.reference.append(try await measure(reference).rate)
            rates.ranks.append(try await measure(ranks).rate)
        }
        await reference.stop()
        await ranks.stop()
        let (one, many) = (median(rates.reference), median(rates.ranks))
        print(
            "batch \(options.batch), \(tokens) tokens each, \(options.rows.rawValue) rows,"
                + " medians of \(repeats)")
        print("one process without MoriEP: \(Int(one)) tokens/s")
        print(
            "\(options.threads) ranks: \(Int(many)) tokens/s, \(rounded(many / one)) of it;"
                + " texts \(agrees ? "are the same" : "differ")")
        // Rows of bf16 are rounded, and may lead to another token; rows of f32 may not.
        guard agrees || options.rows == .bf16 else { throw ExitCode.failure }
    }

    /// The whole batch is asked for at once, and must find room in the queue.
    private func engine(ranks: Int) -> EngineOptions {
        var engine = options.engine(ranks: ranks)
        engine.queue = max(engine.queue, options.batch)
        engine.referenceRanks = options.threads
        return engine
    }

    /// Lets a full batch run from its prompts to its ends.
    private func measure(_ engine: Engine) async throws -> (rate: Double, texts: [[UInt8]]) {
        let begin = ContinuousClock.now
        let texts = try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
            for index in 0..<options.batch {
                group.addTask {
                    let parameters = CompletionParameters(
                        prompt: Array("\(index). This License".utf8), maxTokens: tokens,
                        temperature: 0.7, seed: UInt64(index))
                    return (index, try await engine.complete(parameters))
                }
            }
            var texts = [[UInt8]](repeating: [], count: options.batch)
            for try await (index, text) in group { texts[index] = text }
            return texts
        }
        let made = texts.reduce(0) { $0 + $1.count }
        return (Double(made) / (ContinuousClock.now - begin).seconds, texts)
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
}

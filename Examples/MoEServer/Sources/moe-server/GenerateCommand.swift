import ArgumentParser
import MoEServing

struct GenerateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Continue a prompt, without a server.")

    @OptionGroup var options: ModelOptions

    @Option(help: "Tokens to make, 1 or more.")
    var tokens = 64

    @Option(help: "0: always the likeliest.")
    var temperature: Float = 0

    @Option(help: "Where random choices begin.")
    var seed: UInt64 = 0

    @Argument(help: "The text to continue.")
    var prompt: String

    func validate() throws {
        guard tokens >= 1 else {
            throw ValidationError("--tokens is \(tokens); legal is 1 or more")
        }
        guard temperature >= 0 else {
            throw ValidationError("--temperature is \(temperature); legal is 0 or more")
        }
    }

    func run() async throws {
        let engine = try await Engine.start(
            model: options.model, options.engine(), logger: ModelOptions.logger)
        guard engine.serves else { return try await engine.run() }
        let prompt = Array(prompt.utf8)
        guard prompt.count + tokens <= engine.configuration.context else {
            await engine.stop()
            throw ValidationError(
                "a prompt of \(prompt.count) bytes and \(tokens) tokens; legal are"
                    + " \(engine.configuration.context) together")
        }
        let bytes = try await engine.complete(
            CompletionParameters(
                prompt: prompt, maxTokens: tokens, temperature: temperature, seed: seed))
        print(String(decoding: bytes, as: UTF8.self))
        await engine.stop()
    }
}

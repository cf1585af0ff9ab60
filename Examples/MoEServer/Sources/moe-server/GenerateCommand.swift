import ArgumentParser
import MoEModel
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
        let file = try options.readModel()
        let parameters = CompletionParameters(
            prompt: Array(prompt.utf8), maxTokens: tokens, temperature: temperature, seed: seed)
        try check(parameters, try ModelConfiguration(file.metadata))
        let engine = try await Engine.start(
            model: file, options.engine(), logger: ModelOptions.logger)
        guard engine.serves else { return try await engine.run() }
        let bytes = try await engine.complete(parameters)
        print(String(decoding: bytes, as: UTF8.self))
        await engine.stop()
    }

    /// Before ranks begin, and on all of them alike.
    private func check(_ parameters: CompletionParameters, _ c: ModelConfiguration) throws {
        let bytes = parameters.prompt.count
        guard bytes < c.context else {
            throw ValidationError(
                "the prompt has \(bytes) bytes; legal are up to \(c.context - 1), because prompt and"
                    + " completion share a context of \(c.context)")
        }
        guard tokens <= c.context - bytes else {
            throw ValidationError(
                "--tokens is \(tokens); behind this prompt of \(bytes) bytes legal are 1 to"
                    + " \(c.context - bytes)")
        }
    }
}

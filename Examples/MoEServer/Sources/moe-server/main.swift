import Foundation
import Logging
import MoEModel
import MoEServing

let options = CommandLine.arguments
var engineOptions = EngineOptions(options[2] == "0" ? .reference : .threads(Int(options[2])!))
if options.count > 5 { engineOptions.batch = Int(options[5])! }
let engine = try await Engine.start(model: options[1], engineOptions, logger: Logger(label: "x"))
let start = ContinuousClock.now
let streams = try (0..<Int(options[4])!).map { _ in
    try engine.board.submit(
        CompletionParameters(prompt: Array("This program is free software".utf8), maxTokens: Int(options[3])!)).updates
}
var texts: [[UInt8]] = []
for stream in streams {
    var bytes: [UInt8] = []
    for await update in stream {
        switch update {
        case .token(let event): bytes.append(event.token)
        case .failed(let reason): print("failed", reason)
        }
    }
    texts.append(bytes)
}
let time = ContinuousClock.now - start
print(Set(texts).count, String(decoding: texts[0], as: UTF8.self), time, engine.board.status)
await engine.stop()

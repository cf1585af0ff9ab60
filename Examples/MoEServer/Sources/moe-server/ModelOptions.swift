import ArgumentParser
import Foundation
import Logging
import MoEServing
import MoriEP

/// Options of every command.
struct ModelOptions: ParsableArguments {
    @Option(help: "The model's safetensors file.")
    var model = "Model/model.safetensors"

    @Option(help: "Ranks, as threads of this process, 1 to 64; 0: one thread without MoriEP.")
    var ranks = 4

    @Option(help: "How rows travel to experts: f32 or bf16.")
    var rows = Rows.f32

    @Option(help: "Sequences that run at the same time, on all ranks together, 1 to 1024.")
    var batch = 16

    @Option(help: "Ranks of a node; fewer than all lets the others go over the network.")
    var ranksPerNode: Int?

    @Option(help: "What moves rows while decoding: async-ll or internode-v1ll.")
    var decode = Decode.asyncLL

    enum Rows: String, ExpressibleByArgument, CaseIterable {
        case f32, bf16
    }

    enum Decode: String, ExpressibleByArgument, CaseIterable {
        case asyncLL = "async-ll"
        case interNodeV1LL = "internode-v1ll"
    }

    func validate() throws {
        guard (0...64).contains(ranks) else {
            throw ValidationError("--ranks is \(ranks); legal are 0 to 64")
        }
        guard (1...1024).contains(batch) else {
            throw ValidationError("--batch is \(batch); legal are 1 to 1024")
        }
        if let ranksPerNode, ranksPerNode < 1 {
            throw ValidationError("--ranks-per-node is \(ranksPerNode); legal are 1 to all ranks")
        }
    }

    /// Whether a launcher started this process as one of several ranks.
    static var isLaunched: Bool {
        ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"].contains {
            ProcessInfo.processInfo.environment[$0] != nil
        }
    }

    /// The options of an engine of so many ranks; nil: those asked for.
    func engine(ranks: Int? = nil) -> EngineOptions {
        let count = ranks ?? self.ranks
        var options = EngineOptions(
            ranks == nil && Self.isLaunched
                ? .launched : count == 0 ? .reference : .threads(count))
        options.batch = batch
        options.rowType = rows == .f32 ? .float32 : .bfloat16
        options.ranksPerNode = ranksPerNode
        options.decodeKernel = decode == .asyncLL ? .asyncLL : .interNodeV1LL
        return options
    }

    /// Notices and worse, on standard error.
    static var logger: Logger {
        var logger = Logger(label: "moe-server") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .notice
        return logger
    }
}

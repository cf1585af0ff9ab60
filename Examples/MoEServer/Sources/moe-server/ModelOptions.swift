import ArgumentParser
import Foundation
import Logging
import MoEModel
import MoEServing
import MoriEP

/// Options of every command.
struct ModelOptions: ParsableArguments {
    @Option(help: "The model's safetensors file.")
    var model = "Model/model.safetensors"

    @Option(
        help: """
            Ranks, as threads of this process, 1 to 64, else 4; 0: one thread without MoriEP. Under a \
            launcher each process is a rank; given there, it must be their number.
            """)
    var ranks: Int?

    @Option(help: "How rows travel to experts: f32 or bf16.")
    var rows = Rows.f32

    @Option(help: "Sequences that run at the same time, on all ranks together, 1 to 1024.")
    var batch = 16

    @Option(
        help:
            "Ranks of a node, 1 to all, else all; fewer lets rows between nodes go over the network."
    )
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
        if let ranks, !(0...64).contains(ranks) {
            throw ValidationError("--ranks is \(ranks); legal are 0 to 64")
        }
        guard (1...1024).contains(batch) else {
            throw ValidationError("--batch is \(batch); legal are 1 to 1024")
        }
        // How many ranks a launcher started is known once they have met (Engine.start).
        if let ranksPerNode, !Self.isLaunched, !(1...max(threads, 1)).contains(ranksPerNode) {
            throw ValidationError(
                "--ranks-per-node is \(ranksPerNode); legal are 1 to the number of ranks, \(threads)"
            )
        }
    }

    /// Ranks where no launcher starts them.
    var threads: Int { ranks ?? 4 }

    /// Whether a launcher started this process as one of several ranks.
    static var isLaunched: Bool {
        ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"].contains {
            ProcessInfo.processInfo.environment[$0] != nil
        }
    }

    /// The options of an engine of so many ranks; nil: those asked for.
    func engine(ranks: Int? = nil) -> EngineOptions {
        let count = ranks ?? threads
        var options = EngineOptions(
            ranks == nil && Self.isLaunched
                ? .launched : count == 0 ? .reference : .threads(count))
        options.launchedRanks = self.ranks
        options.batch = batch
        options.rowType = rows == .f32 ? .float32 : .bfloat16
        options.ranksPerNode = ranksPerNode
        options.decodeKernel = decode == .asyncLL ? .asyncLL : .interNodeV1LL
        return options
    }

    /// What is in the file.
    func readModel() throws -> SafetensorsFile { try SafetensorsFile(path: model) }

    /// Notices and worse, on standard error.
    static var logger: Logger {
        var logger = Logger(label: "moe-server") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .notice
        return logger
    }
}

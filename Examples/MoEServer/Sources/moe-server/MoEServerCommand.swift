import ArgumentParser

@main
struct MoEServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "moe-server",
        abstract: "A mixture-of-experts language model whose experts are spread over ranks.",
        discussion: """
            Under a launcher (torchrun, mpirun, srun, `mori-ep launch`) each process is a rank, and rank 0 \
            serves. Started alone, it is all ranks, as threads.
            """,
        subcommands: [ServeCommand.self, GenerateCommand.self, BenchCommand.self],
        defaultSubcommand: ServeCommand.self)
}

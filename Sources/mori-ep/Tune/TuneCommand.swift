import ArgumentParser
import FoundationEssentials
import Glibc
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOptions
import MoriShmem

/// `mori-ep tune`: the fastest blocks and warps for a shape on this machine, as rules that AUTO reads.
struct TuneCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tune",
        abstract: "Searches the fastest blocks and warps for a shape, and writes tuning rules.",
        discussion: """
            Runs rounds of dispatch and combine with many launches, for each number of tokens, and \
            keeps the launch without rules unless another one is faster by more than the measurements \
            vary. MORI_EP_LAUNCH_CONFIG_MODE=AUTO reads the file that MORI_EP_TUNING_CONFIG names. The \
            ranks are threads of this program, or the launcher's where one started it: mori-ep launch \
            -n 8 -- mori-ep tune --output rules.json
            """)

    @Option(help: "Write the rules there; a file that is there is replaced.")
    var output: String

    @Option(
        help: ArgumentHelp(
            "Kernels: \(OptionTypes.legalKernels).",
            valueName: "name"),
        transform: OptionTypes.kernel)
    var kernel: KernelType = .intraNode

    @Option(
        help: "Ranks. (default: 8, or the launcher's)",
        transform: OptionTypes.ranks)
    var ranks: Int?

    @Option(
        help: "Ranks of a node. (default: all, or the launcher's)",
        transform: OptionTypes.ranks)
    var gpusPerNode: Int?

    @Option(
        help: "Tokens of each rank: a list, for each of which there are rules.",
        transform: TokenCounts.parse)
    var tokens: TokenCounts = TokenCounts(values: [1, 8, 32, 128, 512])

    @Option(
        help: "Elements of a token.",
        transform: OptionTypes.count)
    var hidden: Int = 7168

    @Option(
        help: "Experts at each rank.",
        transform: OptionTypes.count)
    var expertsPerRank: Int = 32

    @Option(
        help: "Experts of a token.",
        transform: OptionTypes.count)
    var topk: Int = 8

    @Option(
        help: "Element type of dispatched tokens: \(OptionTypes.legalTokenTypes).",
        transform: OptionTypes.tokenType)
    var dispatchType: ElementType = .bfloat16

    @Option(
        help: "Element type of combined tokens. (default: the same)",
        transform: OptionTypes.tokenType)
    var combineType: ElementType?

    @Option(
        help: ArgumentHelp(
            "How combine's rows travel: \(OptionTypes.legalQuantizations).", valueName: "name"),
        transform: OptionTypes.quantization)
    var quantization: CombineQuantization = .none

    @Option(
        help: "Rounds in which the best launch meets the one without rules, 3 or more.",
        transform: { try OptionTypes.wholeNumber($0, 3...Int.max) })
    var rounds: Int = 21

    @Option(
        help: "What the routing depends on.",
        transform: OptionTypes.seed)
    var seed: UInt64 = 1

    @Option(help: "Who measured, in words, for the file. (default: the device's name)")
    var origin: String?

    func validate() throws {
        var written = WrittenFiles()
        try written.add(output, option: "--output")
    }

    func run() async throws {
        // The search says the launch of each call itself.
        unsafe setenv("MORI_EP_LAUNCH_CONFIG_MODE", "MANUAL", 1)
        do {
            let report: TuneReport?
            if try LauncherEnvironment() != nil {
                report = try await tune(.join(.environment))
            } else {
                report = try await tuneThreads()
            }
            guard let report else { return }
            Console.print(report.text)
            try report.document(origin: origin ?? "measured by mori-ep tune").write(to: output)
            Console.print(
                "\nwritten: \(output)\nuse it: MORI_EP_LAUNCH_CONFIG_MODE=AUTO"
                    + " MORI_EP_TUNING_CONFIG=\(output)\n")
        } catch {
            Console.error("mori-ep tune: \(error)\n")
            throw ExitCode.failure
        }
    }

    /// All ranks as tasks of this process.
    private func tuneThreads() async throws -> TuneReport? {
        let worlds = try await SymmetricMemory.local(worldSize: ranks ?? 8)
        return try await withThrowingTaskGroup(of: TuneReport?.self) { group in
            for world in worlds { group.addTask { try await tune(world) } }
            var report: TuneReport?
            for try await result in group { report = result ?? report }
            return report
        }
    }

    /// This rank's part; the report on rank 0.
    private func tune(_ world: SymmetricMemory) async throws -> TuneReport? {
        do {
            if let ranks, ranks != world.worldSize {
                throw MoriError(
                    .invalidArgument,
                    "--ranks is \(ranks), and the launcher started \(world.worldSize); leave --ranks"
                        + " out to take the launcher's")
            }
            let report = try await TuneRun(self, in: world).run()
            try await world.close()
            return world.rank == 0 ? report : nil
        } catch {
            // The others need not wait for a rank that gave up.
            if world.fault == nil { world.abort("\(error)") }
            try? await world.close()
            throw error
        }
    }
}

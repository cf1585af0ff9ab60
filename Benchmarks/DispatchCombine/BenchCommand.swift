import ArgumentParser
import Glibc
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOptions
import MoriShmem

/// `bench-dispatch-combine`: verified rounds of dispatch and combine, and how fast they are.
@main
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-dispatch-combine",
        abstract: "Measures dispatch and combine next to the memory roofline of the same run.",
        discussion: """
            Starts its own ranks, as processes or threads of this machine, or joins the world of \
            the launcher that started it (mori-ep launch, torchrun, mpirun, srun). Without \
            --zero-copy, every combine mode that makes a difference is measured, and the JSON \
            reports the external one first.
            """)

    @Option(
        help: ArgumentHelp(
            "Kernels: \(KernelType.allCases.map(\.description).joined(separator: ", ")).",
            valueName: "name"),
        transform: OptionTypes.kernel)
    var kernel: KernelType = .intraNode

    @Option(
        help: "Ranks. (default: 8, or the launcher's)",
        transform: OptionTypes.ranks)
    var ranks: Int?

    @Option(
        help:
            "Ranks of a node, the last of which may have fewer. (default: all, or the launcher's)",
        transform: OptionTypes.ranks)
    var gpusPerNode: Int?

    @Option(
        help: "Queue pairs to each peer, for the inter-node kernels.",
        transform: OptionTypes.count)
    var queuePairs: Int = 1

    @Option(help: "What the ranks are, process or thread. (default: process)")
    var world: WorldKind = .process

    @Option(help: "auto, host, amd, nvidia or emulated. (default: MORI_EP_DEVICE, else auto)")
    var device: DeviceChoice?

    @Option(
        help: "Tokens of each rank, 0 or more.",
        transform: OptionTypes.countOrZero)
    var tokens: Int = 4096

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

    @Flag(
        help: "Dispatch bf16 tokens, which are quantized on their way to --dispatch-type, an fp8.")
    var quantizeDispatch = false

    @Option(
        help: ArgumentHelp(
            "How combine quantizes bf16 rows on their way: \(OptionTypes.legalQuantizations).",
            valueName: "scheme"),
        transform: OptionTypes.quantization)
    var quantization: CombineQuantization = .none

    @Option(
        help: "Elements that share a scale where something is quantized: 32, 64, 128 or 256.",
        transform: OptionTypes.quantizationBlock)
    var quantizationBlock: Int = 128

    @Option(
        help: ArgumentHelp(
            "random, round-robin, skewed, all-to-one, spread, or a JSON file: [ranks][tokens * topk]"
                + " expert ids.", valueName: "pattern"))
    var routing: String = "random"

    @Flag(help: "Combine from the registered buffer, which peers read in place.")
    var zeroCopy = false

    @Option(
        help: "Timed rounds.",
        transform: OptionTypes.count)
    var iterations: Int = 10

    @Option(
        help: "Rounds before the timed ones. (default: until all peers' pages are known, 3 to 24)",
        transform: OptionTypes.countOrZero)
    var warmup: Int?

    @Flag(inversion: .prefixedNo, help: "Compare a whole round with the oracle, bit for bit.")
    var verify = true

    @Option(
        help: "What tokens, weights and routing depend on.",
        transform: OptionTypes.seed)
    var seed: UInt64 = 1

    @Option(
        help: "Seconds that a round may wait for a rank. (default: MORI_EP_TIMEOUT, else 30)",
        transform: { try OptionTypes.seconds($0, 0.001...1e6) })
    var timeout: Double?

    @Option(help: ArgumentHelp("Write the results there, as one object.", valueName: "file"))
    var json: String?

    @Option(
        help: ArgumentHelp(
            "Write a trace of the timed rounds there, of the first way to combine: for ui.perfetto.dev"
                + " and mori-ep trace report.", valueName: "file"))
    var trace: String?

    @Option(
        help: ArgumentHelp(
            "Run the rounds that are asked for through the FIFO PREFIX.requests.RANK and tell their"
                + " times through PREFIX.answers.RANK, instead of --iterations; only in a"
                + " launcher's world.", valueName: "prefix"))
    var roundRequests: String?

    /// Set by this program for the ranks that it starts: they report to it instead of the user.
    @Flag(help: .private)
    var worker = false

    func validate() throws {
        var written = WrittenFiles()
        try written.add(trace, option: "--trace")
        try written.add(json, option: "--json")
        guard trace == nil || roundRequests == nil else {
            throw ValidationError(
                "--trace is for timed rounds, and --round-requests has none; legal is either")
        }
    }

    func run() async throws {
        do {
            try Lifeline.watch()
            // Before anything reads it: the library knows the variable only.
            if let device { unsafe setenv("MORI_EP_DEVICE", device.rawValue, 1) }
            let launched = world == .process ? try LauncherEnvironment() : nil
            let settings = try BenchSettings(self, launched: launched)
            if worker {
                guard await Ranks.work(settings) else { throw ExitCode.failure }
                return
            }
            let result: BenchResult?
            if launched != nil {
                result = try await Ranks.join(settings)
            } else if world == .thread {
                result = try await Ranks.threads(settings)
            } else {
                result = try await Ranks.processes(settings)
            }
            guard let result else { return }
            Console.print(Report(result).text)
            if let json { try result.write(to: json) }
        } catch let code as ExitCode {
            throw code
        } catch let failure as BenchFailure {
            for line in failure.lines { Console.error("bench-dispatch-combine: \(line)\n") }
            throw ExitCode.failure
        } catch {
            Console.error("bench-dispatch-combine: \(error)\n")
            throw ExitCode.failure
        }
    }
}

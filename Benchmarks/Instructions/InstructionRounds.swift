import Glibc
import MoriEP
import MoriLauncher

/// Rounds of a fixed shape, for an instruction counter to look at: no clock, no output.
///
/// Four ranks as threads of one process dispatch and combine 128 tokens of 1024 bf16, top-4 of 16
/// experts; `bench-instructions 512 7168 traced` so many tokens of so many elements, with a trace. Its
/// main function is no async one, because that ends the main thread, which valgrind does
/// not survive.
@main
struct InstructionRounds {
    static let ranks = 4
    static let tokens = number(1) ?? 128
    static let hidden = number(2) ?? 1024
    static let isTraced = CommandLine.arguments.dropFirst(3).first == "traced"
    static let topK = 4
    static let expertsPerRank = 4
    static let rounds = 8

    /// An argument.
    private static func number(_ place: Int) -> Int? {
        CommandLine.arguments.dropFirst(place).first.flatMap { Int($0) }
    }

    static func main() {
        let ended = Ended()
        // Detached: a task of the main actor would wait for the main thread, which waits for it.
        Task.detached {
            do {
                let worlds = try await SymmetricMemory.local(worldSize: ranks)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for world in worlds { group.addTask { try await run(world) } }
                    try await group.waitForAll()
                }
                ended.signal(0)
            } catch {
                Console.error("bench-instructions: \(error)\n")
                ended.signal(1)
            }
        }
        exit(ended.wait())
    }

    private static func run(_ world: SymmetricMemory) async throws {
        let op = try await EPDispatchCombineOp(
            EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: hidden, maxInputTokensPerRank: tokens,
                expertsPerRank: expertsPerRank, expertsPerToken: topK,
                launch: LaunchConfiguration(blocks: 1, warpsPerBlock: 1)), in: world)
        let stream = try DeviceStream(on: world.device)
        let rows = try DeviceTensor(
            [BFloat16](repeating: BFloat16(0.5), count: tokens * hidden), shape: [tokens, hidden],
            on: stream)
        let weights = try DeviceTensor(
            [Float](repeating: 0.25, count: tokens * topK), shape: [tokens, topK], on: stream)
        // Each token to two ranks, two experts at each.
        let indices = try DeviceTensor(
            (0..<tokens).flatMap { token in
                (0..<topK).map { Int32((token * 4 + $0 * 2) % (ranks * expertsPerRank)) }
            }, shape: [tokens, topK], on: stream)
        if isTraced { try op.startTrace(on: stream) }
        for _ in 0..<rounds {
            let received = try op.dispatch(rows, weights: weights, indices: indices, on: stream)
            let output = received.tokens
            _ = try op.combine(output, of: received, on: stream)
            try await stream.completion()
        }
        try await op.close()
        try await world.close()
    }
}

/// Where the main thread waits for the end.
@safe
private final class Ended: @unchecked Sendable {
    private let semaphore: UnsafeMutablePointer<sem_t>
    private var status: Int32 = 1

    init() {
        unsafe semaphore = .allocate(capacity: 1)
        unsafe sem_init(semaphore, 0, 0)
    }

    deinit { unsafe semaphore.deallocate() }

    func signal(_ status: Int32) {
        self.status = status
        unsafe sem_post(semaphore)
    }

    /// Pairs with `signal`, which the task calls at its end in either case; the rounds in it have
    /// deadlines.
    func wait() -> Int32 {
        while unsafe sem_wait(semaphore) != 0 {}
        return status
    }
}

import Foundation
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// Whatever can wait is known, and what ends it.
@Suite struct WaitTests {
    private static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: repository.appending(path: path), encoding: .utf8)
    }

    /// What a line that waits has in it; expressions are slow.
    private static let words = [
        "FUTEX_WAIT", "cond_", ".wait(", "withChecked", "await ", "shutdownGracefully", "sleep",
        "sched_yield", "waitpid", "poll(", "relax", "nap(", "ynchronize", "while", "for (",
    ]

    /// What blocks, suspends, or turns in a loop that only a `return` or `break` ends.
    private static func waits(in line: Substring) -> Bool {
        guard words.contains(where: { line.contains($0) }) else { return false }
        return line.contains(
            /FUTEX_WAIT\b|cond_wait|cond_timedwait|\w\.wait\(lock|withChecked(Throwing)?Continuation/
        )
            || line.contains(/await .*(\.get\(\)|\.value\b)|shutdownGracefully|Task\.sleep/)
            || line.contains(
                /usleep\(|nanosleep\(|sched_yield\(|waitpid\(|[^.\w]poll\(&|Glibc\.poll\(/)
            || line.contains(
                /(machine|host)::(relax|nap)\(|^relax32\(|\w\.synchronize\(\)|GPU_TRY\(\w*Synchronize/
            )
            || line.contains(/while true|while \(true\)|for \(;;\)|for \(int (turn|at) = 0;;/)
    }

    /// The files of a folder that are compiled.
    private static func sources(_ folder: String) throws -> [String] {
        let root = repository.appending(path: folder).path
        let names = try #require(FileManager.default.enumerator(atPath: root))
        return names.compactMap { $0 as? String }.filter { name in
            [".swift", ".h", ".c", ".cpp"].contains { name.hasSuffix($0) }
        }.map { "\(folder)/\($0)" }
    }

    /// docs/reliability.md lists every place that waits, with what ends the wait.
    @Test func everyWaitIsListedWithWhatEndsIt() throws {
        var found: [String: Int] = [:]
        for file in try Self.sources("Kernels") + Self.sources("Sources") {
            let lines = try Self.text(file).split(separator: "\n")
                .map { $0.trimmingPrefix { $0 == " " } }
                .filter { !$0.hasPrefix("//") && !$0.hasPrefix("*") }
            let count = lines.count { Self.waits(in: $0) }
            if count > 0 { found[file] = count }
        }
        var listed: [String: Int] = [:]
        let document = try Self.text("docs/reliability.md")
        for row in document.matches(of: /\| `((?:Kernels|Sources)\/\S+)` \| (\d+) \| (.+) \|/) {
            listed[String(row.1), default: 0] += Int(row.2) ?? 0
            #expect(row.3.count > 10, "\(row.1): what ends it?")
        }
        for (file, count) in found.sorted(by: { $0.key < $1.key }) {
            #expect(
                listed[file] == count,
                """
                \(file) waits in \(count) places, docs/reliability.md lists \(listed[file] ?? 0): \
                say there what ends each
                """)
        }
        for file in listed.keys.sorted() where found[file] == nil {
            Issue.record("docs/reliability.md lists waits of \(file), which has none")
        }
        #expect(found.count > 10)
    }

    /// Kernels wait in one place, which has the deadline.
    @Test func kernelsWaitInOneFunction() throws {
        for file in try Self.sources("Kernels")
        where !file.hasPrefix("Kernels/Runtime") && !file.hasPrefix("Kernels/Device") {
            let text = try Self.text(file)
            let pauses = text.matches(of: /machine::relax\(/).count
            #expect(pauses == (file == "Kernels/Shmem/Signal.h" ? 1 : 0), "\(file) waits by itself")
            guard pauses > 0 else { continue }
            let begin = try #require(text.range(of: "Verdict awaitWord("))
            let end = try #require(text[begin.upperBound...].range(of: "\n}\n"))
            let wait = text[begin.lowerBound..<end.lowerBound]
            #expect(wait.contains("machine::relax("))
            #expect(wait.contains("verdict.waited >= timeout"))
            #expect(wait.contains("AbortWord::look("))
        }
    }
}

extension WorldTests.DeadlineTests {
    /// One rank stays away in one place; the phases in which the others then wait.
    private struct Absence {
        var kernel = KernelType.intraNode
        var ranks = 3
        var perNode = 3
        var absent = 2
        var order = ReceiveOrder.unspecified
        /// Whether it dispatches the failing round, and is missed in its combine.
        var dispatches = false
        /// Whether the round before was discarded.
        var discards = false
    }

    private static let absences: [Absence] = [
        Absence(), Absence(dispatches: true), Absence(discards: true),
        Absence(absent: 0, order: .source),
        Absence(kernel: .interNode, perNode: 1), Absence(kernel: .interNode, dispatches: true),
        Absence(kernel: .interNode, perNode: 1, discards: true),
        Absence(kernel: .asyncLL, perNode: 1),
        Absence(kernel: .asyncLL, perNode: 1, dispatches: true),
        Absence(kernel: .interNodeV1, ranks: 4, perNode: 2, absent: 3),
        Absence(kernel: .interNodeV1, ranks: 4, perNode: 2, absent: 3, dispatches: true),
        Absence(kernel: .interNodeV1LL, ranks: 4, perNode: 2, absent: 0, dispatches: true),
        Absence(kernel: .interNodeV1LL, ranks: 4, perNode: 2, absent: 2, discards: true),
    ]

    /// Every wait of every kernel for a peer, missed on purpose: it ends with an error that names the
    /// rank that stayed away, on all ranks, also where they waited for one another.
    @Test(.timeLimit(.minutes(5)))
    func everyPhaseEndsAtItsDeadlineAndNamesWhoStayedAway() async throws {
        var phases: Set<String> = []
        for absence in Self.absences {
            // On a busy machine, one that is there may come too late, and is then blamed as well.
            for (turn, deadline) in Patience.missed.enumerated() {
                let errors = try await Self.errors(absence, deadline)
                phases.formUnion(errors.compactMap(\.wait?.phase))
                let isRight = errors.allSatisfy { $0.ranks == [absence.absent] }
                if isRight { break }
                #expect(turn < Patience.missed.count - 1, "\(absence): \(errors)")
            }
        }
        print("waits that were missed: \(phases.sorted())")
        #expect(
            phases.isSuperset(of: [
                "dispatch begin", "dispatch order", "dispatch receive", "dispatch forward",
                "combine ready", "combine receive",
            ]), "\(phases)")
    }

    private static func errors(
        _ absence: Absence, _ deadline: Duration
    ) async throws -> [MoriError] {
        let routes = Routes(
            Workload(
                worldSize: absence.ranks, tokens: (0..<absence.ranks).map { _ in 4 }, hidden: 8,
                topK: absence.ranks, expertsPerRank: 1, seed: 31))
        let round = RoundCase(routes.workload) {
            $0.kernelType = absence.kernel
            $0.devicesPerNode = min(absence.perNode, absence.ranks)
            $0.receiveOrder = absence.order
        }
        let worlds = try await failingWorld(absence.ranks)
        let gaveUp = Arrivals()
        let results = await onEveryRank(of: worlds) { world -> MoriError? in
            let op = try await EPDispatchCombineOp(round.config, in: world)
            let stream = try DeviceStream(on: world.device)
            func dispatch() throws -> DispatchOutput {
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                return try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
            }
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                isDiscarded: absence.discards)
            var received: DispatchOutput?
            if absence.dispatches {
                received = try dispatch()
                try await stream.completion()
            }
            try op.setTimeout(deadline, on: stream)
            try await stream.completion()
            try await world.barrier()
            if world.rank == absence.absent {
                try await gaveUp.wait(for: absence.ranks - 1)
                return nil
            }
            defer { gaveUp.arrive() }
            let start = ContinuousClock.now
            do {
                if let received = received.take() {
                    let tokens = received.tokens
                    _ = try op.combine(tokens, of: received, on: stream)
                } else {
                    try op.discard(dispatch())
                }
                try await stream.completion()
            } catch let error as MoriError {
                #expect(ContinuousClock.now - start < deadline + Patience.prompt)
                return error
            }
            throw Mismatch("rank \(world.rank) of \(absence) did not miss anybody")
        }
        try await close(worlds)
        return try results.compactMap { try $0.get() }
    }
}

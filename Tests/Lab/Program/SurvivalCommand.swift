import ArgumentParser
import Glibc
import MoriDevice
import MoriEP
import MoriOracle
import MoriShmem
import MoriTestSupport

/// `mori-lab survive`: some ranks die or stop in the middle of a round, and the others go on.
struct SurvivalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "survive",
        abstract: "Ranks that die or stop, named by the others, which recover and go on.",
        discussion: """
            Start one process a rank, with the variables of torchrun. Succeeds on a rank that goes \
            on when the error named exactly the victims and every round after the recovery equals \
            the oracle's, and on a victim that was resumed when its round was void. Each rank \
            prints "began" and "failed", both in nanoseconds of the machine's monotonic clock.
            """)

    /// What happens to a victim.
    enum Fault: String, ExpressibleByArgument {
        /// SIGKILL.
        case kill
        /// exit(0), without closing anything.
        case exit
        /// SIGSTOP; resumed when the others have gone on without it.
        case stop
        /// SIGSTOP; resumed when the others have failed, and all go on.
        case pause
    }

    /// When it happens, in a round of the victim.
    enum Moment: String, ExpressibleByArgument, CaseIterable {
        case beforeDispatch, duringDispatch, afterDispatch, duringCombine, afterCombine
    }

    @Option(help: "The kernels.") var kernel: String
    @Option(help: "Ranks of a node.") var perNode = 2
    @Option(help: "The ranks that it happens to, with commas.") var victims: String
    @Option(help: "kill, exit, stop or pause.") var fault: Fault
    @Option(help: "When.") var moment: Moment
    @Option(help: "Milliseconds that a wait of a round may take.") var deadline = 500

    private static let seed: UInt64 = 41

    func run() async throws {
        let victims = Set(victims.split(separator: ",").compactMap { Int($0) })
        let world = try await SymmetricMemory.join(.environment)
        do {
            try await run(victims, in: world)
        } catch {
            say("rank \(world.rank): WRONG: \(error)")
            throw ExitCode(1)
        }
    }

    /// Every rank has tokens, one more than a chunk of them.
    private func workload(_ round: Int, _ world: SymmetricMemory) -> Workload {
        Workload(
            worldSize: world.worldSize,
            tokens: (0..<world.worldSize).map { [6, 66, 3, 9][($0 + round) % 4] }, hidden: 24,
            topK: 4, expertsPerRank: 3, scaleDim: 2, seed: Self.seed + UInt64(round))
    }

    private func run(_ victims: Set<Int>, in world: SymmetricMemory) async throws {
        guard let type = KernelType.allCases.first(where: { $0.description == kernel }) else {
            throw ValidationError("no kernel \(kernel)")
        }
        var config = RoundCase(workload(0, world)).config
        config.maxInputTokensPerRank = 66
        config.kernelType = type
        config.devicesPerNode = perNode
        let op = try await EPDispatchCombineOp(config, in: world)
        let stream = try DeviceStream(on: world.device)
        for round in 0..<2 { try await check(round, with: op, on: stream) }
        let processes = try await world.allGather(Array("\(getpid())".utf8))
            .map { pid_t(String(decoding: $0, as: UTF8.self)) ?? 0 }
        try op.setTimeout(.milliseconds(deadline), on: stream)
        try await stream.completion()
        try await world.barrier()

        let isVictim = victims.contains(world.rank)
        if isVictim && moment != .afterCombine {
            let error = try await fall(with: op, on: stream)
            say("rank \(world.rank): resumed, and failed: \(error)")
        } else {
            let error = try await failingRound(isVictim, with: op, on: stream)
            say("rank \(world.rank): \(error)")
            // Of several that were killed, the first whose connection ended.
            let blamed = Set(error.ranks)
            guard isVictim || !blamed.isEmpty && blamed.isSubset(of: victims) else {
                throw Mismatch("ranks \(error.ranks) are blamed: \(error)")
            }
        }
        let (wakes, goOn) = (fault == .pause, Set(0..<world.worldSize))
        if wakes, !isVictim { for victim in victims { kill(processes[victim], SIGCONT) } }
        if isVictim && !wakes { return try await leave(op, world) }
        let lost = wakes ? [] : victims
        let active = goOn.subtracting(lost).sorted()
        let recovery = try await recover(active, victims, in: world)
        guard recovery.activeRanks == active, op.firstIncompleteRound != nil else {
            throw Mismatch("\(recovery)")
        }
        say("rank \(world.rank): goes on, first incomplete round \(op.firstIncompleteRound ?? -1)")
        for round in 10..<16 {
            // A rank that was left behind wakes up in the middle of the others' rounds.
            if round == 12, fault == .stop, world.rank == active[0] {
                for victim in victims { kill(processes[victim], SIGCONT) }
            }
            try await check(round, without: lost, with: op, on: stream)
        }
        try await op.close()
        try await world.close()
        say("rank \(world.rank): done")
    }

    /// Goes on; where several are lost it may be the attempt to go on that names the next.
    private func recover(
        _ active: [Int], _ victims: Set<Int>, in world: SymmetricMemory
    ) async throws -> Recovery {
        if victims.count > 1 {
            let first = active + [victims.min() ?? 0]
            do {
                try await world.recover(activeRanks: first, timeout: .milliseconds(500))
                throw Mismatch("a rank that was killed recovered")
            } catch let error as MoriError {
                say("rank \(world.rank): not with \(first): \(error)")
                guard error.ranks == [victims.min()] else { throw error }
            }
        }
        return try await world.recover(activeRanks: active)
    }

    /// A victim that was resumed in a world that went on without it.
    private func leave(_ op: EPDispatchCombineOp, _ world: SymmetricMemory) async throws {
        do {
            try await world.recover(
                activeRanks: Array(0..<world.worldSize), timeout: .milliseconds(500))
            throw Mismatch("it came back")
        } catch let error as MoriError {
            say("rank \(world.rank): cannot come back: \(error)")
        }
        try await op.close()
        try await world.close()
    }

    /// Rounds until one fails; a victim falls after the first.
    private func failingRound(
        _ isVictim: Bool, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws -> MoriError {
        for round in 2..<1000 {
            let began = nanoseconds()
            do {
                try await check(round, with: op, on: stream)
            } catch let error as MoriError {
                say("rank \(op.world.rank): began \(began) failed \(nanoseconds())")
                return error
            }
            if isVictim && round == 2 { raiseFault() }
        }
        throw Mismatch("nothing failed")
    }

    /// The victim's part of a round, up to its end; what it finds when it is resumed.
    private func fall(
        with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws -> MoriError {
        let routes = Routes(workload(2, op.world))
        let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
        try await stream.completion()
        do {
            if moment == .beforeDispatch { raiseFault() }
            let received = try op.dispatch(
                inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                indices: inputs.indices, on: stream)
            if moment == .duringDispatch { raiseFault() }
            let options = RoundOptions()
            let rows = try await checkReceived(
                received, routes, of: BFloat16.self, options: options, with: op, on: stream)
            let output = try ExpertOutput<BFloat16>(
                rows, routes, of: BFloat16.self, options: options, with: op, on: stream)
            try await stream.completion()
            if moment == .afterDispatch { raiseFault() }
            _ = try op.combine(output.tokens, of: received, weights: output.weights, on: stream)
            if moment == .duringCombine { raiseFault() }
            try await stream.completion()
            // Its own round may have been through: then the next one is void.
            try await check(3, with: op, on: stream)
        } catch let error as MoriError {
            return error
        }
        throw Mismatch("a victim's rounds went on")
    }

    private func raiseFault() {
        if fault == .exit { Glibc.exit(0) }
        // To this thread, which so does nothing more.
        raise(fault == .kill ? SIGKILL : SIGSTOP)
    }

    private func check(
        _ round: Int, without lost: Set<Int> = [], with op: EPDispatchCombineOp,
        on stream: DeviceStream
    ) async throws {
        try await checkRound(
            Routes(workload(round, op.world).without(lost)), of: BFloat16.self,
            combining: BFloat16.self, with: op, on: stream)
    }

    private func nanoseconds() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

import FoundationEssentials
import MoriDevice
import MoriEP
import MoriLauncher
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.TraceTests {
    /// A kernel type, on a grid of several blocks and warps.
    struct Case: Sendable, CustomTestStringConvertible {
        var kernelType: KernelType
        var launch = LaunchConfiguration(blocks: 2, warpsPerBlock: 2)
        var receiveOrder = ReceiveOrder.unspecified

        var testDescription: String {
            "\(kernelType), \(launch.blocks) x \(launch.warpsPerBlock), order \(receiveOrder)"
        }

        static let all: [Case] =
            KernelType.allCases.map { Case(kernelType: $0) } + [
                Case(kernelType: .intraNode, receiveOrder: .source),
                // Waits for each chunk in the grid itself.
                Case(
                    kernelType: .interNodeV1,
                    launch: LaunchConfiguration(blocks: 1, warpsPerBlock: 1)),
            ]
    }

    /// One word of one round.
    private struct Word: Hashable {
        var source: Int
        var target: Int
        var phase: Int
        var epoch: Int
        var index: Int
    }

    private func word(_ event: TraceText.Event, isSignal: Bool) throws -> Word {
        let details = try #require(event.args)
        let peer = try #require(details.peer)
        return Word(
            source: isSignal ? event.pid : peer, target: isSignal ? peer : event.pid,
            phase: try #require(details.phase), epoch: try #require(details.epoch),
            index: try #require(details.index))
    }

    /// Phases lie in each other, every wait ends by the signal of the peer that it names, and rows and
    /// choices of experts are those of the routing.
    @Test(.timeLimit(.minutes(1)), arguments: Case.all)
    func everyWaitEndsByASignalOfThePeerThatItNames(_ test: Case) async throws {
        let isBetweenNodes = test.kernelType != .intraNode
        guard !isBetweenNodes || InterNodeSupport.isBuilt else { return }
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            let workload = TracedRounds.workload(ranks: 4)
            let rounds = 4
            let exports = try await TracedRounds.take(
                path, ranks: 4,
                config: TracedRounds.config(
                    test.kernelType, launch: test.launch, receiveOrder: test.receiveOrder),
                workload: workload, rounds: rounds)
            #expect(exports.map(\.path) == [path, nil, nil, nil])
            #expect(
                exports.allSatisfy { $0.isMerged && $0.lostRecordCount == 0 && $0.eventCount > 0 })
            let trace = try TraceText(path)
            #expect(trace.moriEP.version == 1 && trace.moriEP.worldSize == 4)
            #expect(trace.moriEP.ranks.map(\.rank) == [0, 1, 2, 3])
            #expect(
                trace.moriEP.ranks.flatMap(\.operators).allSatisfy {
                    $0.lost == 0 && $0.mended == 0
                })
            #expect(trace.overlap == nil, "\(String(describing: trace.overlap))")

            let signals = trace.traceEvents.filter { $0.ph == "i" && $0.cat == "signal" }
            var sent: [Word: Int] = [:]
            for signal in signals {
                let word = try word(signal, isSignal: true)
                #expect(sent.updateValue(signal.begin, forKey: word) == nil, "two of \(word)")
            }
            let waits = trace.slices("peer")
            #expect(Set(waits.map(\.pid)) == [0, 1, 2, 3])
            #expect(Set(waits.compactMap(\.args?.epoch)) == Set(2...(rounds + 1)))
            for wait in waits {
                let word = try word(wait, isSignal: false)
                let time = try #require(sent[word], "nobody sent \(word)")
                // Each rank's clock is wrong by something.
                let slack =
                    trace.uncertainty(of: word.source) + trace.uncertainty(of: word.target)
                #expect(time <= wait.end + slack, "\(word) sent at \(time), seen at \(wait.end)")
            }
            let outgoing = Set(trace.traceEvents.filter { $0.ph == "s" }.compactMap(\.id))
            let incoming = trace.traceEvents.filter { $0.ph == "f" }.compactMap(\.id)
            #expect(incoming.count == waits.count && outgoing.isSuperset(of: incoming))

            // Every warp of every grid has a track.
            let names = trace.traceEvents.filter {
                $0.ph == "M" && $0.name == "thread_name" && $0.pid == 0
            }
            let warps = test.launch.blocks * test.launch.warpsPerBlock
            #expect(names.count == warps + 1 + (isBetweenNodes ? 2 : 0))

            if Emulator.isWanted {
                print("times of kernels are known to \((0..<4).map(trace.uncertainty)) ns")
            }
            checkPhases(trace, test, rounds: rounds)
            try checkSpans(trace, rounds: rounds)
            try checkCounts(trace, workload, rounds: rounds)
            if isBetweenNodes { try checkNetwork(trace) }
        }
    }

    /// Every launch of every round is there, once for each of its warps.
    private func checkPhases(_ trace: TraceText, _ test: Case, rounds: Int) {
        var warp = ["dispatch begin", "dispatch receive"]
        var grid = ["dispatch send", "combine send", "combine reduce"]
        switch test.kernelType {
        case .intraNode:
            warp.append("combine wait")
            if test.receiveOrder == .source {
                warp.append("dispatch order")
                grid.append("dispatch count")
            }
        case .interNodeV1, .interNodeV1LL:
            warp += ["combine wait", "combine receive"]
            grid += ["dispatch place", "dispatch forward", "combine forward", "combine own"]
            let warps = test.launch.blocks * test.launch.warpsPerBlock
            // GPUs await each chunk in the grid itself.
            if !Emulator.isWanted, warps > 1 { warp.append("dispatch await") }
        case .interNode, .asyncLL:
            warp.append("combine receive")
            grid.append("dispatch unpack")
        }
        let warps = test.launch.blocks * test.launch.warpsPerBlock
        var expected: [String: Int] = [:]
        for name in warp { expected[name] = rounds }
        for name in grid { expected[name] = rounds * warps }
        for rank in 0..<4 {
            let kernels = trace.slices("kernel").filter { $0.pid == rank }
            let found = Dictionary(grouping: kernels, by: \.name).mapValues(\.count)
            #expect(found == expected, "rank \(rank)")
        }
    }

    /// A round's kernels run after its call, and before that of the next one, which awaits them.
    private func checkSpans(_ trace: TraceText, rounds: Int) throws {
        for rank in 0..<4 {
            let calls = trace.slices("host").filter { $0.pid == rank && $0.name == "dispatch" }
                .map(\.begin).sorted()
            try #require(calls.count == rounds)
            let slack = trace.uncertainty(of: rank)
            for kernel in trace.slices("kernel", "wait", "peer") where kernel.pid == rank {
                // The round before the trace was the first.
                let round = try #require(kernel.args?.epoch) - 2
                let name = "\(kernel.name) of rank \(rank) in round \(round)"
                #expect(kernel.begin >= calls[round] - slack, "\(name)")
                guard round + 1 < rounds else { continue }
                #expect(kernel.end <= calls[round + 1] + slack, "\(name)")
            }
            let clock = trace.moriEP.ranks[rank].operators[0].deviceClock
            #expect((clock != nil) == Emulator.isWanted)
            if let clock { #expect(clock.comparisons == 2 && clock.roundTripNanoseconds > 0) }
        }
    }

    private func checkCounts(_ trace: TraceText, _ workload: Workload, rounds: Int) throws {
        let routes = Routes(workload)
        // A token goes once to each rank that hosts one of its experts.
        var received = Array(repeating: 0, count: 4)
        for rank in 0..<4 {
            for token in 0..<workload.tokens[rank] {
                let experts = routes.experts(rank: rank, token: token).filter { $0 >= 0 }
                for target in Set(experts.map { Int($0) / 3 }) { received[target] += 1 }
            }
        }
        for rank in 0..<4 {
            let rows = trace.traceEvents.filter {
                $0.cat == "rows" && $0.ph == "i" && $0.pid == rank
            }
            #expect(rows.count == rounds)
            #expect(rows.allSatisfy { $0.args?.rows == received[rank] })
            let own = try #require(trace.moriEP.ranks[rank].operators.first)
            var chosen = Array(repeating: 0, count: 12)
            for expert in routes.experts[rank] where expert >= 0 { chosen[Int(expert)] += rounds }
            #expect(own.chosen == chosen)
            #expect(own.expertRanks == (0..<12).map { $0 / 3 })
        }
        let calls = trace.slices("host").map(\.name)
        #expect(calls.count { $0 == "dispatch" } == 4 * rounds)
        #expect(calls.count { $0 == "combine" } == 4 * rounds)
    }

    private func checkNetwork(_ trace: TraceText) throws {
        let posts = trace.slices("proxy")
        #expect(!posts.isEmpty)
        let begins = trace.traceEvents.filter { $0.ph == "b" }
        var ends: [String: TraceText.Event] = [:]
        for event in trace.traceEvents where event.ph == "e" { ends[event.id ?? ""] = event }
        #expect(begins.count == posts.count && ends.count == begins.count)
        for begin in begins {
            let end = try #require(ends[begin.id ?? ""])
            #expect(begin.begin <= end.begin && begin.pid == end.pid)
            #expect(!begin.name.contains("not complete"))
            // Ranks 0 and 1 are a node, 2 and 3 the other.
            #expect(begin.args?.peer.map { $0 / 2 } != begin.pid / 2)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func halvesAreSeenAsTheCallsThatTheyAre() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            try TracedRounds.setClock()
            let routes = Routes(TracedRounds.workload(ranks: 2))
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                try op.startTrace(on: stream)
                let pending = try op.dispatchSend(
                    inputs.tokens, indices: inputs.indices, on: stream)
                let received = try op.dispatchReceive(pending, on: stream)
                let output = received.tokens
                let sums = try op.combineSend(output, of: received, on: stream)
                _ = try op.combineReceive(sums, on: stream)
                try await stream.completion()
                try await world.exportTrace(to: path)
                try await op.close()
            }
            let trace = try TraceText(path)
            #expect(trace.overlap == nil)
            for rank in 0..<2 {
                #expect(
                    trace.slices("host").filter { $0.pid == rank }.map(\.name)
                        == ["dispatchSend", "dispatchReceive", "combineSend", "combineReceive"])
            }
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func whatIsEnqueuedAfterTheEndIsNotSeenAndAnotherStartForgets() async throws {
        try await TracedRounds.inFolder { folder in
            try TracedRounds.setClock()
            let routes = Routes(TracedRounds.workload(ranks: 2))
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
                let stream = try DeviceStream(on: world.device)
                func rounds(_ count: Int) async throws {
                    for _ in 0..<count {
                        try await checkRound(
                            routes, of: BFloat16.self, combining: BFloat16.self, with: op,
                            on: stream)
                    }
                }
                let nothing = await #expect(throws: MoriError.self) {
                    try await world.exportTrace(to: folder + "/none.json")
                }
                #expect(nothing?.code == .invalidArgument)
                #expect(nothing?.message.contains("startTrace(on:)") == true)
                try await world.barrier()
                try op.startTrace(on: stream)
                try await rounds(2)
                try op.startTrace(on: stream)
                try await rounds(3)
                try op.stopTrace(on: stream)
                try await rounds(2)
                try await world.exportTrace(to: folder + "/trace.json")
                // It was stopped and has been exported: nothing holds it any more.
                await #expect(throws: MoriError.self) {
                    try await world.exportTrace(to: folder + "/again.json")
                }
                try await world.barrier()
                try await op.close()
            }
            let trace = try TraceText(folder + "/trace.json")
            #expect(Set(trace.slices("kernel").compactMap(\.args?.epoch)) == [3, 4, 5])
        }
    }

    /// A graph that was captured while rounds are recorded leaves records at each launch.
    @Test(.timeLimit(.minutes(1)))
    func replaysOfAGraphAreSeen() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            try TracedRounds.setClock()
            let routes = Routes(TracedRounds.workload(ranks: 2))
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
                let stream = try DeviceStream(on: world.device)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                try op.startTrace(on: stream)
                try await stream.completion()
                let graph = try stream.capture { () throws(MoriError) in
                    let received = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, on: stream)
                    let output = received.tokens
                    _ = try op.combine(output, of: received, on: stream)
                    let refusal = #expect(throws: MoriError.self) { try op.stopTrace(on: stream) }
                    #expect(refusal?.message.contains("captured") == true)
                }
                for _ in 0..<3 { try graph.launch(on: stream) }
                try await stream.completion()
                try await world.exportTrace(to: path)
                try await op.close()
            }
            let trace = try TraceText(path)
            #expect(trace.overlap == nil)
            #expect(Set(trace.slices("kernel").compactMap(\.args?.epoch)) == [1, 2, 3])
            #expect(trace.slices("host").count { $0.name == "dispatch" } == 2)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func recordsWithoutRoomAreCountedAndTheRestIsWhole() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            let exports = try await TracedRounds.take(
                path, ranks: 2, config: TracedRounds.config(),
                workload: TracedRounds.workload(ranks: 2, tokens: 4), rounds: 90, capacity: 1 << 10)
            #expect(exports.allSatisfy { $0.lostRecordCount > 0 })
            let trace = try TraceText(path)
            #expect(trace.overlap == nil)
            #expect(
                trace.moriEP.ranks.flatMap(\.operators).map(\.lost)
                    == exports.map(\.lostRecordCount))
            let ended = try await Programs.run("mori-ep", ["trace", "report", path])
            #expect(ended.exit.isSuccess, "\(ended.errors)")
            #expect(ended.output.contains("had no room for \(exports[0].lostRecordCount) records"))
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: [1023, 1 << 24 + 1, 0, -5])
    func aCapacityThatIsNoneSaysWhichAreLegal(_ capacity: Int) async throws {
        _ = try await withLocalWorld(1) { world in
            let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
            let stream = try DeviceStream(on: world.device)
            let error = #expect(throws: MoriError.self) {
                try op.startTrace(recordCapacity: capacity, on: stream)
            }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("\(capacity); legal are 1,024 to 16,777,216") == true)
            try await op.close()
        }
    }

    /// The ranks wait for one that never dispatches; nobody can meet afterwards.
    @Test(.timeLimit(.minutes(1)))
    func aFailedRoundIsSeenInFilesOfEachRank() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            let routes = Routes(TracedRounds.workload(ranks: 3))
            let worlds = try await SymmetricMemory.local(worldSize: 3)
            let exports = await onEveryRank(of: worlds) { world in
                let op = try await EPDispatchCombineOp(TracedRounds.config(), in: world)
                let stream = try DeviceStream(on: world.device)
                try op.startTrace(on: stream)
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
                try await world.barrier()
                if world.rank != 1 {
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, timeout: .milliseconds(200),
                        on: stream)
                    await #expect(throws: MoriError.self) { try await stream.completion() }
                    _ = consume received
                } else {
                    // It hears of the failure, which is all that it waits for.
                    for _ in 0..<500 where world.fault == nil {
                        try await Task.sleep(for: .milliseconds(10))
                    }
                }
                return try await world.exportTrace(to: path)
            }
            let written = try exports.map { try $0.get() }
            let paths = (0..<3).map { folder + "/trace-rank-\($0).json" }
            #expect(written.map(\.path) == paths)
            #expect(written.allSatisfy { !$0.isMerged })
            let waited = try TraceText(paths[0])
            #expect(waited.overlap == nil)
            #expect(waited.slices("gave up").contains { $0.args?.peer == 1 && $0.args?.epoch == 2 })
            let ended = try await Programs.run(
                "mori-ep", ["trace", "report"] + paths + ["--output", folder + "/page.html"])
            #expect(ended.exit.isSuccess, "\(ended.errors)")
            #expect(ended.output.contains("for rank 1"), "\(ended.output)")
            for world in worlds { try? await world.close() }
        }
    }

    @Test(.timeLimit(.minutes(2)))
    func processesWriteOneTrace() async throws {
        try await TracedRounds.inFolder { folder in
            let path = folder + "/trace.json"
            let ended = try await Programs.run(
                "bench-dispatch-combine",
                [
                    "--ranks", "4", "--tokens", "32", "--hidden", "256", "--experts-per-rank", "4",
                    "--topk", "4", "--iterations", "3", "--warmup", "0", "--trace", path,
                ])
            #expect(ended.exit.isSuccess, "\(ended.errors)")
            let trace = try TraceText(path)
            #expect(trace.moriEP.ranks.map(\.rank) == [0, 1, 2, 3])
            #expect(trace.overlap == nil)
            var sent: [String: Int] = [:]
            for event in trace.traceEvents where event.ph == "s" {
                sent[event.id ?? ""] = event.begin
            }
            let arrived = trace.traceEvents.filter { $0.ph == "f" }
            #expect(arrived.count == 3 * 4 * 4 * 2)
            for event in arrived {
                let time = try #require(sent[event.id ?? ""])
                // An end is drawn a nanosecond before the wait's.
                #expect(time <= event.begin + 1)
            }
        }
    }

    /// Off and on in turn, in one run: the machine's moods meet both. The median of pairs counts.
    @Test(.timeLimit(.minutes(2)))
    func tracingCostsLittle() async throws {
        let pairs = Int(ProcessVariables.all["TEST_TRACE_PAIRS"] ?? "") ?? 60
        let workload = TracedRounds.workload(ranks: 2, tokens: 512, hidden: 2048)
        let routes = Routes(workload)
        let ratios = try await withLocalWorld(2) { world in
            let op = try await EPDispatchCombineOp(
                TracedRounds.config(tokens: 512, hidden: 2048), in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
            func round() async throws -> Duration {
                try await world.barrier()
                let begin = ContinuousClock.now
                let received = try op.dispatch(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
                let output = received.tokens
                _ = try op.combine(output, of: received, on: stream)
                try await stream.completion()
                return ContinuousClock.now - begin
            }
            func tracedRound() async throws -> Duration {
                try op.startTrace(recordCapacity: 1 << 10, on: stream)
                try await stream.completion()
                let duration = try await round()
                try op.stopTrace(on: stream)
                return duration
            }
            for _ in 0..<20 { _ = try await round() }
            var ratios: [Double] = []
            for pair in 0..<pairs {
                // Neither is always the first.
                if pair % 2 == 0 {
                    let off = try await round()
                    ratios.append(try await tracedRound() / off)
                } else {
                    let on = try await tracedRound()
                    ratios.append(on / (try await round()))
                }
            }
            try await op.close()
            return ratios.sorted()[pairs / 2]
        }
        print("a traced round of 512 tokens takes \(ratios) of an untraced one's time")
        // What is measured alone on a quiet machine is in docs/tracing.md.
        #expect(ratios.allSatisfy { $0 < 1.15 }, "\(ratios)")
    }
}

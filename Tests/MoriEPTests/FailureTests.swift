import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.FailureTests {
    private static let routes = Routes(
        Workload(
            worldSize: 3, tokens: [4, 4, 4], hidden: 8, topK: 3, expertsPerRank: 1, seed: 31))

    private static let config = EPDispatchCombineConfig(
        elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 1,
        expertsPerToken: 3)

    private static func dispatch(
        with op: EPDispatchCombineOp, on stream: DeviceStream, timeout: Duration? = nil
    ) throws -> DispatchOutput {
        let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
        return try op.dispatch(
            inputs.tokens, indices: inputs.indices, timeout: timeout, on: stream)
    }

    /// Whoever waited names the culprit; ranks that were freed by another's word do too.
    ///
    /// A busy machine may hold up a rank that is there for as long as a short deadline, and then it
    /// is blamed as well: with more time it is not.
    ///
    /// - Parameter scenario: Gives the errors of the ranks that waited, for a deadline.
    private static func expectBlame(
        of culprit: Int, phase: String, _ scenario: (Duration) async throws -> [MoriError]
    ) async throws {
        for deadline in Patience.missed.dropLast() {
            let errors = try await scenario(deadline)
            let waits = errors.compactMap(\.wait)
            if !waits.isEmpty && waits.allSatisfy({ $0.peer == culprit && $0.phase == phase }) {
                expect(errors, toBlame: culprit, phase: phase)
                return
            }
        }
        if let deadline = Patience.missed.last {
            expect(try await scenario(deadline), toBlame: culprit, phase: phase)
        }
    }

    private static func expect(
        _ errors: [MoriError], toBlame culprit: Int, phase: String
    ) {
        for error in errors {
            #expect(error.code == .timedOut || error.code == .aborted, "\(error)")
            #expect(error.ranks.contains(culprit), "\(error)")
        }
        let timedOut = errors.filter { $0.code == .timedOut }
        #expect(!timedOut.isEmpty, "\(errors)")
        for error in timedOut {
            #expect(error.wait?.peer == culprit)
            #expect(error.wait?.phase == phase)
            #expect(error.message.contains("for rank \(culprit)"))
        }
    }

    /// The deadline's three sources: the world, the operator, the call.
    @Test(.timeLimit(.minutes(5)), arguments: ["world", "configuration", "operator", "call"])
    func aRankThatDoesNotDispatchIsNamedWithinTheDeadline(source: String) async throws {
        try await Self.expectBlame(of: 2, phase: "dispatch receive") { deadline in
            try await Self.missDispatch(deadline, source: source)
        }
    }

    /// The errors of ranks 0 and 1, for which rank 2 comes too late.
    private static func missDispatch(
        _ deadline: Duration, source: String
    ) async throws -> [MoriError] {
        let worlds = try await failingWorld(
            3, roundTimeout: source == "world" ? deadline : Patience.healthy)
        let gaveUp = Arrivals()
        let errors = try await failures(of: worlds) { world in
            var config = Self.config
            if source == "configuration" { config.timeout = deadline }
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            if source == "operator" { try op.setTimeout(deadline, on: stream) }
            // The two others begin together: neither shall wait for the other's start.
            try await stream.completion()
            try await world.barrier()
            if world.rank == 2 { try await gaveUp.wait(for: 2) }
            let start = ContinuousClock.now
            let received = try Self.dispatch(
                with: op, on: stream, timeout: source == "call" ? deadline : nil)
            let count = received.receivedTokenCount
            do throws(MoriError) {
                try await stream.completion()
            } catch {
                let waited = ContinuousClock.now - start
                gaveUp.arrive()
                if error.code == .timedOut { #expect(waited >= deadline) }
                // Below every other deadline; a busy machine adds its part.
                #expect(waited < deadline + Patience.prompt, "\(waited)")
                let host = unsafe try count.hostElements(as: Int32.self)
                #expect(unsafe host[0] == 0, "a void round received something")
                try requireAborted(op) { _ = try Self.dispatch(with: op, on: stream) }
                try requireAborted(op) { _ = try op.reclaim() }
                throw error
            }
            try op.discard(received)
        }
        #expect(errors[2].code == .aborted)
        try await close(worlds)
        return Array(errors[..<2])
    }

    @Test(.timeLimit(.minutes(5)), arguments: CombineInput.allCases)
    func aRankThatDoesNotCombineIsNamedAndSumsAreNaN(input: CombineInput) async throws {
        try await Self.expectBlame(of: 2, phase: "combine ready") { deadline in
            try await Self.missCombine(deadline, input: input)
        }
    }

    /// The errors of ranks 0 and 1, for which rank 2 combines too late.
    private static func missCombine(
        _ deadline: Duration, input: CombineInput
    ) async throws -> [MoriError] {
        let worlds = try await failingWorld(3)
        let gaveUp = Arrivals()
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let received = try Self.dispatch(with: op, on: stream)
            let output =
                try input == .registered ? op.registeredCombineInput() : received.tokens
            let weights = try DeviceTensor(
                shape: [12, 3], elementType: .float32, on: world.device)
            try await stream.completion()
            try await world.barrier()
            if world.rank == 2 { try await gaveUp.wait(for: 2) }
            let combined = try op.combine(
                output, of: received, weights: weights, input: input,
                timeout: world.rank == 2 ? nil : deadline, on: stream)
            if world.rank == 2 {
                // Its peers had given it everything before they gave up: it learns of their end
                // in this round or in the next.
                try await stream.completion()
                try op.discard(Self.dispatch(with: op, on: stream))
                try await stream.completion()
            }
            do {
                try await stream.completion()
            } catch {
                gaveUp.arrive()
                let rows = unsafe try combined.tokens.hostElements(as: BFloat16.self)
                #expect(unsafe rows.allSatisfy { $0.float.isNaN }, "a void round looks like one")
                let sums = unsafe try #require(combined.weights).hostElements(as: Float.self)
                #expect(unsafe sums.allSatisfy(\.isNaN))
                throw error
            }
        }
        #expect(errors[2].code == .aborted)
        try await close(worlds)
        return Array(errors[..<2])
    }

    @Test(.timeLimit(.minutes(5)))
    func aRankThatDoesNotComeAfterADiscardedRoundIsNamed() async throws {
        try await Self.expectBlame(of: 2, phase: "dispatch begin") { deadline in
            try await Self.missBarrier(deadline)
        }
    }

    /// The errors of ranks 0 and 1, for which rank 2 begins its second round too late.
    private static func missBarrier(_ deadline: Duration) async throws -> [MoriError] {
        let worlds = try await failingWorld(3)
        let gaveUp = Arrivals()
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            try op.discard(Self.dispatch(with: op, on: stream))
            try await stream.completion()
            try await world.barrier()
            if world.rank == 2 { try await gaveUp.wait(for: 2) }
            try op.discard(Self.dispatch(with: op, on: stream, timeout: deadline))
            do {
                try await stream.completion()
            } catch {
                gaveUp.arrive()
                throw error
            }
        }
        try await close(worlds)
        return Array(errors[..<2])
    }

    /// Long before any deadline; and everybody is told who and why.
    @Test(.timeLimit(.minutes(1)), arguments: [0, 1, 2])
    func abortFreesThePeersAtOnce(culprit: Int) async throws {
        let worlds = try await failingWorld(3)
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            if world.rank == culprit {
                try await Task.sleep(for: .milliseconds(100))
                world.abort("these tokens are no good")
                _ = try Self.dispatch(with: op, on: stream)
            } else {
                let start = ContinuousClock.now
                let received = try Self.dispatch(with: op, on: stream)
                defer { #expect(ContinuousClock.now - start < Patience.prompt) }
                try await stream.completion()
                try op.discard(received)
            }
        }
        for error in errors {
            #expect(error.code == .aborted)
            #expect(error.ranks == [culprit])
            #expect(error.message.contains("these tokens are no good"), "\(error)")
        }
        try await close(worlds)
    }

    @Test(.timeLimit(.minutes(1)))
    func everyOperatorOfAnAbortedWorldIsOver() async throws {
        let worlds = try await failingWorld(2, roundTimeout: .milliseconds(500))
        let gaveUp = Arrivals()
        var config = Self.config
        config.expertsPerToken = 2
        let errors = try await failures(of: worlds) { [config] world in
            let first = try await EPDispatchCombineOp(config, in: world)
            let second = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            let other = try DeviceStream(on: world.device)
            func dispatch(with op: EPDispatchCombineOp, on stream: DeviceStream) throws {
                let tokens = try DeviceTensor(
                    shape: [2, 8], elementType: .bfloat16, on: world.device)
                let indices = try DeviceTensor(
                    shape: [2, 2], elementType: .int32, on: world.device)
                try indices.fill(with: 0, on: stream)
                try op.discard(op.dispatch(tokens, indices: indices, on: stream))
            }
            try await world.barrier()
            if world.rank == 0 {
                try dispatch(with: first, on: stream)
                try? await stream.completion()
                gaveUp.arrive()
            } else {
                try await gaveUp.wait(for: 1)
            }
            // Refused by the host, or void on the device.
            try dispatch(with: second, on: other)
            try await other.completion()
        }
        for error in errors { #expect(error.code == .aborted, "\(error)") }
        try await close(worlds)
    }

    @Test(.timeLimit(.minutes(1)), arguments: [Int32(-1), 5, .max, .min])
    func aDeviceSideCountOutOfRangeEndsTheRoundEverywhere(count: Int32) async throws {
        let worlds = try await failingWorld(3)
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let inputs = try RoundInputs<BFloat16>(Self.routes, rank: world.rank, on: stream)
            let valid = try DeviceTensor([world.rank == 1 ? count : 4], on: stream)
            let received = try op.dispatch(
                inputs.tokens, indices: inputs.indices, validTokenCount: valid, on: stream)
            try await stream.completion()
            try op.discard(received)
        }
        #expect(errors[1].code == .invalidArgument, "\(errors[1])")
        #expect(errors[1].message.contains("rank 1 is \(count); legal is 0 to 4"))
        for rank in [0, 2] {
            #expect(errors[rank].code == .aborted, "\(errors[rank])")
            #expect(errors[rank].ranks == [1])
        }
        try await close(worlds)
    }

    @Test(.timeLimit(.minutes(1)), arguments: ["external", "registered", "weights"])
    func tooFewRowsInCombineEndTheRoundEverywhere(_ what: String) async throws {
        let worlds = try await failingWorld(3)
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let received = try Self.dispatch(with: op, on: stream)
            // All 12 tokens of the world come to every rank.
            let rows = world.rank == 1 && what != "weights" ? 11 : 12
            let weightRows = world.rank == 1 && what == "weights" ? 11 : 12
            let output =
                try what == "registered"
                ? op.registeredCombineInput().prefix(rows)
                : DeviceTensor(shape: [rows, 8], elementType: .bfloat16, on: world.device)
            let weights = try DeviceTensor(
                shape: [weightRows, 3], elementType: .float32, on: world.device)
            _ = try op.combine(
                output, of: received, weights: weights,
                input: what == "registered" ? .registered : .external, on: stream)
            try await stream.completion()
        }
        #expect(errors[1].code == .invalidArgument, "\(errors[1])")
        #expect(errors[1].message.contains("rank 1 has 11 rows; 12 were received"))
        for rank in [0, 2] { #expect(errors[rank].code == .aborted, "\(errors[rank])") }
        try await close(worlds)
    }

    @Test(.timeLimit(.minutes(1)))
    func everythingAfterCloseSaysClosed() async throws {
        _ = try await withLocalWorld(2) { world in
            var config = Self.config
            config.expertsPerToken = 2
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            let tokens = try DeviceTensor(shape: [1, 8], elementType: .bfloat16, on: world.device)
            let indices = try DeviceTensor([Int32(0), 1], shape: [1, 2], on: stream)
            let received = try op.dispatch(tokens, indices: indices, on: stream)
            let output = received.tokens
            try await stream.completion()
            try await op.close()
            try await op.close()
            var given: DispatchOutput? = received
            let calls: [(String, () throws -> Void)] = [
                ("dispatch", { _ = try op.dispatch(tokens, indices: indices, on: stream) }),
                ("reclaim", { _ = try op.reclaim() }),
                ("setTimeout", { try op.setTimeout(.seconds(1), on: stream) }),
            ]
            for (name, call) in calls {
                let error = try #require(throws: MoriError.self) { try call() }
                #expect(error.code == .closed, "\(name): \(error)")
            }
            let error = try #require(throws: MoriError.self) {
                guard let received = given.take() else { return }
                _ = try op.combine(output, of: received, on: stream)
            }
            #expect(error.code == .closed)
            try await world.close()
            let late = try await #require(throws: MoriError.self) {
                _ = try await EPDispatchCombineOp(config, in: world)
            }
            #expect(late.code == .closed)
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func anOperatorOfAClosedWorldSaysClosed() async throws {
        _ = try await withLocalWorld(2) { world in
            var config = Self.config
            config.expertsPerToken = 2
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            let tokens = try DeviceTensor(shape: [1, 8], elementType: .bfloat16, on: world.device)
            let indices = try DeviceTensor([Int32(0), 1], shape: [1, 2], on: stream)
            try await world.close()
            let error = try #require(throws: MoriError.self) {
                _ = try op.dispatch(tokens, indices: indices, on: stream)
            }
            #expect(error.code == .closed)
        }
    }
}

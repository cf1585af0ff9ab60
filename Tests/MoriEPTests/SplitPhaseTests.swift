import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.SplitPhaseTests {
    private static let geometry = Geometry.uneven

    private static func routes(_ tokens: [Int], seed: UInt64) -> Routes {
        Routes(geometry.workload(tokens: tokens, topK: 3, seed: seed))
    }

    private static func config(
        _ kernel: KernelType, slots: Int = 1
    ) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 34, maxInputTokensPerRank: 70, expertsPerRank: 3,
            expertsPerToken: 3, kernelType: kernel, devicesPerNode: geometry.devicesPerNode,
            slots: slots)
    }

    private static func send(
        _ routes: Routes, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) throws -> PendingDispatch {
        let inputs = try RoundInputs<BFloat16>(routes, rank: op.world.rank, on: stream)
        return try op.dispatchSend(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices, on: stream)
    }

    /// Makes the experts' output of what was received, and sends it back.
    private static func sendBack(
        _ received: consuming DispatchOutput, _ routes: Routes, with op: EPDispatchCombineOp,
        on stream: DeviceStream
    ) async throws -> PendingCombine {
        let rows = try await checkReceived(
            received, routes, of: BFloat16.self, options: RoundOptions(), with: op, on: stream)
        let output = try ExpertOutput<BFloat16>(
            rows, routes, of: BFloat16.self, options: RoundOptions(), with: op, on: stream)
        return try op.combineSend(
            output.tokens, of: received, weights: output.weights, on: stream)
    }

    private static func check(
        _ combined: CombineOutput, _ routes: Routes, with op: EPDispatchCombineOp,
        on stream: DeviceStream
    ) async throws {
        try await checkCombined(
            combined, routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
    }

    @Test(
        .timeLimit(.minutes(2)), arguments: KernelType.allCases,
        [
            Geometry(1, of: 1), Geometry(3, of: 3), Geometry(2, of: 1), .uneven,
            Geometry(12, of: 8),
        ])
    func roundsInHalvesComeBackSummed(
        _ kernel: KernelType, _ geometry: Geometry
    ) async throws {
        let rounds = [[5, 0, 66, 7], [0, 3, 1], [0], [2, 70]].enumerated().map {
            Routes(geometry.workload(tokens: $1, topK: 3, seed: UInt64($0)))
        }
        var config = Self.config(kernel)
        config.devicesPerNode = geometry.devicesPerNode
        _ = try await withLocalWorld(geometry.ranks) { [config] world in
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<8 {
                let routes = rounds[turn % rounds.count]
                let pending = try Self.send(routes, with: op, on: stream)
                let received = try op.dispatchReceive(pending, on: stream)
                let back = try await Self.sendBack(received, routes, with: op, on: stream)
                let combined = try op.combineReceive(back, on: stream)
                try await Self.check(combined, routes, with: op, on: stream)
            }
            try await op.close()
        }
    }

    /// A half by itself and a whole verb may follow each other.
    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func halvesAndWholeVerbsMix(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 0, 66, 7, 1], seed: 4)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<9 {
                switch turn % 3 {
                case 0:
                    try await checkRound(
                        routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
                case 1:
                    let pending = try Self.send(routes, with: op, on: stream)
                    let received = try op.dispatchReceive(pending, on: stream)
                    let rows = try await checkReceived(
                        received, routes, of: BFloat16.self, options: RoundOptions(), with: op,
                        on: stream)
                    try await checkCombine(
                        of: received, rows, routes, of: BFloat16.self, combining: BFloat16.self,
                        with: op, on: stream)
                default:
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                        on: stream)
                    let back = try await Self.sendBack(received, routes, with: op, on: stream)
                    let combined = try op.combineReceive(back, on: stream)
                    try await Self.check(combined, routes, with: op, on: stream)
                }
            }
            try await op.close()
        }
    }

    /// Nothing of the device is held after a send: one rank after the other finishes its send
    /// before the next one begins.
    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func aSendEndsThoughNobodyElseHasSent(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 0, 66, 7, 1], seed: 5)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for _ in 0..<3 {
                for _ in 0..<world.rank { try await world.barrier() }
                let pending = try Self.send(routes, with: op, on: stream)
                try await stream.completion()
                for _ in world.rank..<world.worldSize { try await world.barrier() }
                let received = try op.dispatchReceive(pending, on: stream)
                for _ in 0..<world.rank { try await world.barrier() }
                let back = try await Self.sendBack(received, routes, with: op, on: stream)
                try await stream.completion()
                for _ in world.rank..<world.worldSize { try await world.barrier() }
                let combined = try op.combineReceive(back, on: stream)
                try await Self.check(combined, routes, with: op, on: stream)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
    func twoRoundsInHalvesCanBeInFlight(_ kernel: KernelType) async throws {
        let first = Self.routes([5, 0, 2, 7, 1], seed: 1)
        let second = Self.routes([1, 68, 3, 0, 4], seed: 2)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel, slots: 2), in: world)
            let stream = try DeviceStream(on: world.device)
            for turn in 0..<8 {
                let early = try Self.send(first, with: op, on: stream)
                let late = try Self.send(second, with: op, on: stream)
                let refusal = try #require(throws: MoriError.self) {
                    _ = try Self.send(first, with: op, on: stream)
                }
                #expect(refusal.code == .capacityExceeded)
                #expect(refusal.message.contains("set slots to 3"), "\(refusal.message)")
                let earlyReceived = try op.dispatchReceive(early, on: stream)
                let earlyBack = try await Self.sendBack(
                    earlyReceived, first, with: op, on: stream)
                // The second round is received while the first one's sums travel.
                let lateReceived = try op.dispatchReceive(late, on: stream)
                let lateBack = try await Self.sendBack(lateReceived, second, with: op, on: stream)
                if turn % 2 == 0 {
                    let combined = try op.combineReceive(earlyBack, on: stream)
                    try await Self.check(combined, first, with: op, on: stream)
                    let other = try op.combineReceive(lateBack, on: stream)
                    try await Self.check(other, second, with: op, on: stream)
                } else {
                    let combined = try op.combineReceive(lateBack, on: stream)
                    try await Self.check(combined, second, with: op, on: stream)
                    let other = try op.combineReceive(earlyBack, on: stream)
                    try await Self.check(other, first, with: op, on: stream)
                }
            }
            try await op.close()
        }
    }

    /// Only the operator orders the streams here; a gate holds the sends back.
    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func aReceiveOnAnotherStreamWaitsForItsSend(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 4, 66, 0, 2], seed: 33)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let first = try DeviceStream(on: world.device)
            let second = try DeviceStream(on: world.device)
            for _ in 0..<6 {
                let gate = try StreamGate(on: first)
                let pending = try Self.send(routes, with: op, on: first)
                let received = try op.dispatchReceive(pending, on: second)
                gate.open()
                let back = try await Self.sendBack(received, routes, with: op, on: second)
                let combined = try op.combineReceive(back, on: first)
                try await Self.check(combined, routes, with: op, on: first)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func aSecondSendIsRefusedAndCorruptsNothing(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 0, 2, 7, 1], seed: 6)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            let pending = try Self.send(routes, with: op, on: stream)
            for _ in 0..<2 {
                let send = try #require(throws: MoriError.self) {
                    _ = try Self.send(routes, with: op, on: stream)
                }
                #expect(send.code == .capacityExceeded)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let whole = try #require(throws: MoriError.self) {
                    _ = try op.dispatch(inputs.tokens, indices: inputs.indices, on: stream)
                }
                #expect(whole.code == .capacityExceeded)
            }
            let received = try op.dispatchReceive(pending, on: stream)
            let back = try await Self.sendBack(received, routes, with: op, on: stream)
            let early = try #require(throws: MoriError.self) {
                _ = try Self.send(routes, with: op, on: stream)
            }
            #expect(early.code == .capacityExceeded)
            let combined = try op.combineReceive(back, on: stream)
            try await Self.check(combined, routes, with: op, on: stream)
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func aDroppedHalfIsReclaimed(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 0, 2, 7, 1], seed: 9)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            for _ in 0..<3 {
                do { _ = try Self.send(routes, with: op, on: stream) }
                let dispatch = try #require(throws: MoriError.self) {
                    _ = try Self.send(routes, with: op, on: stream)
                }
                #expect(dispatch.code == .abandoned)
                // It is no received round yet, and no combine's.
                let output = try #require(throws: MoriError.self) { _ = try op.reclaim() }
                #expect(output.code == .invalidArgument)
                let pending = try op.reclaimPendingDispatch()
                let received = try op.dispatchReceive(pending, on: stream)
                do {
                    _ = try await Self.sendBack(received, routes, with: op, on: stream)
                }
                let combine = try #require(throws: MoriError.self) {
                    _ = try Self.send(routes, with: op, on: stream)
                }
                #expect(combine.code == .abandoned)
                let nothing = try #require(throws: MoriError.self) {
                    _ = try op.reclaimPendingDispatch()
                }
                #expect(nothing.code == .invalidArgument)
                let back = try op.reclaimPendingCombine()
                let combined = try op.combineReceive(back, on: stream)
                try await Self.check(combined, routes, with: op, on: stream)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: KernelType.allCases)
    func aReceiveOfAnotherOperatorsSendIsRefused(_ kernel: KernelType) async throws {
        let routes = Self.routes([5, 0, 2, 7, 1], seed: 7)
        _ = try await withLocalWorld(Self.geometry.ranks) { world in
            let op = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let other = try await EPDispatchCombineOp(Self.config(kernel), in: world)
            let stream = try DeviceStream(on: world.device)
            let pending = try Self.send(routes, with: op, on: stream)
            let refusal: MoriError?
            do throws(MoriError) {
                _ = try other.dispatchReceive(pending, on: stream)
                refusal = nil
            } catch {
                refusal = error
            }
            #expect(refusal?.code == .invalidArgument)
            // The other one goes on as if nothing had been asked of it.
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: other, on: stream)
            try await other.close()
        }
    }
}

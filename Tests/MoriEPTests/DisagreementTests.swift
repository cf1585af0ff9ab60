import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// What one rank calls with.
struct RankCall: Sendable {
    var hidden = 64
    var isFloat32 = false
    var weights = true
    var scales = true
    var combineHidden = 64
    var combineIsFloat32 = false
    var combineWeights = true
    var input = CombineInput.external
}

/// How the call of one rank differs from that of the others, and how both are named.
struct Disagreement: Sendable, CustomTestStringConvertible {
    let name: String
    let words: [String]
    let change: @Sendable (inout RankCall) -> Void

    var testDescription: String { name }

    init(_ name: String, _ words: [String], _ change: @escaping @Sendable (inout RankCall) -> Void)
    {
        self.name = name
        self.words = words
        self.change = change
    }
}

extension WorldTests.DisagreementTests {
    static let disagreements: [Disagreement] = [
        Disagreement("weights in dispatch", [", weights,", "no weights,"]) { $0.weights = false },
        Disagreement("hidden in dispatch", ["hidden 64", "hidden 32"]) { $0.hidden = 32 },
        Disagreement("type in dispatch", ["bf16 of", "f32 of"]) { $0.isFloat32 = true },
        Disagreement("scales in dispatch", ["8 bytes of scales", " 0 bytes of scales"]) {
            $0.scales = false
        },
        Disagreement("weights in combine", [", weights,", "no weights,"]) {
            $0.combineWeights = false
        },
        Disagreement("hidden in combine", ["hidden 64", "hidden 32"]) { $0.combineHidden = 32 },
        Disagreement("type in combine", ["bf16 of", "f32 of"]) { $0.combineIsFloat32 = true },
        Disagreement("buffer in combine", ["external input", "the registered buffer"]) {
            $0.input = .registered
        },
    ]

    /// Nobody hangs until a deadline, nobody gets a result, and both calls are named.
    @Test(.timeLimit(.minutes(1)), arguments: disagreements, [0, 1, 2])
    func ranksThatCallDifferentlyAreToldBothCalls(
        _ disagreement: Disagreement, odd: Int
    ) async throws {
        let worlds = try await failingWorld(3)
        let config = EPDispatchCombineConfig(
            elementType: .float32, hiddenDim: 64, scaleDim: 2, maxInputTokensPerRank: 4,
            expertsPerRank: 2, expertsPerToken: 2)
        let start = ContinuousClock.now
        let errors = try await failures(of: worlds) { world in
            var call = RankCall()
            if world.rank == odd { disagreement.change(&call) }
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            do {
                try await Self.round(call, with: op, on: stream)
            } catch {
                // Later calls know.
                try requireAborted(op) {
                    let tokens = try DeviceTensor(
                        shape: [0, 64], elementType: .bfloat16, on: world.device)
                    let indices = try DeviceTensor(
                        shape: [0, 2], elementType: .int32, on: world.device)
                    _ = try op.dispatch(tokens, indices: indices, on: stream)
                }
                throw error
            }
        }
        #expect(ContinuousClock.now - start < Patience.prompt)
        let codes = errors.map(\.code)
        #expect(codes.allSatisfy { $0 == .ranksDisagree || $0 == .aborted }, "\(errors)")
        let named = errors.filter { $0.code == .ranksDisagree }
        #expect(!named.isEmpty, "\(errors)")
        for error in named {
            #expect(error.ranks.contains(odd), "\(error)")
            for words in disagreement.words {
                #expect(error.message.contains(words), "\(error)")
            }
        }
        try await close(worlds)
    }

    private static func round(
        _ call: RankCall, with op: EPDispatchCombineOp, on stream: DeviceStream
    ) async throws {
        func tensor(_ shape: [Int], _ type: ElementType) throws -> DeviceTensor {
            let tensor = try DeviceTensor(shape: shape, elementType: type, on: stream.device)
            try tensor.fill(with: 0, on: stream)
            return tensor
        }
        let received = try op.dispatch(
            tensor([3, call.hidden], call.isFloat32 ? .float32 : .bfloat16),
            weights: call.weights ? tensor([3, 2], .float32) : nil,
            scales: call.scales ? tensor([3, 2], .float32) : nil,
            indices: tensor([3, 2], .int32), on: stream)
        try await stream.completion()
        let type: ElementType = call.combineIsFloat32 ? .float32 : .bfloat16
        let output: DeviceTensor
        if call.input == .registered {
            output = try op.registeredCombineInput(of: type, hiddenDim: call.combineHidden)
        } else {
            output = try tensor([12, call.combineHidden], type)
        }
        _ = try op.combine(
            output, of: received, weights: call.combineWeights ? tensor([12, 2], .float32) : nil,
            input: call.input, on: stream)
        try await stream.completion()
    }

    /// One rank a round ahead of the others is told apart from one that is late.
    @Test(.timeLimit(.minutes(1)))
    func aRankThatDiscardsAloneEndsTheRoundsWithItsName() async throws {
        let worlds = try await failingWorld(3, roundTimeout: .seconds(2))
        let routes = Routes(
            Workload(
                worldSize: 3, tokens: [2, 2, 2], hidden: 8, topK: 2, expertsPerRank: 2, seed: 2))
        let config = EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4, expertsPerRank: 2,
            expertsPerToken: 2)
        let errors = try await failures(of: worlds) { world in
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            do {
                for turn in 0..<3 {
                    let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                    let received = try op.dispatch(
                        inputs.tokens, indices: inputs.indices, on: stream)
                    let tokens = received.tokens
                    if world.rank == 1 && turn == 0 {
                        try op.discard(received)
                    } else {
                        _ = try op.combine(tokens, of: received, on: stream)
                    }
                }
            } catch {
                // A call that came after the failure; the stream has the failure itself.
                try await stream.completion()
            }
            try await stream.completion()
        }
        let codes: [MoriError.Code] = [.timedOut, .ranksDisagree, .aborted]
        #expect(errors.allSatisfy { codes.contains($0.code) }, "\(errors)")
        #expect(errors.contains { $0.code != .aborted }, "\(errors)")
        try await close(worlds)
    }
}

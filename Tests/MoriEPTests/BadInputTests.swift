import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.BadInputTests {
    static let config = EPDispatchCombineConfig(
        elementType: .bfloat16, hiddenDim: 64, scaleDim: 2, scaleByteSize: 1,
        maxInputTokensPerRank: 8, expertsPerRank: 3, expertsPerToken: 3)

    static let dispatches: [BadCall] = [
        BadCall("too many tokens", ["9 tokens", "0 to 8", "maxInputTokensPerRank"]) {
            try $0.dispatch(
                tokens: $0.tensor([9, 64], .bfloat16), indices: $0.tensor([9, 3], .int32))
        },
        BadCall("tokens of integers", ["tokens are i32", "bf16, f16, f32"]) {
            try $0.dispatch(tokens: $0.tensor([6, 16], .int32))
        },
        BadCall("tokens of one dimension", ["tokens is bf16[64]", "[rows, hidden]"]) {
            try $0.dispatch(tokens: $0.tensor([64], .bfloat16))
        },
        BadCall("tokens of three dimensions", ["bf16[6, 8, 8]", "two dimensions"]) {
            try $0.dispatch(tokens: $0.tensor([6, 8, 8], .bfloat16))
        },
        BadCall("rows too wide", ["rows of 65 bf16, 130 bytes", "1 to 128", "hiddenDim 64"]) {
            try $0.dispatch(tokens: $0.tensor([6, 65], .bfloat16))
        },
        BadCall("elements too wide", ["rows of 64 f32, 256 bytes", "1 to 128"]) {
            try $0.dispatch(tokens: $0.tensor([6, 64], .float32))
        },
        BadCall("rows without end", ["1 to 128"]) {
            try $0.dispatch(
                tokens: unsafe DeviceTensor(
                    borrowing: $0.tokens.address, shape: [6, Int.max], elementType: .bfloat16,
                    on: $0.op.world.device))
        },
        BadCall("rows of nothing", ["rows of 0 bf16", "1 to 128"]) {
            try $0.dispatch(tokens: $0.tensor([6, 0], .bfloat16))
        },
        BadCall("indices of floats", ["indices is f32[6, 3]", "legal is i32[6, 3]"]) {
            try $0.dispatch(indices: $0.tensor([6, 3], .float32))
        },
        BadCall("indices of another top-k", ["indices is i32[6, 2]", "legal is i32[6, 3]"]) {
            try $0.dispatch(indices: $0.tensor([6, 2], .int32))
        },
        BadCall("indices of other tokens", ["indices is i32[7, 3]", "legal is i32[6, 3]"]) {
            try $0.dispatch(indices: $0.tensor([7, 3], .int32))
        },
        BadCall("flat indices", ["indices is i32[18]", "legal is i32[6, 3]"]) {
            try $0.dispatch(indices: $0.tensor([18], .int32))
        },
        BadCall("weights of bf16", ["weights is bf16[6, 3]", "legal is f32[6, 3]"]) {
            try $0.dispatch(weights: $0.tensor([6, 3], .bfloat16))
        },
        BadCall("weights of another shape", ["weights is f32[3, 6]", "legal is f32[6, 3]"]) {
            try $0.dispatch(weights: $0.tensor([3, 6], .float32))
        },
        BadCall("scales of another count", ["scales is u8[6, 3]", "legal is u8[6, 2]"]) {
            try $0.dispatch(scales: $0.tensor([6, 3], .uint8))
        },
        BadCall("scales of another size", ["scales are f32, 32 bits each", "a type of 1 bytes"]) {
            try $0.dispatch(scales: $0.tensor([6, 2], .float32))
        },
        BadCall("scales of half a byte", ["scales are fp4, 4 bits each", "a type of 1 bytes"]) {
            try $0.dispatch(scales: $0.tensor([6, 2], .float4E2M1))
        },
        BadCall("a count of two", ["validTokenCount is i32[2]", "legal is i32[1]"]) {
            try $0.dispatch(validTokenCount: $0.tensor([2], .int32))
        },
        BadCall("a count of floats", ["validTokenCount is f32[1]", "legal is i32[1]"]) {
            try $0.dispatch(validTokenCount: $0.tensor([1], .float32))
        },
        BadCall("tokens of another device", ["tokens is", "host:1", "host:0"]) {
            try $0.dispatch(tokens: $0.elsewhere($0.tokens))
        },
        BadCall("indices of another device", ["indices is", "host:1", "host:0"]) {
            try $0.dispatch(indices: $0.elsewhere($0.indices))
        },
        BadCall("weights of another device", ["weights is", "host:1", "host:0"]) {
            try $0.dispatch(weights: $0.elsewhere($0.weights))
        },
        BadCall("scales of another device", ["scales is", "host:1", "host:0"]) {
            try $0.dispatch(scales: $0.elsewhere($0.scales))
        },
        BadCall("tokens at an odd address", ["no multiple of 2"]) {
            try $0.dispatch(
                tokens: unsafe DeviceTensor(
                    borrowing: $0.tokens.address + 1, shape: [5, 64], elementType: .bfloat16,
                    on: $0.op.world.device),
                indices: $0.tensor([5, 3], .int32))
        },
        BadCall(
            "more blocks than are resident", ["100000x1", "largest", "256x1"],
            code: .capacityExceeded
        ) {
            try $0.dispatch(launch: LaunchConfiguration(blocks: 100_000, warpsPerBlock: 1))
        },
        BadCall(
            "more warps than are resident", ["9x32", "8x32"], code: .capacityExceeded
        ) {
            try $0.dispatch(launch: LaunchConfiguration(blocks: 9, warpsPerBlock: 32))
        },
        BadCall(
            "more warps than a block has", ["1x64", "32 warps per block"],
            code: .capacityExceeded
        ) {
            try $0.dispatch(launch: LaunchConfiguration(blocks: 1, warpsPerBlock: 64))
        },
        BadCall("a launch of nothing", ["0 blocks", "1 or more"]) {
            try $0.dispatch(launch: LaunchConfiguration(blocks: 0, warpsPerBlock: 1))
        },
        BadCall("a launch without warps", ["of 0 warps", "1 or more"]) {
            try $0.dispatch(launch: LaunchConfiguration(blocks: 1, warpsPerBlock: 0))
        },
        BadCall("no time at all", ["a timeout of 0.0 seconds", "more than zero"]) {
            try $0.dispatch(timeout: .zero)
        },
        BadCall("less than no time", ["a timeout of -1.0 seconds", "more than zero"]) {
            try $0.dispatch(timeout: .seconds(-1))
        },
    ]

    static let combines: [BadCall] = [
        BadCall("output of integers", ["i32", "bf16, f16, f32"]) {
            try $0.combine($0.tensor([48, 16], .int32))
        },
        BadCall("output of one dimension", ["expertOutput is bf16[64]", "[rows, hidden]"]) {
            try $0.combine($0.tensor([64], .bfloat16))
        },
        BadCall("output rows too wide", ["65 bf16 are 130 bytes", "1 to 128"]) {
            try $0.combine($0.tensor([48, 65], .bfloat16))
        },
        BadCall("output elements too wide", ["64 f32 are 256 bytes", "1 to 128"]) {
            try $0.combine($0.tensor([48, 64], .float32))
        },
        BadCall("output rows of nothing", ["0 bf16", "1 to 128"]) {
            try $0.combine($0.tensor([48, 0], .bfloat16))
        },
        BadCall("output of another device", ["expertOutput is", "host:1", "host:0"]) {
            try $0.combine($0.elsewhere($0.tensor([48, 64], .bfloat16)))
        },
        BadCall("weights of another top-k", ["weights is f32[48, 2]", "f32[48, 3]"]) {
            try $0.combine(
                $0.tensor([48, 64], .bfloat16), weights: $0.tensor([48, 2], .float32))
        },
        BadCall("weights of bf16", ["weights is bf16[48, 3]", "f32[48, 3]"]) {
            try $0.combine(
                $0.tensor([48, 64], .bfloat16), weights: $0.tensor([48, 3], .bfloat16))
        },
        BadCall("flat weights", ["weights is f32[144]"]) {
            try $0.combine(
                $0.tensor([48, 64], .bfloat16), weights: $0.tensor([144], .float32))
        },
        BadCall("not the registered buffer", ["registeredCombineInput()", "input: .external"]) {
            try $0.combine($0.tensor([48, 64], .bfloat16), input: .registered)
        },
        BadCall(
            "a launch that is not resident", ["300x1", "largest", "256x1"],
            code: .capacityExceeded
        ) {
            try $0.combine(
                $0.tensor([48, 64], .bfloat16),
                launch: LaunchConfiguration(blocks: 300, warpsPerBlock: 1))
        },
        BadCall("no time at all", ["a timeout of 0.0 seconds", "more than zero"]) {
            try $0.combine($0.tensor([48, 64], .bfloat16), timeout: .zero)
        },
    ]

    /// Refused on every rank before anything is launched; afterwards a good round is right.
    @Test(.timeLimit(.minutes(1)), arguments: dispatches)
    func aBadDispatchIsRefusedAndTheOperatorStaysUsable(_ bad: BadCall) async throws {
        try await check(bad) { _ in }
    }

    @Test(.timeLimit(.minutes(1)), arguments: combines)
    func aBadCombineIsRefusedAndItsOutputReclaimed(_ bad: BadCall) async throws {
        try await check(bad) { op in try op.discard(op.reclaim()) }
    }

    private func check(
        _ bad: BadCall, after: @escaping @Sendable (EPDispatchCombineOp) throws -> Void
    ) async throws {
        let routes = Routes(
            Workload(
                worldSize: 2, tokens: [6, 2], hidden: 64, topK: 3, expertsPerRank: 3, scaleDim: 2,
                seed: 14))
        _ = try await withLocalWorld(2) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let setting = try BadInputSetting(op, stream)
            for _ in 0..<2 {
                let error = try #require(throws: MoriError.self) { try bad.call(setting) }
                #expect(error.code == bad.code)
                for words in bad.words {
                    #expect(error.message.contains(words), "\(error.message)")
                }
                try after(op)
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func scalesWithoutScaleDimAreRefused() async throws {
        var config = Self.config
        config.scaleDim = 0
        _ = try await withLocalWorld(1) { [config] world in
            let op = try await EPDispatchCombineOp(config, in: world)
            let setting = try BadInputSetting(op, DeviceStream(on: world.device))
            let error = try #require(throws: MoriError.self) { try setting.dispatch() }
            #expect(error.code == .invalidArgument)
            #expect(error.message.contains("scaleDim is 0"))
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func theRegisteredBufferRefusesWhatDoesNotFit() async throws {
        _ = try await withLocalWorld(1) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let cases: [(ElementType?, Int?, Int, String)] = [
                (.float32, nil, 0, "1 to 128"), (nil, 65, 0, "1 to 128"), (nil, 0, 0, "1 to 128"),
                (.int32, nil, 0, "bf16, f16, f32"), (nil, nil, 1, "legal are 0 to 0"),
                (nil, nil, -1, "legal are 0 to 0"), (nil, -3, 0, "1 to 128"),
                (nil, Int.max, 0, "1 to 128"), (nil, Int.min, 0, "1 to 128"),
            ]
            for (type, hidden, slot, words) in cases {
                let error = try #require(throws: MoriError.self) {
                    _ = try op.registeredCombineInput(of: type, hiddenDim: hidden, slot: slot)
                }
                #expect(error.code == .invalidArgument)
                #expect(error.message.contains(words), "\(error.message)")
            }
            try await op.close()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func timeoutsMustBeMoreThanZero() async throws {
        _ = try await withLocalWorld(1) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            for timeout in [Duration.zero, .seconds(-1)] {
                let error = try #require(throws: MoriError.self) {
                    try op.setTimeout(timeout, on: stream)
                }
                #expect(error.code == .invalidArgument)
            }
            // As long as a Duration can be, which is no more nanoseconds than 64 bits hold.
            try op.setTimeout(.seconds(Int64.max), on: stream)
            try await stream.completion()
            try await op.close()
        }
    }

    /// Each output goes back to the operator that gave it, whatever their shapes.
    @Test(.timeLimit(.minutes(1)))
    func anOutputOfAnotherOperatorIsRefused() async throws {
        let routes = Routes(
            Workload(
                worldSize: 2, tokens: [6, 2], hidden: 64, topK: 3, expertsPerRank: 3, scaleDim: 2,
                seed: 15))
        _ = try await withLocalWorld(2) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let other = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let setting = try BadInputSetting(op, stream)
            let received = try op.dispatch(setting.tokens, indices: setting.indices, on: stream)
            let count = try await #require(throws: MoriError.self) {
                _ = try await other.receivedTokenCount(of: received, on: stream)
            }
            #expect(count.code == .invalidArgument)
            let positions = try await #require(throws: MoriError.self) {
                _ = try await other.sourceTokenPositions(of: received, on: stream)
            }
            #expect(positions.code == .invalidArgument)
            let output = received.tokens
            var given: DispatchOutput? = received
            let combine = try #require(throws: MoriError.self) {
                guard let received = given.take() else { return }
                _ = try other.combine(output, of: received, on: stream)
            }
            #expect(combine.code == .invalidArgument)
            #expect(combine.message.contains("another operator"))
            var again: DispatchOutput? = try op.reclaim()
            let discard = try #require(throws: MoriError.self) {
                guard let received = again.take() else { return }
                try other.discard(received)
            }
            #expect(discard.code == .invalidArgument)
            try op.discard(op.reclaim())
            for each in [op, other] {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: each, on: stream)
                try await each.close()
            }
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func aStreamOfAnotherDeviceIsRefused() async throws {
        _ = try await withLocalWorld(1) { world in
            let op = try await EPDispatchCombineOp(Self.config, in: world)
            let stream = try DeviceStream(on: world.device)
            let setting = try BadInputSetting(op, stream)
            let error = try #require(throws: MoriError.self) {
                _ = try op.dispatch(
                    setting.tokens, indices: setting.indices,
                    on: DeviceStream(on: otherDevice(than: world.device)))
            }
            #expect(error.code == .invalidArgument)
            #expect(error.message.contains("host:1") && error.message.contains("host:0"))
            try await op.close()
        }
    }
}

import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests {
    /// Received rows by expert, and the weighted way back.
    @Suite struct StandardMoETests {
        private static func config(
            _ kernel: KernelType, _ workload: Workload,
            _ types: (ElementType, ElementType) = (.bfloat16, .bfloat16)
        ) -> EPDispatchCombineConfig {
            RoundCase(workload) {
                $0.kernelType = kernel
                $0.devicesPerNode = kernel == .intraNode ? 8 : 2
                $0.dispatchType = types.0
                $0.combineType = types.1
            }.config
        }

        /// What an expert makes of a row: each expert by itself, never the identity.
        private static func expertRow(
            _ row: [Float], _ expert: Int32, _ oracle: Oracle
        ) -> [Float] {
            row.map { oracle.combineRound($0 * oracle.expertFactor(expert)) }
        }

        /// One round of the layout on one rank, against the oracle.
        private static func check<Element: TokenElement, Combined: TokenElement>(
            _ routes: Routes, _: Element.Type, _: Combined.Type, with op: EPDispatchCombineOp,
            on stream: DeviceStream, capacity: Int?, comparesSums: Bool = true
        ) async throws {
            let rank = op.world.rank
            let workload = routes.workload
            let oracle = Oracle(
                workload, rounding: Element.rounding, combineRounding: Combined.rounding,
                sums: op.config.sumOrder(worldSize: op.world.worldSize))
            let inputs = try RoundInputs<Element>(routes, rank: rank, on: stream, for: op.config)
            let layout = try op.makeStandardMoELayout(
                capacity: capacity, scaleElementType: inputs.scales?.elementType)
            try layout.tokens.fill(with: 0xFF, on: stream)
            let output = try op.dispatchStandardMoE(
                inputs.tokens, weights: inputs.weights, scales: inputs.scales,
                indices: inputs.indices, into: layout, on: stream)
            let received = try await op.sourceTokenPositions(of: output.received, on: stream)
            let counts: [Int32] = try await layout.counts.elements(on: stream)
            let overflow: [Int32] = try await layout.overflow.elements(on: stream)
            let sources: [Int32] = try await layout.sources.elements(on: stream)
            let rows: [Element] = try await layout.tokens.elements(on: stream)
            let scales: [Float]? = try await layout.scales?.elements(on: stream)
            let experts = oracle.experts(of: rank)
            let width = workload.hidden / Element.elementType.elementsPerUnit
            var results = [Combined](
                repeating: Combined.rounded(Array(repeating: 7, count: 2))[0],
                count: op.config.expertsPerRank * layout.capacity * workload.hidden
                    / Combined.elementType.elementsPerUnit)
            let resultWidth = workload.hidden / Combined.elementType.elementsPerUnit
            for (place, expert) in experts.enumerated() {
                // In the order of received rows, and of a row's ids.
                let expected = received.flatMap { position in
                    routes.experts(rank: position.rank, token: position.token)
                        .filter { $0 == expert }.map { _ in position }
                }
                guard Int(counts[place]) == min(expected.count, layout.capacity),
                    Int(counts[place] + overflow[place]) == expected.count
                else {
                    throw Mismatch(
                        "expert \(expert) of rank \(rank): \(counts[place]) rows and"
                            + " \(overflow[place]) more, expected \(expected.count)")
                }
                for (number, position) in expected.prefix(layout.capacity).enumerated() {
                    let at = place * layout.capacity + number
                    guard sources[at] == position.rawValue else {
                        throw Mismatch("expert \(expert), row \(number): from \(sources[at])")
                    }
                    let token = workload.tokenRow(rank: position.rank, token: position.token)
                    let sent = Element.rounded(token)
                    guard Array(rows[at * width..<(at + 1) * width]) == sent else {
                        throw Mismatch("expert \(expert), row \(number) differs")
                    }
                    if let scales {
                        let dim = workload.scaleDim
                        guard
                            Array(scales[at * dim..<(at + 1) * dim])
                                == workload.scaleRow(rank: position.rank, token: position.token)
                        else { throw Mismatch("expert \(expert), scales of row \(number)") }
                    }
                    let made = Combined.rounded(
                        expertRow(token.map(oracle.round), expert, oracle))
                    results.replaceSubrange(at * resultWidth..<(at + 1) * resultWidth, with: made)
                }
            }
            let expertOutput = try DeviceTensor(
                results, shape: [op.config.expertsPerRank, layout.capacity, workload.hidden],
                on: stream)
            let combined = try op.combineStandardMoE(expertOutput, of: output, on: stream)
            let sums: [Combined] = try await combined.tokens.elements(on: stream)
            guard comparesSums else { return }
            for token in 0..<workload.tokens[rank] {
                let expected = Combined.rounded(
                    expectedRow(rank: rank, token: token, routes, oracle))
                let found = Array(sums[token * resultWidth..<(token + 1) * resultWidth])
                guard found == expected else {
                    throw Mismatch("combined row \(token) of rank \(rank) differs")
                }
            }
        }

        /// The layer's output of one token: weighted sums at each rank, then the combine's order.
        private static func expectedRow(
            rank: Int, token: Int, _ routes: Routes, _ oracle: Oracle
        ) -> [Float] {
            let workload = routes.workload
            let ids = routes.experts(rank: rank, token: token)
            let weights = workload.weightRow(rank: rank, token: token)
            let row = workload.tokenRow(rank: rank, token: token).map(oracle.round)
            let ranks = routes.destinations[rank][token]
            let parts = oracle.sums.parts(of: ranks)
            let made = Dictionary(
                ids.map { ($0, expertRow(row, $0, oracle)) }, uniquingKeysWith: { a, _ in a })
            let terms = ranks.map { receiver in
                row.indices.map { column -> Float in
                    var sum: Float = 0
                    for (id, weight) in zip(ids, weights)
                    where oracle.host(ofExpert: id) == receiver {
                        sum += (made[id]?[column] ?? .nan) * weight
                    }
                    return oracle.combineRound(sum)
                }
            }
            return row.indices.map { column in
                oracle.sums.sum(
                    terms.map { $0[column] }, parts: parts, rounding: oracle.combineRound)
            }
        }

        @Test(
            .timeLimit(.minutes(2)), arguments: KernelType.allCases,
            [RoutingPattern.random, .duplicates, .outOfRange, .allToOne])
        func rowsGoToTheirExpertsAndComeBackWeighted(
            _ kernel: KernelType, _ pattern: RoutingPattern
        ) async throws {
            let rounds = [[9, 0, 70, 3], [1, 1, 1, 1]].enumerated().map {
                Routes(
                    Workload(
                        worldSize: 4, tokens: $1, hidden: 34, topK: 4, expertsPerRank: 3,
                        scaleDim: 3, pattern: pattern, seed: UInt64(40 + $0)))
            }
            _ = try await withLocalWorld(4) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(kernel, rounds[0].workload), in: world)
                let stream = try DeviceStream(on: world.device)
                for routes in rounds {
                    // With the same id in all places a row stands four times at its expert.
                    let capacity = pattern == .allToOne ? 4 * op.maxReceivedTokens : nil
                    try await Self.check(
                        routes, BFloat16.self, BFloat16.self, with: op, on: stream,
                        capacity: capacity)
                }
                try await op.close()
            }
        }

        @Test(.timeLimit(.minutes(2)), arguments: KernelType.allCases)
        func rowsOfEveryTypeHaveTheirOwnSize(_ kernel: KernelType) async throws {
            let routes = Routes(
                Workload(
                    worldSize: 4, tokens: [5, 2, 0, 8], hidden: 26, topK: 3, expertsPerRank: 2,
                    seed: 50))
            func run<Element: TokenElement, Combined: TokenElement>(
                _ element: Element.Type, _ combined: Combined.Type
            ) async throws {
                _ = try await withLocalWorld(4) { world in
                    let op = try await EPDispatchCombineOp(
                        Self.config(
                            kernel, routes.workload, (Element.elementType, Combined.elementType)),
                        in: world)
                    let stream = try DeviceStream(on: world.device)
                    try await Self.check(
                        routes, element, combined, with: op, on: stream, capacity: nil)
                    try await op.close()
                }
            }
            try await run(Float.self, Float.self)
            try await run(Float16.self, Float16.self)
            try await run(Float8E4M3.self, BFloat16.self)
            try await run(Float4E2M1Pair.self, BFloat16.self)
            try await run(BFloat16.self, Float8E5M2.self)
        }

        /// Rows beyond an expert's room are left out, counted, and written nowhere.
        @Test(.timeLimit(.minutes(1)))
        func whatFindsNoRoomAtAnExpertIsCounted() async throws {
            let routes = Routes(
                Workload(
                    worldSize: 2, tokens: [20, 20], hidden: 8, topK: 2, expertsPerRank: 2, seed: 60)
            )
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(
                    Self.config(.intraNode, routes.workload), in: world)
                let stream = try DeviceStream(on: world.device)
                for capacity in [1, 7, 100] {
                    try await Self.check(
                        routes, BFloat16.self, BFloat16.self, with: op, on: stream,
                        capacity: capacity, comparesSums: capacity == 100)
                }
                try await op.close()
            }
        }

        /// The upstream project's conformance, from DeepEP: rows that say where they come from.
        @Test(.timeLimit(.minutes(2)), arguments: [KernelType.intraNode, .interNodeV1LL])
        func theDeepEPTestPasses(_ kernel: KernelType) async throws {
            let (ranks, tokens, hidden, topK, expertsPerRank) = (4, 32, 256, 8, 36)
            let differences = try await withLocalWorld(ranks) { world -> Double in
                let routes = Routes(
                    Workload(
                        worldSize: ranks, tokens: Array(repeating: tokens, count: ranks),
                        hidden: hidden, topK: topK, expertsPerRank: expertsPerRank, seed: 1))
                let op = try await EPDispatchCombineOp(
                    Self.config(kernel, routes.workload), in: world)
                let stream = try DeviceStream(on: world.device)
                // rank - 128 everywhere; the last 128 columns are the token's number.
                let rows = (0..<tokens).flatMap { token in
                    (0..<hidden).map { column in
                        BFloat16(column < hidden - 128 ? Float(world.rank - 128) : Float(token))
                    }
                }
                let weights = (0..<tokens).flatMap {
                    routes.workload.weightRow(rank: world.rank, token: $0)
                }
                let received = try op.dispatch(
                    DeviceTensor(rows, shape: [tokens, hidden], on: stream),
                    weights: DeviceTensor(weights, shape: [tokens, topK], on: stream),
                    indices: DeviceTensor(
                        routes.experts[world.rank], shape: [tokens, topK], on: stream), on: stream)
                let layout = try op.convertToStandardMoE(received, on: stream)
                let counts: [Int32] = try await layout.counts.elements(on: stream)
                let sources: [Int32] = try await layout.sources.elements(on: stream)
                let packed: [BFloat16] = try await layout.tokens.elements(on: stream)
                for expert in 0..<expertsPerRank {
                    for row in 0..<Int(counts[expert]) {
                        let at = expert * layout.capacity + row
                        let (rank, token) = Int(sources[at]).quotientAndRemainder(
                            dividingBy: tokens)
                        #expect(packed[at * hidden].float == Float(rank - 128))
                        #expect(packed[(at + 1) * hidden - 1].float == Float(token))
                    }
                }
                let sums = try op.convertFromStandardMoE(
                    layout.tokens, of: received, layout: layout, on: stream)
                let combined = try op.combine(sums, of: received, input: .registered, on: stream)
                let out: [BFloat16] = try await combined.tokens.elements(on: stream)
                try await op.close()
                // 1 - 2 sum((a + 1)(b + 1)) / sum((a + 1)^2 + (b + 1)^2), in double.
                var (product, squares) = (0.0, 0.0)
                for token in 0..<tokens {
                    let factor = weights[token * topK..<(token + 1) * topK].reduce(0, +)
                    for column in 0..<hidden {
                        let a = Double(rows[token * hidden + column].float * factor) + 1
                        let b = Double(out[token * hidden + column].float) + 1
                        product += a * b
                        squares += a * a + b * b
                    }
                }
                return 1 - 2 * product / squares
            }
            // bf16 sums of sums: a relative error of 2^-9 or so, squared.
            #expect(differences.allSatisfy { $0 < 1e-5 }, "\(differences)")
        }

        @Test(.timeLimit(.minutes(1)))
        func badInputIsRefusedAndTheRoundIsReclaimed() async throws {
            _ = try await withLocalWorld(1) { world in
                let op = try await EPDispatchCombineOp(
                    EPDispatchCombineConfig(
                        elementType: .bfloat16, hiddenDim: 8, maxInputTokensPerRank: 4,
                        expertsPerRank: 2, expertsPerToken: 1), in: world)
                let stream = try DeviceStream(on: world.device)
                let tokens = try DeviceTensor(
                    [BFloat16](repeating: BFloat16(3), count: 16), shape: [2, 8], on: stream)
                let indices = try DeviceTensor([Int32(0), 1], shape: [2, 1], on: stream)
                let weights = try DeviceTensor([Float(1), 2], shape: [2, 1], on: stream)
                let wide = try op.makeStandardMoELayout(hiddenDim: 4)
                let shape = #expect(throws: MoriError.self) {
                    _ = try op.dispatchStandardMoE(
                        tokens, weights: weights, indices: indices, into: wide, on: stream)
                }
                #expect(shape?.message.contains("layout.tokens is") == true)
                #expect(throws: MoriError.self) { try op.makeStandardMoELayout(capacity: 0) }

                let plain = try op.dispatch(tokens, indices: indices, on: stream)
                let layout = try op.convertToStandardMoE(plain, on: stream)
                let without: MoriError?
                do throws(MoriError) {
                    _ = try op.convertFromStandardMoE(
                        layout.tokens, of: plain, layout: layout, on: stream)
                    without = nil
                } catch {
                    without = error
                }
                #expect(without?.message.contains("without weights") == true)
                try op.discard(plain)

                let output = try op.dispatchStandardMoE(
                    tokens, weights: weights, indices: indices, on: stream)
                let refusal: MoriError?
                do throws(MoriError) {
                    _ = try op.combineStandardMoE(tokens, of: output, on: stream)
                    refusal = nil
                } catch {
                    refusal = error
                }
                #expect(refusal?.message.contains("[2, 4, hidden]") == true)
                let received = try op.reclaim()
                let again = try op.convertToStandardMoE(received, on: stream)
                let sums = try op.convertFromStandardMoE(
                    again.tokens, of: received, layout: again, on: stream)
                let combined = try op.combine(sums, of: received, input: .registered, on: stream)
                let rows: [BFloat16] = try await combined.tokens.elements(on: stream)
                #expect(rows.map(\.float) == (0..<16).map { $0 < 8 ? 3 : 6 })
                try await op.close()
            }
        }
    }
}

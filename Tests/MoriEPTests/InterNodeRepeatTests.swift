import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension WorldTests.InterNodeRepeatTests {
    private static let kernels = InterNodeSupport.kernels
    private static let geometry = Geometry.uneven
    private static let workload = geometry.workload(
        tokens: [13, 66, 5, 0, 8], hidden: 70, topK: 6, expertsPerRank: 4, pattern: .skewed,
        seed: 2026)

    /// The sums of every rank as bits, one element for each launch of each operator.
    ///
    /// Every round is compared with the oracle too.
    private static func sums(
        _ kernel: KernelType, queuePairs: [Int], launches: [LaunchConfiguration?]
    ) async throws -> [[[UInt32]]] {
        let routes = Routes(workload)
        return try await withLocalWorld(geometry.ranks) { world in
            let stream = try DeviceStream(on: world.device)
            var results: [[UInt32]] = []
            for count in queuePairs {
                let round = geometry.round(kernel, workload) {
                    $0.dispatchType = .float32
                    $0.queuePairsPerPeer = count
                }
                let op = try await EPDispatchCombineOp(round.config, in: world)
                for launch in launches {
                    var options = round.options
                    options.launch = launch
                    results.append(
                        try await combinedBits(routes, options: options, with: op, on: stream))
                }
                try await op.close()
            }
            return results
        }
    }

    /// One round's sums, of tokens and weights, as bits.
    private static func combinedBits(
        _ routes: Routes, options: RoundOptions, with op: EPDispatchCombineOp,
        on stream: DeviceStream
    ) async throws -> [UInt32] {
        let inputs = try RoundInputs<Float>(routes, rank: op.world.rank, on: stream)
        let received = try op.dispatch(
            inputs.tokens, weights: inputs.weights, indices: inputs.indices,
            launch: options.launch, on: stream)
        let rows = try await checkReceived(
            received, routes, of: Float.self, options: options, with: op, on: stream)
        let output = try ExpertOutput<Float>(
            rows, routes, of: Float.self, options: options, with: op, on: stream)
        let combined = try op.combine(
            output.tokens, of: received, weights: output.weights, input: options.input,
            launch: options.launch, on: stream)
        try await checkCombined(
            combined, routes, of: Float.self, combining: Float.self, with: op, on: stream)
        let sums: [Float] = try await combined.tokens.elements(on: stream)
        let weights: [Float] = try await combined.weights?.elements(on: stream) ?? []
        return (sums + weights).map(\.bitPattern)
    }

    @Test(.timeLimit(.minutes(3)), arguments: kernels)
    func aHundredRepeatsGiveTheSameBits(_ kernel: KernelType) async throws {
        let launch = LaunchConfiguration(blocks: 3, rdmaBlocks: 1, warpsPerBlock: 2)
        let ranks = try await Self.sums(
            kernel, queuePairs: [1], launches: Array(repeating: launch, count: 100))
        for rank in ranks { #expect(Set(rank).count == 1) }
    }

    @Test(.timeLimit(.minutes(2)), arguments: kernels)
    func sumsAreTheSameBitsForEveryGridAndAnyQueuePairs(_ kernel: KernelType) async throws {
        let launches = WorldTests.InterNodeTests.launches
        let ranks = try await Self.sums(
            kernel, queuePairs: [1, 2, 3, 4], launches: [nil] + launches)
        for rank in ranks {
            for (number, sums) in rank.enumerated() {
                let (queuePairs, launch) = number.quotientAndRemainder(
                    dividingBy: launches.count + 1)
                #expect(
                    sums == rank[0],
                    "\(queuePairs + 1) queue pairs, launch \(launch) of \(launches) differ")
            }
        }
    }

    /// The kernels for throughput and for latency are one implementation: the same tree.
    @Test(
        .enabled(
            if: Set(kernels).isSuperset(of: [.interNodeV1, .interNodeV1LL, .interNode, .asyncLL])),
        .timeLimit(.minutes(2)))
    func kernelsWithTheSameOrderGiveTheSameBits() async throws {
        for (one, other) in [
            (KernelType.interNodeV1, KernelType.interNodeV1LL),
            (.interNode, .asyncLL),
        ] {
            let first = try await Self.sums(one, queuePairs: [1], launches: [nil])
            let second = try await Self.sums(other, queuePairs: [1], launches: [nil])
            #expect(first == second, "\(one) and \(other)")
        }
    }
}

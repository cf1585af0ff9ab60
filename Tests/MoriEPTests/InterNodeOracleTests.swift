import MoriOracle
import Testing

/// What the oracle says of sums, against numbers worked out by hand.
@Suite struct SumOrderTests {
    /// Two nodes of two ranks.
    private let two = SumOrder.nodes(Nodes(worldSize: 4, devicesPerNode: 2))

    @Test func sumsOverNodesAssociateByNode() {
        // 2^24 + 1 is 2^24 in fp32: one by one the ones are lost, together they are not.
        let terms: [(rank: Int, value: Float)] = [(0, 0x1p24), (1, 1), (2, 1), (3, 1)]
        #expect(SumOrder.ranks.sum(terms) { $0 } == 16_777_216)
        #expect(two.sum(terms) { $0 } == 16_777_218)
    }

    @Test func partsAreRoundedToTheCombinedTypeTheOwnNodesToo() {
        // bf16 has 8 bits: next to 256 is 258, and 257 lies half way, which goes to 256.
        let terms: [(rank: Int, value: Float)] = [(0, 256), (1, 1), (2, 1)]
        #expect(SumOrder.ranks.sum(terms, rounding: roundToBFloat16) == 258)
        #expect(two.sum(terms, rounding: roundToBFloat16) == 256)
        #expect(two.sum([(2, 256), (3, 1)], rounding: roundToBFloat16) == 256)
        #expect(two.sum([(1, 256), (2, 3)], rounding: roundToBFloat16) == 260)
    }

    @Test func everySumBeginsWithPlusZero() {
        // Too small for bf16: the part rounds to -0, and +0 + -0 is +0.
        let tiny: [(rank: Int, value: Float)] = [(3, -0x1p-140)]
        #expect(SumOrder.ranks.sum(tiny, rounding: roundToBFloat16).sign == .minus)
        #expect(two.sum(tiny, rounding: roundToBFloat16).sign == .plus)
        for order in [SumOrder.ranks, two] {
            #expect(order.sum([(0, -0)]) { $0 }.sign == .plus)
            #expect(order.sum([]) { $0 }.bitPattern == 0)
        }
    }

    @Test func partsAreTheRanksOfOneNodeEach() {
        let five = SumOrder.nodes(Nodes(worldSize: 5, devicesPerNode: 2))
        #expect(five.parts(of: [0, 1, 2, 4]) == [0..<2, 2..<3, 3..<4])
        #expect(five.parts(of: [1, 2, 3]) == [0..<1, 1..<3])
        #expect(five.parts(of: [4]) == [0..<1])
        #expect(five.parts(of: []) == [])
        #expect(SumOrder.ranks.parts(of: [0, 1, 4]) == [0..<3])
    }

    /// A row and its weights, element by element as the order's definition has it.
    @Test func combinedRowsAndWeightsFollowTheOrder() {
        let nodes = Nodes(worldSize: 5, devicesPerNode: 2)
        let workload = Workload(
            worldSize: 5, tokens: [1, 0, 0, 0, 0], hidden: 40, topK: 4, expertsPerRank: 1,
            pattern: .given([[4, 1, 0, 3], [], [], [], []]), seed: 3)
        let oracle = Oracle(
            workload, rounding: roundToBFloat16, sums: .nodes(nodes))
        let experts = workload.expertRow(rank: 0, token: 0)
        let weights = workload.weightRow(rank: 0, token: 0)
        func made(_ rank: Int, _ element: Float) -> Float {
            roundToBFloat16(
                roundToBFloat16(element)
                    * oracle.rankFactor(rank, experts: experts, weights: weights))
        }
        let expected = workload.tokenRow(rank: 0, token: 0).map { element in
            let first = roundToBFloat16(made(0, element) + made(1, element))
            return roundToBFloat16((first + made(3, element)) + made(4, element))
        }
        #expect(oracle.combinedRow(rank: 0, token: 0) == expected)
        #expect(
            oracle.combinedRow(rank: 0, token: 0)
                != Oracle(workload, rounding: roundToBFloat16).combinedRow(rank: 0, token: 0))
        #expect(
            oracle.combinedWeights(rank: 0, token: 0)
                == weights.map { (($0 + $0) + $0) + $0 })
        // Of ranks 1, 2 and 3: w + (w + w), not (w + w) + w.
        #expect(
            oracle.combinedWeights(rank: 0, token: 0, from: [1, 2, 3])
                == weights.map { $0 + ($0 + $0) })
    }
}

/// What the oracle says of the network, against numbers counted by hand.
@Suite struct NetworkTrafficTests {
    @Test func theLastNodeHasWhatIsLeft() {
        let nodes = Nodes(worldSize: 13, devicesPerNode: 4)
        #expect(nodes.count == 4)
        #expect(nodes.ranks(of: 2) == 8..<12)
        #expect(nodes.ranks(of: 3) == 12..<13)
        #expect([0, 3, 4, 12].map(nodes.node(of:)) == [0, 0, 1, 3])
        #expect(Nodes(worldSize: 1, devicesPerNode: 1).count == 1)
        #expect(Nodes(worldSize: 32, devicesPerNode: 8).count == 4)
    }

    /// Three nodes, {0, 1}, {2, 3} and {4}; expert e is at rank e.
    private let small = NetworkTraffic(
        Workload(
            worldSize: 5, tokens: [4, 0, 0, 0, 2], hidden: 5, topK: 2, expertsPerRank: 1,
            pattern: .given([[0, 1, 2, 3, 4, 1, -1, 9], [], [], [], [4, 4, 0, 2]]), seed: 1),
        nodes: Nodes(worldSize: 5, devicesPerNode: 2))

    @Test func tokensAreCountedOncePerNode() {
        let first = small.sources[0]
        // Own node; node 1 twice; own node and node 2; nowhere.
        #expect([first.logicalTokens, first.physicalTokens, first.remoteRows] == [4, 2, 3])
        let last = small.sources[4]
        #expect([last.logicalTokens, last.physicalTokens, last.remoteRows] == [3, 2, 2])
        #expect(small.sources[1].logicalTokens == 0)
        #expect(small.sources.map(\.remoteNodes) == [2, 2, 2, 2, 2])
        #expect(small.sources.map(\.remoteRanks) == [3, 3, 3, 3, 4])
        #expect(small.total(\.logicalTokens) == 7)
        #expect(small.total(\.physicalTokens) == 4)
    }

    @Test func packetsAreCountedWithoutPadding() {
        let packet = PacketByteCount(row: 10, topK: 2, carriesWeights: true, scales: 3)
        #expect(packet.dispatch == 10 + 8 + 8 + 3 + 4)
        #expect(packet.combine == 10 + 8)
        let bare = PacketByteCount(row: 10, topK: 2, carriesWeights: false)
        #expect(bare.dispatch == 10 + 8 + 4)
        #expect(bare.combine == 10)
        #expect(small.byteLowerBound(packetByteCount: packet.dispatch) == 132)
        #expect(small.byteLowerBound(packetByteCount: packet.combine) == 72)
    }

    @Test func aNodeIsToldOfEveryChunkAndOfNoneToo() {
        // Ranks without tokens tell both other nodes so.
        #expect(small.sources.map(\.chunks) == [1, 1, 1, 1, 1])
        #expect(small.sources.map(\.toldChunks) == [2, 2, 2, 2, 2])
        #expect(small.sources.map(\.filledChunks) == [2, 0, 0, 0, 2])
        #expect(small.sources.map(\.requests) == [4, 2, 2, 2, 4])
        #expect(small.total(\.requestBound) == 20)
    }

    @Test(arguments: [(64, 1), (65, 2), (128, 2), (130, 3)])
    func aChunkIs64TokensOfTheSource(tokens: Int, chunks: Int) {
        // The first 64 to the other node, the rest at home.
        let traffic = NetworkTraffic(
            nodes: Nodes(worldSize: 2, devicesPerNode: 1), tokens: [tokens, 0]
        ) { _, token in token < 64 ? [1] : [0] }
        let source = traffic.sources[0]
        #expect([source.chunks, source.filledChunks] == [chunks, 1])
        #expect([source.requests, source.requestBound] == [chunks + 1, 2 * chunks])
        #expect([source.logicalTokens, source.physicalTokens] == [tokens, 64])
    }

    /// The issue's own number: 4 nodes of 8 ranks, 128 tokens, every token to every node.
    @Test func fourNodesOfEightNeedTwelveRequestsForTwoChunks() {
        let traffic = NetworkTraffic(
            nodes: Nodes(worldSize: 32, devicesPerNode: 8), tokens: Array(repeating: 128, count: 32)
        ) { _, _ in [3, 8, 17, 31] }
        for source in traffic.sources {
            #expect(source.requestBound == 12)
            #expect(source.requests == 12)
            #expect(source.logicalTokens == 4 * 128)
            #expect(source.physicalTokens == 3 * 128)
        }
    }
}

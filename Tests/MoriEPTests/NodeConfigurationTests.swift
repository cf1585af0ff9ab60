import MoriEP
import MoriTestSupport
import Testing

/// What an operator between nodes may be made for.
@Suite struct NodeConfigurationTests {
    private static let kernels = InterNodeSupport.kernels

    private static func config(
        _ kernel: KernelType, of devicesPerNode: Int
    ) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: 64, maxInputTokensPerRank: 8, expertsPerRank: 4,
            expertsPerToken: 2, kernelType: kernel, devicesPerNode: devicesPerNode)
    }

    private static func refusal(
        of config: EPDispatchCombineConfig, worldSize: Int
    ) throws -> MoriError {
        let error = try #require(throws: MoriError.self) {
            try config.validate(worldSize: worldSize)
        }
        #expect(error.code == .invalidConfiguration)
        let planned = try #require(throws: MoriError.self) {
            _ = try EPDispatchCombineOp.memoryPlan(for: config, worldSize: worldSize)
        }
        #expect(planned.message == error.message)
        return error
    }

    @Test(arguments: kernels)
    func moreRanksOfANodeThanOfTheWorldAreRefused(_ kernel: KernelType) throws {
        let error = try Self.refusal(of: Self.config(kernel, of: 5), worldSize: 4)
        for words in ["devicesPerNode is 5", "world of 4", "nearest 4"] {
            #expect(error.message.contains(words), "\(error)")
        }
    }

    @Test(arguments: kernels)
    func worldsThatAreNoMultipleOfANodeAreLegal(_ kernel: KernelType) throws {
        for (ranks, perNode) in [(5, 2), (13, 4), (7, 7), (9, 8), (1, 1)] {
            try Self.config(kernel, of: perNode).validate(worldSize: ranks)
        }
    }

    @Test(arguments: kernels)
    func moreNodesThanASetCanNameAreRefused(_ kernel: KernelType) throws {
        let error = try Self.refusal(of: Self.config(kernel, of: 1), worldSize: 65)
        for words in ["65 nodes", "up to 64", "nearest devicesPerNode 2"] {
            #expect(error.message.contains(words), "\(error)")
        }
        try Self.config(kernel, of: 1).validate(worldSize: 64)
        let wide = try Self.refusal(of: Self.config(kernel, of: 65), worldSize: 130)
        #expect(wide.message.contains("1 to 64"), "\(wide)")
    }

    /// A descriptor has 31 bits for the bytes of one write.
    @Test func moreThanOneWriteCanTakeIsRefused() throws {
        var config = Self.config(.asyncLL, of: 2)
        config.hiddenDim = 1 << 18
        config.maxInputTokensPerRank = 1 << 13
        let error = try Self.refusal(of: config, worldSize: 4)
        #expect(error.message.contains("2 GiB"), "\(error)")
        config.kernelType = .interNode
        try config.validate(worldSize: 4)
    }

    /// The plan says what the memory is made of: nothing for the network on one node, and
    /// sections for the worst proxy table otherwise.
    @Test func aWorldOfOneNodeHasNoRings() throws {
        for kernel in Self.kernels {
            let one = try EPDispatchCombineOp.memoryPlan(
                for: Self.config(kernel, of: 4), worldSize: 4)
            let two = try EPDispatchCombineOp.memoryPlan(
                for: Self.config(kernel, of: 2), worldSize: 4)
            #expect(one.pinnedByteCount < two.pinnedByteCount)
            #expect(one.symmetricByteCount < two.symmetricByteCount)
        }
    }
}

import MoriEP

/// The experts spread over the ranks of a world: rows go to them and come back by MoriEP.
///
/// Rank r has experts r * n to (r + 1) * n. Two operators serve all layers, one for each phase: their
/// rounds follow each other, so no layer needs memory of its own.
package final class RankMixture: Mixture {
    /// How rows travel; the same on every rank.
    package struct Configuration: Sendable {
        /// f32 gives what one process gives; bf16 halves the bytes.
        package var rowType: ElementType = .float32
        /// Rows of a rank in one step, at most.
        package var prefillRows: Int
        package var decodeRows: Int
        /// Ranks of a node; fewer than all lets the rest go over the network.
        package var ranksPerNode: Int
        /// Between nodes InterNodeV1; inside one IntraNode.
        package var prefillKernel: KernelType
        /// InterNodeV1LL or AsyncLL.
        package var decodeKernel: KernelType

        package init(
            rowType: ElementType, prefillRows: Int, decodeRows: Int, worldSize: Int,
            ranksPerNode: Int? = nil, decodeKernel: KernelType = .asyncLL
        ) {
            let perNode = ranksPerNode ?? worldSize
            self.rowType = rowType
            self.prefillRows = prefillRows
            self.decodeRows = decodeRows
            self.ranksPerNode = perNode
            prefillKernel = perNode < worldSize ? .interNodeV1 : .intraNode
            self.decodeKernel = decodeKernel
        }
    }

    private let weights: ModelWeights
    private let stream: DeviceStream
    private let prefill: Lane
    private let decode: Lane
    private var scratch = ExpertScratch()
    private var input: [Float] = []
    private var output: [Float] = []

    /// The experts that a rank hosts.
    package static func experts(
        of rank: Int, worldSize: Int, _ c: ModelConfiguration
    ) -> Range<Int> {
        let each = (c.experts + worldSize - 1) / worldSize
        return min(rank * each, c.experts)..<min((rank + 1) * each, c.experts)
    }

    /// Makes the operators.
    ///
    /// Collective.
    ///
    /// - Parameters:
    ///   - weights: With the experts of this rank.
    ///   - world: The ranks that the experts are spread over.
    ///   - configuration: How rows travel; the same on every rank.
    /// - Throws: as `EPDispatchCombineOp`.
    package init(
        _ weights: ModelWeights, in world: SymmetricMemory, _ configuration: Configuration
    ) async throws(MoriError) {
        self.weights = weights
        stream = try DeviceStream(on: world.device)
        prefill = try await Lane(
            weights.configuration, in: world, configuration, rows: configuration.prefillRows,
            configuration.prefillKernel)
        decode = try await Lane(
            weights.configuration, in: world, configuration, rows: configuration.decodeRows,
            configuration.decodeKernel)
    }

    /// Gives the operators' memory back.
    ///
    /// Collective.
    package func close() async throws(MoriError) {
        try await prefill.op.close()
        try await decode.op.close()
    }

    package func apply(
        _ rows: RoutedRows, into sums: inout [Float], meanwhile: () -> Void
    ) throws(MoriError) {
        let lane = rows.phase == .prefill ? prefill : decode
        let hidden = weights.configuration.hidden
        let (tokens, routes) = try lane.fill(rows)

        // Rows leave; what needs nobody else is computed while they travel. This thread runs the device's
        // work itself: on a CPU nobody else should be woken for it.
        var pending: PendingDispatch? = try stream.synchronize { () throws(MoriError) in
            try lane.op.dispatchSend(
                tokens, weights: routes.weights, indices: routes.experts, on: stream)
        }
        meanwhile()
        var received: DispatchOutput? = try stream.synchronize { () throws(MoriError) in
            guard let sent = pending.take() else { preconditionFailure("received twice") }
            let received = try lane.op.dispatchReceive(sent, on: stream)
            _ = try lane.op.convertToStandardMoE(received, into: lane.layout, on: stream)
            return received
        }

        try applyExperts(lane, layer: rows.layer)

        // Weighted sums over this rank's experts go back, and are summed over the ranks.
        let combined = try stream.synchronize { () throws(MoriError) in
            guard let output = received.take() else { preconditionFailure("combined twice") }
            let results = try lane.op.convertFromStandardMoE(
                lane.output, of: output, layout: lane.layout, on: stream)
            return try lane.op.combine(results, of: output, input: .registered, on: stream)
        }
        try TensorRows.read(combined.tokens, from: 0, elements: rows.count * hidden, into: &sums)
    }

    /// Each expert of this rank on the rows that came for it.
    private func applyExperts(_ lane: Lane, layer number: Int) throws(MoriError) {
        let layer = weights.layers[number]
        let hidden = weights.configuration.hidden
        let counts = unsafe try lane.layout.counts.hostElements(as: Int32.self)
        for (index, expert) in layer.experts.enumerated() {
            let count = unsafe Int(counts[index])
            guard count > 0 else { continue }
            let elements = count * hidden
            let first = index * lane.layout.capacity * hidden
            if input.count < elements {
                input = [Float](repeating: 0, count: elements)
                output = input
            }
            try TensorRows.read(lane.layout.tokens, from: first, elements: elements, into: &input)
            expert.apply(input, rows: count, scratch: &scratch, into: &output)
            try TensorRows.write(output, elements: elements, to: lane.output, at: first)
        }
    }
}

/// An operator and the tensors that it works on.
private final class Lane {
    let op: EPDispatchCombineOp
    let layout: StandardMoELayout
    /// What the experts made, [experts of this rank, capacity, hidden].
    let output: DeviceTensor
    private let tokens: DeviceTensor
    private let experts: DeviceTensor
    private let weights: DeviceTensor

    init(
        _ c: ModelConfiguration, in world: SymmetricMemory,
        _ configuration: RankMixture.Configuration, rows: Int, _ kernel: KernelType
    ) async throws(MoriError) {
        let device = world.device
        let type = configuration.rowType
        op = try await EPDispatchCombineOp(
            EPDispatchCombineConfig(
                elementType: type, hiddenDim: c.hidden,
                maxTokenElementByteSize: type == .bfloat16 ? 2 : 4, maxInputTokensPerRank: rows,
                expertsPerRank: (c.experts + world.worldSize - 1) / world.worldSize,
                expertCount: c.experts, expertsPerToken: c.expertsPerToken,
                combineInput: .registered, kernelType: kernel,
                devicesPerNode: configuration.ranksPerNode),
            in: world)
        layout = try op.makeStandardMoELayout()
        output = try DeviceTensor(
            shape: layout.tokens.shape, elementType: type, on: device)
        tokens = try DeviceTensor(shape: [rows, c.hidden], elementType: type, on: device)
        experts = try DeviceTensor(
            shape: [rows, c.expertsPerToken], elementType: .int32, on: device)
        weights = try DeviceTensor(
            shape: [rows, c.expertsPerToken], elementType: .float32, on: device)
    }

    /// Puts rows where dispatch reads them; nothing enqueued does at this time.
    func fill(
        _ rows: RoutedRows
    ) throws(MoriError) -> (
        tokens: DeviceTensor, routes: (experts: DeviceTensor, weights: DeviceTensor)
    ) {
        let (count, topK) = (rows.count, experts.shape[1])
        try TensorRows.write(
            rows.tokens, elements: count * tokens.shape[1], to: tokens, at: 0)
        try TensorRows.write(rows.weights, elements: count * topK, to: weights, at: 0)
        let numbers = unsafe try experts.hostElements(as: Int32.self)
        for place in 0..<count * topK { unsafe numbers[place] = rows.experts[place] }
        return (
            try tokens.prefix(count), (try experts.prefix(count), try weights.prefix(count))
        )
    }
}

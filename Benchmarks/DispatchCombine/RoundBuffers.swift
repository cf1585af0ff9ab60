import MoriDevice
import MoriEP
import MoriOracle

/// One rank's tensors.
struct RoundBuffers {
    /// The tokens that it dispatches, [n, hidden].
    let tokens: DeviceTensor
    /// f32 [n, top-k].
    let weights: DeviceTensor
    /// i32 [n, top-k].
    let indices: DeviceTensor

    /// Makes the tensors; tokens and weights are NaNs.
    init(
        _ routes: Routes, rank: Int, config: EPDispatchCombineConfig, on stream: DeviceStream
    ) throws(MoriError) {
        let workload = routes.workload
        let count = workload.tokens[rank]
        tokens = try DeviceTensor(
            shape: [count, workload.hidden],
            elementType: config.quantizesDispatch ? .bfloat16 : config.elementType,
            on: stream.device)
        weights = try DeviceTensor(
            shape: [count, workload.topK], elementType: .float32, on: stream.device)
        try tokens.fill(with: 0xFF, on: stream)
        try weights.fill(with: 0xFF, on: stream)
        indices = try DeviceTensor(
            (0..<count).flatMap { workload.expertRow(rank: rank, token: $0) },
            shape: [count, workload.topK], on: stream)
    }

    /// Writes the workload's tokens and weights.
    func load<Element: BenchElement>(
        _ type: Element.Type, _ workload: Workload, rank: Int, on stream: DeviceStream
    ) async throws(MoriError) {
        let count = tokens.shape[0]
        try weights.copy(
            from: (0..<count).flatMap { workload.weightRow(rank: rank, token: $0) }, on: stream)
        for piece in DeviceTensor.pieces(count, rowByteCount: tokens.byteCount / max(1, count)) {
            var elements: [Element] = []
            for token in piece {
                elements += RowMath.rounded(workload.tokenRow(rank: rank, token: token))
            }
            try tokens.rows(piece).copy(from: elements, on: stream)
            // Or the copies' staging buffers would hold all tokens once more.
            try await stream.completion()
        }
    }
}

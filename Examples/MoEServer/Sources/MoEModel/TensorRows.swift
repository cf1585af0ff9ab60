import MoriEP

/// Rows between the model, which computes in fp32, and tensors of the host device.
enum TensorRows {
    /// Reads elements of an f32 or bf16 tensor.
    static func read(
        _ tensor: DeviceTensor, from first: Int, elements: Int,
        into target: inout [Float]
    ) throws(MoriError) {
        precondition(first >= 0 && elements >= 0 && first + elements <= tensor.count)
        precondition(elements <= target.count)
        guard elements > 0 else { return }
        if tensor.elementType == .bfloat16 {
            let all = unsafe try tensor.hostElements(as: BFloat16.self)
            for index in 0..<elements { target[index] = unsafe all[first + index].float }
        } else {
            let all = unsafe try tensor.hostElements(as: Float.self)
            unsafe target.withUnsafeMutableBufferPointer { target in
                guard let to = target.baseAddress, let from = all.baseAddress else { return }
                unsafe to.update(from: from + first, count: elements)
            }
        }
    }

    /// Writes elements of an f32 or bf16 tensor; bf16 to nearest even.
    static func write(
        _ source: [Float], elements: Int, to tensor: DeviceTensor, at first: Int
    ) throws(MoriError) {
        precondition(first >= 0 && elements >= 0 && first + elements <= tensor.count)
        precondition(elements <= source.count)
        guard elements > 0 else { return }
        if tensor.elementType == .bfloat16 {
            let all = unsafe try tensor.hostElements(as: BFloat16.self)
            for index in 0..<elements { unsafe all[first + index] = BFloat16(source[index]) }
        } else {
            let all = unsafe try tensor.hostElements(as: Float.self)
            unsafe source.withUnsafeBufferPointer { source in
                guard let from = source.baseAddress, let to = all.baseAddress else { return }
                unsafe (to + first).update(from: from, count: elements)
            }
        }
    }
}

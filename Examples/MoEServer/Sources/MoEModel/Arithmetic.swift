import CModelMath

/// A dense matrix [inner, columns] that rows are multiplied by.
package struct Matrix: Sendable {
    package let inner: Int
    package let columns: Int
    package let elements: [Float]

    /// From what files have: [columns, inner], a row for each output.
    package init(transposing source: [Float], inner: Int, columns: Int) {
        precondition(source.count == inner * columns)
        (self.inner, self.columns) = (inner, columns)
        var elements = [Float](repeating: 0, count: source.count)
        for column in 0..<columns {
            for row in 0..<inner {
                elements[row * columns + column] = source[column * inner + row]
            }
        }
        self.elements = elements
    }
}

/// Rows of floats and what the model does with them; every function checks its sizes, and gives a
/// row the same result whatever rows stand beside it.
package enum Arithmetic {
    /// y = x * matrix, for the first `rows` rows.
    package static func multiply(
        _ x: [Float], _ matrix: Matrix, rows: Int, into y: inout [Float]
    ) {
        precondition(x.count >= rows * matrix.inner && y.count >= rows * matrix.columns)
        guard rows > 0 else { return }
        unsafe x.withUnsafeBufferPointer { x in
            unsafe matrix.elements.withUnsafeBufferPointer { w in
                unsafe y.withUnsafeMutableBufferPointer { y in
                    unsafe model_matmul(
                        x.baseAddress, w.baseAddress, y.baseAddress, rows, matrix.inner,
                        matrix.columns)
                }
            }
        }
    }

    /// Each row by the root of its mean square, times weight.
    static func normalize(
        _ x: [Float], weight: [Float], epsilon: Float, rows: Int,
        into y: inout [Float]
    ) {
        let columns = weight.count
        precondition(x.count >= rows * columns && y.count >= rows * columns)
        guard rows > 0 else { return }
        unsafe x.withUnsafeBufferPointer { x in
            unsafe weight.withUnsafeBufferPointer { weight in
                unsafe y.withUnsafeMutableBufferPointer { y in
                    unsafe model_norm(
                        x.baseAddress, weight.baseAddress, y.baseAddress, rows, columns, epsilon)
                }
            }
        }
    }

    /// silu(gate) * up of rows that are gate, then up, of `columns` elements each.
    static func gate(
        _ x: [Float], columns: Int, rows: Int, into y: inout [Float]
    ) {
        precondition(x.count >= 2 * rows * columns && y.count >= rows * columns)
        guard rows > 0 else { return }
        unsafe x.withUnsafeBufferPointer { x in
            unsafe y.withUnsafeMutableBufferPointer { y in
                unsafe model_gated(x.baseAddress, y.baseAddress, rows, columns)
            }
        }
    }

    /// Turns the heads of a row, which begins at `first`, by a position's angles.
    static func rotate(
        _ x: inout [Float], at first: Int, heads: Int, size: Int, cosine: [Float], sine: [Float],
        position: Int
    ) {
        let angles = position * size / 2
        precondition(first >= 0 && x.count >= first + heads * size)
        precondition(
            angles >= 0 && min(cosine.count, sine.count) >= angles + size / 2)
        unsafe x.withUnsafeMutableBufferPointer { x in
            unsafe cosine.withUnsafeBufferPointer { cosine in
                unsafe sine.withUnsafeBufferPointer { sine in
                    unsafe model_rotate(
                        x.baseAddress.unsafelyUnwrapped + first,
                        cosine.baseAddress.unsafelyUnwrapped + angles,
                        sine.baseAddress.unsafelyUnwrapped + angles, heads, size)
                }
            }
        }
    }

    /// What a query, which begins at `begin`, sees in `length` positions of keys and values.
    static func attend(
        _ query: [Float], from begin: Int, keys: [Float], values: [Float], length: Int,
        heads: Int, hidden: Int, scores: inout [Float], into y: inout [Float], at first: Int
    ) {
        precondition(begin >= 0 && query.count >= begin + hidden)
        precondition(length > 0 && scores.count >= length)
        precondition(first >= 0 && y.count >= first + hidden)
        precondition(keys.count >= length * hidden && values.count >= length * hidden)
        unsafe query.withUnsafeBufferPointer { query in
            unsafe keys.withUnsafeBufferPointer { keys in
                unsafe values.withUnsafeBufferPointer { values in
                    unsafe scores.withUnsafeMutableBufferPointer { scores in
                        unsafe y.withUnsafeMutableBufferPointer { y in
                            unsafe model_attention(
                                query.baseAddress.unsafelyUnwrapped + begin, keys.baseAddress,
                                values.baseAddress,
                                y.baseAddress.unsafelyUnwrapped + first, scores.baseAddress,
                                length, heads, hidden / heads)
                        }
                    }
                }
            }
        }
    }
}

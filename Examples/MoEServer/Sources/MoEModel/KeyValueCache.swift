/// What attention remembers of one sequence: a key and a value for each position and layer.
///
/// It lies on the rank that the sequence belongs to, and nowhere else.
package final class KeyValueCache {
    /// Positions that are filled.
    package internal(set) var length = 0
    /// [layer][context, hidden].
    var keys: [[Float]]
    var values: [[Float]]

    /// Allocates room for the whole context.
    package init(_ c: ModelConfiguration) {
        let empty = [Float](repeating: 0, count: c.context * c.hidden)
        keys = Array(repeating: empty, count: c.layers)
        values = keys
    }

    /// Forgets the sequence; the room is used again.
    package func reset() { length = 0 }
}

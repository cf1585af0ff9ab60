/// Where the messages of a rank lie in its memory; the same on every rank.
///
/// For each queue to or from each rank: the places that messages are sent from, those where they
/// arrive, a word for each of these, and the word by which the receiver gives a place back.
struct MessageLayout: Sendable {
    var worldSize: Int
    var queuesPerPeer: Int
    /// Bytes of a message.
    var byteCount: Int

    /// Messages of one queue under way.
    static let window = 4

    /// Everything of one queue.
    private var queueBytes: Int { 2 * Self.window * byteCount + 8 * (Self.window + 1) }

    private func begin(_ rank: Int, _ queue: Int) -> Int {
        (rank * queuesPerPeer + queue) * queueBytes
    }

    /// Where message `number` to `rank` is sent from.
    func outgoing(_ rank: Int, _ queue: Int, _ number: Int) -> Int {
        begin(rank, queue) + number % Self.window * byteCount
    }

    /// Where message `number` from `rank` arrives.
    func incoming(_ rank: Int, _ queue: Int, _ number: Int) -> Int {
        begin(rank, queue) + (Self.window + number % Self.window) * byteCount
    }

    /// The word of message `number` from `rank`: its number and one more.
    func word(_ rank: Int, _ queue: Int, _ number: Int) -> Int {
        begin(rank, queue) + 2 * Self.window * byteCount + 8 * (number % Self.window)
    }

    /// The word by which `rank` says how many messages it has taken.
    func taken(_ rank: Int, _ queue: Int) -> Int { word(rank, queue, 0) + 8 * Self.window }

    /// Bytes of it all.
    var byteCountOfAll: Int { worldSize * queuesPerPeer * queueBytes }

    /// What the 8 bytes at `index` of a message hold: no two messages, edges or places have the
    /// same.
    static func content(from: Int, to: Int, queue: Int, number: Int, index: Int) -> UInt64 {
        var value = UInt64(from) << 56 | UInt64(to) << 48 | UInt64(queue) << 40
        value ^= UInt64(number) << 20 ^ UInt64(index)
        // A mix of the bits (splitmix64), so that a stale message matches nowhere.
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

import CMoriSystem

/// The numbers of a channel that other threads read while the proxy's thread writes them.
///
/// Plain words with one writer; every access is atomic, so a reader is at most late.
@safe
final class ChannelCounters: @unchecked Sendable {
    /// What is counted for each verb and peer.
    ///
    /// One cache line each.
    enum Field: Int {
        case workRequests, posts, completions, payloadByteCount, signalByteCount, phases
    }

    /// Numbers of the whole channel.
    enum Total: Int {
        case consumed, completed
    }

    private static let wordsPerLine = 8

    /// [verb][peer] lines of fields, then one line of totals.
    private let words: UnsafeMutablePointer<UInt64>
    private let wordCount: Int
    private let peers: [Int]

    init(peers: [Int]) {
        self.peers = peers
        wordCount = (2 * peers.count + 1) * Self.wordsPerLine
        unsafe words = .allocate(capacity: wordCount)
        unsafe words.initialize(repeating: 0, count: wordCount)
    }

    deinit { unsafe words.deallocate() }

    // MARK: The proxy's thread

    /// The line of a verb (0: dispatch) and a peer, by its place among the peers.
    @inline(__always)
    func line(verb: Int, peer: Int) -> UnsafeMutablePointer<UInt64> {
        unsafe words + (verb * peers.count + peer) * Self.wordsPerLine
    }

    /// Announces a total, after everything that it counts.
    @inline(__always)
    func publish(_ total: Total, _ value: UInt64) {
        unsafe mori_store_release_u64(totals + total.rawValue, value)
    }

    // MARK: Any thread

    /// Reads a total, before everything that it does not count.
    func load(_ total: Total) -> UInt64 {
        unsafe mori_load_acquire_u64(totals + total.rawValue)
    }

    /// Everything counted so far.
    func statistics() -> NetworkStatistics {
        NetworkStatistics(dispatch: counts(verb: 0), combine: counts(verb: 1))
    }

    /// Begins to look for the largest phase anew.
    func resetPhases() {
        for verb in 0..<2 {
            for peer in peers.indices {
                unsafe mori_store_relaxed_u64(
                    line(verb: verb, peer: peer) + Field.phases.rawValue, 0)
            }
        }
    }

    private var totals: UnsafeMutablePointer<UInt64> {
        unsafe words + 2 * peers.count * Self.wordsPerLine
    }

    private func counts(verb: Int) -> NetworkStatistics.Verb {
        var result = NetworkStatistics.Verb()
        for (index, peer) in peers.enumerated() {
            let line = unsafe line(verb: verb, peer: index)
            func field(_ field: Field) -> Int {
                Int(unsafe mori_load_relaxed_u64(line + field.rawValue))
            }
            var counts = NetworkStatistics.Counts()
            counts.workRequests = field(.workRequests)
            counts.posts = field(.posts)
            counts.completions = field(.completions)
            counts.payloadByteCount = field(.payloadByteCount)
            counts.signalByteCount = field(.signalByteCount)
            counts.phases = field(.phases)
            result.byPeer[peer] = counts
        }
        return result
    }
}

extension UnsafeMutablePointer<UInt64> {
    /// Adds to a field of a line of counters, whose only writer is the calling thread.
    @inline(__always)
    func add(_ amount: UInt64, to field: ChannelCounters.Field) {
        let word = unsafe self + field.rawValue
        unsafe mori_store_relaxed_u64(word, mori_load_relaxed_u64(word) &+ amount)
    }

    /// Raises a field of a line of counters to a value.
    @inline(__always)
    func raise(_ field: ChannelCounters.Field, to value: UInt64) {
        let word = unsafe self + field.rawValue
        if unsafe mori_load_relaxed_u64(word) < value { unsafe mori_store_relaxed_u64(word, value) }
    }
}

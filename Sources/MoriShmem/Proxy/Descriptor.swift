/// What a kernel asks the proxy to write: a payload, then a word, to one peer on one queue.
///
/// It travels as four 8-byte words through a ring of pinned memory; `moriep_operator.h` documents each bit.
package struct Descriptor: Hashable, Sendable {
    /// Bytes of the payload; 0: none.
    package var payloadByteCount: UInt32
    /// Where the payload lies in this rank's symmetric memory.
    package var source: UInt64
    /// Where the payload goes in the peer's symmetric memory.
    package var destination: UInt64
    /// Whether a word follows the payload.
    package var hasWord: Bool
    /// Where the word goes in the peer's symmetric memory, a multiple of 8.
    package var wordOffset: UInt64
    /// The word.
    package var value: UInt64
    /// The rank that is written to.
    package var peer: Int
    /// Which of the peer's queues, from 0.
    package var queue: Int
    /// Whether it belongs to a combine, else to a dispatch.
    package var isCombine: Bool
    /// The operator's slot whose completions it counts among.
    package var slot: Int
    /// How often this rank had awaited the network before in this verb, and one more.
    package var phase: Int

    /// 8-byte words of a descriptor: `MORIEP_DESCRIPTOR_WORDS`.
    package static let wordCount = 4
    /// The bit of each word that tells the lap.
    package static let lapBit: UInt64 = 1 << 63

    /// The bits of the third word that are 0.
    package static let reservedBits: UInt64 = 3 << 60

    /// Creates a descriptor; what is not given is 0.
    package init(
        payloadByteCount: UInt32 = 0, source: UInt64 = 0, destination: UInt64 = 0,
        hasWord: Bool = false, wordOffset: UInt64 = 0, value: UInt64 = 0, peer: Int, queue: Int = 0,
        isCombine: Bool = false, slot: Int = 0, phase: Int = 0
    ) {
        self.payloadByteCount = payloadByteCount
        self.source = source
        self.destination = destination
        self.hasWord = hasWord
        self.wordOffset = wordOffset
        self.value = value
        self.peer = peer
        self.queue = queue
        self.isCombine = isCombine
        self.slot = slot
        self.phase = phase
    }

    /// The four words, as in the ring.
    package typealias Words = (UInt64, UInt64, UInt64, UInt64)

    /// Reads the four words; their lap bits do not matter.
    @inline(__always)
    package init(_ words: Words) {
        payloadByteCount = UInt32(truncatingIfNeeded: words.0 >> 32) & 0x7FFF_FFFF
        wordOffset = (words.0 & 0xFFFF_FFFF) << 3
        hasWord = words.1 & (1 << 62) != 0
        isCombine = words.1 & (1 << 61) != 0
        slot = Int(words.1 >> 57 & 0xF)
        queue = Int(words.1 >> 51 & 0x3F)
        phase = Int(words.1 >> 48 & 0x7)
        source = words.1 & Self.offsetMask
        peer = Int(words.2 >> 48 & 0xFFF)
        destination = words.2 & Self.offsetMask
        value = words.2 << 1 & Self.lapBit | words.3 & ~Self.lapBit
    }

    /// The four words for a lap around the ring, the first being 0.
    ///
    /// Kernels write descriptors; this is for tests and benchmarks. Values that do not fit into
    /// their bits are cut.
    package func words(lap: UInt64) -> Words {
        let lapBit = lap & 1 == 0 ? Self.lapBit : 0
        let word0 = UInt64(payloadByteCount & 0x7FFF_FFFF) << 32 | wordOffset >> 3 & 0xFFFF_FFFF
        var word1 = source & Self.offsetMask
        word1 |= hasWord ? 1 << 62 : 0
        word1 |= isCombine ? 1 << 61 : 0
        word1 |= UInt64(slot & 0xF) << 57
        word1 |= UInt64(queue & 0x3F) << 51
        word1 |= UInt64(phase & 0x7) << 48
        var word2 = destination & Self.offsetMask
        word2 |= (value >> 63) << 62
        word2 |= UInt64(peer & 0xFFF) << 48
        return (lapBit | word0, lapBit | word1, lapBit | word2, lapBit | value & ~Self.lapBit)
    }

    private static let offsetMask: UInt64 = 1 << 48 - 1
}

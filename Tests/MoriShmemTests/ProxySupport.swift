import CMoriSystem
import Glibc
import MoriDevice
import MoriShmem
import MoriTestSupport
import Synchronization

/// A descriptor as the documentation in moriep_operator.h has it, written down a second time so that the
/// tests do not agree with the proxy by sharing its code.
struct Transfer: Hashable, Sendable {
    var peer = 0
    var queue = 0
    var slot = 0
    var phase = 0
    var isCombine = false
    var bytes = 0
    var source = 0
    var destination = 0
    var word: (offset: Int, value: UInt64)?

    /// Word by word, bit by bit, from the most significant on.
    func words(ticket: Int, entryCount: Int) -> [UInt64] {
        let lap: UInt64 = ticket / entryCount % 2 == 0 ? 1 : 0
        let value = word?.value ?? 0
        let fields: [[(bits: Int, value: UInt64)]] = [
            [(1, lap), (31, UInt64(bytes)), (32, UInt64((word?.offset ?? 0) / 8))],
            [
                (1, lap), (1, word == nil ? 0 : 1), (1, isCombine ? 1 : 0), (4, UInt64(slot)),
                (6, UInt64(queue)), (3, UInt64(phase)), (48, UInt64(source)),
            ],
            [
                (1, lap), (1, value / (1 << 63)), (2, 0), (12, UInt64(peer)),
                (48, UInt64(destination)),
            ],
            [(1, lap), (63, value % (1 << 63))],
        ]
        return fields.map { word in
            word.reduce(UInt64(0)) { packed, field in
                field.bits == 64 ? field.value : packed << UInt64(field.bits) + field.value
            }
        }
    }

    static func == (left: Transfer, right: Transfer) -> Bool {
        left.words(ticket: 0, entryCount: 1) == right.words(ticket: 0, entryCount: 1)
    }

    func hash(into hasher: inout Hasher) { hasher.combine(words(ticket: 0, entryCount: 1)) }
}

/// Zeroed memory that a test hands to the proxy as rings, counts or a segment.
@safe
final class TestMemory: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int, filledWith byte: UInt8 = 0) {
        self.byteCount = byteCount
        unsafe base = .allocate(byteCount: max(byteCount, 64), alignment: 64)
        unsafe base.initializeMemory(as: UInt8.self, repeating: byte, count: byteCount)
    }

    deinit { unsafe base.deallocate() }

    var address: UInt { UInt(bitPattern: unsafe base) }

    func word(at offset: Int) -> UnsafeMutablePointer<UInt64> {
        unsafe (base + offset).assumingMemoryBound(to: UInt64.self)
    }

    /// What a kernel's poll of this word finds.
    func load(_ offset: Int) -> UInt64 { unsafe mori_load_acquire_u64(word(at: offset)) }

    subscript(bytes: Range<Int>) -> [UInt8] {
        get {
            unsafe Array(UnsafeRawBufferPointer(start: base + bytes.lowerBound, count: bytes.count))
        }
        set {
            precondition(newValue.count == bytes.count)
            for (place, byte) in newValue.enumerated() {
                unsafe (base + bytes.lowerBound + place).storeBytes(of: byte, as: UInt8.self)
            }
        }
    }
}

/// The rings of one rank, and producers' side of them.
final class TestRings: Sendable {
    let memory: RingMemory
    private let block: TestMemory
    private let consumedOffset: Int
    private let completedOffset: Int
    private let tickets: [Ticket]

    private final class Ticket: Sendable {
        let next: Atomic<Int>

        init(_ start: Int) { next = Atomic(start) }
    }

    init(rings: Int = 1, entries: Int = 64, slots: Int = 1) {
        let descriptorBytes = rings * entries * 32
        consumedOffset = descriptorBytes.multiple(of: 64)
        completedOffset = consumedOffset + 64 * rings
        block = TestMemory(byteCount: completedOffset + 64 * slots)
        tickets = (0..<rings).map { _ in Ticket(0) }
        memory = RingMemory(
            descriptors: block.address, ringConsumed: block.address + UInt(consumedOffset),
            slotCompleted: block.address + UInt(completedOffset), ringCount: rings,
            entryCount: entries, slotCount: slots)
    }

    /// Descriptors taken from a ring, modulo 2^32.
    func consumed(_ ring: Int = 0) -> Int { Int(block.load(consumedOffset + 64 * ring) >> 32) }

    /// Descriptors of a slot that are complete, modulo 2^32.
    func completed(_ slot: Int = 0) -> Int { Int(block.load(completedOffset + 64 * slot) >> 32) }

    /// Pushes a descriptor as a kernel does: takes a ticket, waits for room, stores four words.
    func push(_ transfer: Transfer, ring: Int = 0, doorbell: UInt = 0) {
        let ticket = tickets[ring].next.add(1, ordering: .relaxed).oldValue
        while ticket - consumed(ring) >= memory.entryCount { sched_yield() }
        store(transfer.words(ticket: ticket, entryCount: memory.entryCount), ring, ticket)
        wake(doorbell)
    }

    /// Wakes the proxy as a producer does, if there is a doorbell.
    func wake(_ doorbell: UInt) {
        if let bell = unsafe UnsafeMutablePointer<UInt64>(bitPattern: doorbell) {
            unsafe mori_doorbell_ring(bell)
        }
    }

    /// Stores words into the place of a ticket, the last first.
    func store(_ words: [UInt64], _ ring: Int, _ ticket: Int) {
        let place = ring * memory.entryCount + ticket % memory.entryCount
        for index in words.indices.reversed() {
            unsafe mori_store_release_u64(block.word(at: place * 32 + index * 8), words[index])
        }
    }
}

extension Int {
    /// The next multiple of `unit`.
    func multiple(of unit: Int) -> Int { (self + unit - 1) / unit * unit }
}

/// Waits until `condition` holds, at most 20 seconds.
///
/// - Returns: Whether it held.
func eventually(_ condition: () -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + Patience.prompt
    while !condition() {
        if ContinuousClock.now > deadline { return false }
        try? await Task.sleep(for: .microseconds(200))
    }
    return true
}

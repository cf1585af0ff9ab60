import CMoriSystem
import Glibc
import MoriDevice
import MoriShmem
import Synchronization

/// Rings between producers and a proxy: one rank that writes into itself over the loopback fabric.
@safe
final class RingBench: @unchecked Sendable {
    /// What producers push.
    enum Load: String, CaseIterable {
        /// Descriptors of nothing: the ring alone.
        case empty = "nothing"
        /// 64 bytes each, which continue one another and become few requests.
        case payload = "64 bytes"
        /// 64 bytes and a word each, two requests.
        case payloadAndWord = "64 bytes, a word"
    }

    private static let ringCount = 8
    private static let entryCount = 4096
    private static let payloadByteCount = 64

    private let device: Device
    private let block: DeviceBuffer
    private let segment: DeviceBuffer
    private let memory: RingMemory
    private let tails = (0..<RingBench.ringCount).map { _ in Tail() }

    /// Where producers of one ring take their tickets.
    private final class Tail: Sendable {
        let next = Atomic<Int>(0)
    }

    init() throws(MoriError) {
        device = try Device(.host)
        let descriptors = Self.ringCount * Self.entryCount * Descriptor.wordCount * 8
        let counts = RingMemory.countStride * Self.ringCount
        block = try DeviceBuffer(
            byteCount: descriptors + counts + RingMemory.countStride, kind: .pinned, on: device)
        segment = try DeviceBuffer(
            byteCount: 2 * Self.entryCount * Self.payloadByteCount, kind: .symmetric, on: device)
        memory = RingMemory(
            descriptors: block.address, ringConsumed: block.address + UInt(descriptors),
            slotCompleted: block.address + UInt(descriptors + counts), ringCount: Self.ringCount,
            entryCount: Self.entryCount, slotCount: 1)
    }

    /// Pushes so many descriptors from each producer, and waits until all are complete.
    ///
    /// - Returns: Nanoseconds from the first push to the last completion.
    func run(_ load: Load, producers: Int, descriptorsEach: Int) async throws(MoriError) -> Int64 {
        let channel = try await makeChannel()
        let proxy = try Proxy(on: device)
        try proxy.attach(channel)
        let start = now(CLOCK_MONOTONIC)
        let total = producers * descriptorsEach
        let end = try await withProducers(producers) { producer in
            self.push(
                load, count: descriptorsEach, ring: producer % Self.ringCount,
                doorbell: proxy.doorbellAddress)
            // The last to finish sees all complete.
            self.awaitCount(at: self.memory.slotCompleted, atLeast: total)
            return now(CLOCK_MONOTONIC)
        }
        await proxy.detach(channel, within: .seconds(10))
        return end - start
    }

    /// Fills a ring and empties it in turns, on one thread.
    ///
    /// - Returns: Nanoseconds of processor time for each side: what a machine that is busy with
    ///   other things changes least.
    func runAlone(
        _ load: Load, descriptors: Int
    ) async throws(MoriError) -> (push: Int64, pop: Int64) {
        let channel = try await makeChannel()
        let doorbell = try DeviceBuffer(byteCount: 64, kind: .pinned, on: device)
        return try await BackgroundThread.run {
            var push: Int64 = 0
            var pop: Int64 = 0
            var pushed = 0
            while pushed < descriptors {
                let count = min(Self.entryCount, descriptors - pushed)
                let begin = now(CLOCK_THREAD_CPUTIME_ID)
                self.push(load, count: count, ring: 0, doorbell: doorbell.address)
                let middle = now(CLOCK_THREAD_CPUTIME_ID)
                while channel.turn().progressed {}
                pop += now(CLOCK_THREAD_CPUTIME_ID) - middle
                push += middle - begin
                pushed += count
            }
            return (push, pop)
        }
    }

    /// A channel over empty rings.
    private func makeChannel() async throws(MoriError) -> ProxyChannel {
        unsafe UnsafeMutableRawPointer(bitPattern: block.address)?
            .initializeMemory(as: UInt8.self, repeating: 0, count: block.byteCount)
        for tail in tails { tail.next.store(0, ordering: .relaxed) }
        let request = FabricRequest(
            device: device, address: segment.address, byteCount: segment.byteCount,
            mappedAddresses: [segment.address], peers: [0], queuesPerPeer: 1, purpose: "bench-ring")
        let link = try await LoopbackFabric().connect(
            request, over: LocalBootstrap.world(size: 1)[0], timeout: .seconds(10))
        return try ProxyChannel(
            link: link, rank: 0, worldSize: 1, peers: [0], queuesPerPeer: 1, memory: memory,
            segmentByteCount: segment.byteCount,
            onFailure: { error, _ in fatalError("the loopback fabric failed: \(error)") })
    }

    /// Runs producers on threads of their own and gives what the latest returned.
    private func withProducers(
        _ count: Int, _ body: @escaping @Sendable (Int) -> Int64
    ) async throws(MoriError) -> Int64 {
        let results = await withTaskGroup(of: Result<Int64, MoriError>.self) { group in
            for producer in 0..<count {
                group.addTask {
                    do throws(MoriError) {
                        return .success(try await BackgroundThread.run { body(producer) })
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var results: [Result<Int64, MoriError>] = []
            for await result in group { results.append(result) }
            return results
        }
        var latest: Int64 = 0
        for result in results { latest = max(latest, try result.get()) }
        return latest
    }

    /// What a kernel does to push.
    private func push(_ load: Load, count: Int, ring: Int, doorbell: UInt) {
        guard
            let entries = unsafe UnsafeMutablePointer<UInt64>(
                bitPattern: memory.descriptors
                    + UInt(ring * Self.entryCount * Descriptor.wordCount * 8)),
            let bell = unsafe UnsafeMutablePointer<UInt64>(bitPattern: doorbell)
        else { return }
        let consumedAddress = memory.ringConsumed + UInt(ring * RingMemory.countStride)
        let tail = tails[ring]
        var room = 0
        let half = UInt64(Self.entryCount * Self.payloadByteCount)
        for _ in 0..<count {
            let ticket = tail.next.add(1, ordering: .relaxed).oldValue
            if ticket >= room {
                // Full as far as this producer knows.
                let least = ticket - Self.entryCount + 1
                room = awaitCount(at: consumedAddress, atLeast: least) + Self.entryCount
            }
            let place = ticket % Self.entryCount
            let offset = UInt64(place * Self.payloadByteCount)
            var descriptor = Descriptor(peer: 0)
            if load != .empty {
                descriptor.payloadByteCount = UInt32(Self.payloadByteCount)
                descriptor.source = offset
                descriptor.destination = half + offset
            }
            if load == .payloadAndWord {
                descriptor.payloadByteCount -= 8
                descriptor.hasWord = true
                descriptor.wordOffset = half + offset + UInt64(Self.payloadByteCount - 8)
                descriptor.value = UInt64(ticket)
            }
            let words = descriptor.words(lap: UInt64(ticket / Self.entryCount))
            let entry = unsafe entries + place * Descriptor.wordCount
            unsafe mori_store_release_u64(entry, words.0)
            unsafe mori_store_release_u64(entry + 1, words.1)
            unsafe mori_store_release_u64(entry + 2, words.2)
            unsafe mori_store_release_u64(entry + 3, words.3)
            unsafe mori_doorbell_ring(bell)
        }
    }

    /// Waits until a count word has reached a number below 2^32, and gives what it is then.
    @discardableResult
    private func awaitCount(at address: UInt, atLeast least: Int) -> Int {
        guard let word = unsafe UnsafePointer<UInt64>(bitPattern: address) else { return least }
        var turn = 0
        while true {
            let count = Int(unsafe mori_load_acquire_u64(word) >> 32)
            if count >= least { return count }
            turn += 1
            if turn < 100 { mori_pause_core() } else { sched_yield() }
        }
    }

}

private func now(_ clock: clockid_t) -> Int64 {
    var time = timespec()
    unsafe clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

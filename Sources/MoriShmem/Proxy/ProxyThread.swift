import CMoriSystem
import Glibc
import MoriDevice
import Synchronization

/// The proxy's thread and what it shares with the others.
@safe
final class ProxyThread: @unchecked Sendable {
    /// A channel that is to go.
    private struct Departure: Sendable {
        let channel: ProxyChannel
        /// Nanoseconds of the monotonic clock.
        let deadline: Int64
        let finish: @Sendable (Bool) -> Void
    }

    private struct Roster: Sendable {
        var channels: [ProxyChannel] = []
        var departures: [Departure] = []
        var isRunning = false
        var isStopping = false
    }

    private let roster = Locked(Roster())
    /// Counts changes of the roster, so that the thread locks it only when there is one.
    private let changes = Atomic<Int>(0)
    private let doorbellMemory: DeviceBuffer
    private let doorbell: UnsafeMutablePointer<UInt64>
    private let wakesProducers: Bool
    private let spinTurns: Int
    private let yieldTurns: Int
    private let tickNanoseconds: Int64
    private let processors: (@Sendable () -> [Int32])?

    init(
        doorbell: DeviceBuffer, settings: ProxySettings, processors: (@Sendable () -> [Int32])?
    ) throws(MoriError) {
        guard let pointer = unsafe UnsafeMutablePointer<UInt64>(bitPattern: doorbell.address) else {
            throw MoriError(.deviceFailure, "the device allocated a doorbell at address 0")
        }
        doorbellMemory = doorbell
        unsafe self.doorbell = pointer
        unsafe mori_store_release_u64(pointer, 0)
        wakesProducers = settings.wakesProducers
        spinTurns = settings.spinTurns
        #if Checked
        yieldTurns = 0  // nobody runs for whom time stands
        #else
        yieldTurns = settings.yieldTurns
        #endif
        tickNanoseconds = settings.tickInterval.nanoseconds
        self.processors = processors
    }

    func attach(_ channel: ProxyChannel) throws(MoriError) {
        let starts = roster.withLock { roster in
            roster.channels.append(channel)
            defer { roster.isRunning = true }
            return !roster.isRunning
        }
        noteChange()
        guard starts else { return }
        do throws(MoriError) {
            mori_announce_thread()
            try BackgroundThread.start {
                mori_begin_thread()
                self.run()
                mori_end_thread()
            }
        } catch {
            mori_end_thread()
            roster.withLock { roster in
                roster.channels.removeAll()
                roster.isRunning = false
            }
            throw error
        }
    }

    func detach(_ channel: ProxyChannel, within duration: Duration) async -> Bool {
        let deadline = monotonicNanoseconds() + duration.nanoseconds
        return await withCheckedContinuation { continuation in
            let departure = Departure(channel: channel, deadline: deadline) {
                continuation.resume(returning: $0)
            }
            let isServed = roster.withLock { roster in
                guard roster.channels.contains(where: { $0 === channel }) else { return false }
                roster.departures.append(departure)
                return true
            }
            if isServed { noteChange() } else { departure.finish(true) }
        }
    }

    func stop() {
        roster.withLock { $0.isStopping = true }
        noteChange()
    }

    private func noteChange() {
        changes.add(1, ordering: .releasing)
        unsafe mori_doorbell_ring(doorbell)
    }

    // MARK: On the thread

    /// Turns between two ticks of a busy thread; those of an idle one are the settings' interval
    /// apart.
    private static let turnsPerTick = 1000
    /// A sleep at most while the fabric has something under way: completions do not ring.
    private static let completionNanoseconds: Int64 = 50_000
    /// A nap where producers do not ring.
    private static let napNanoseconds: Int64 = 20_000

    private func run() {
        unsafe mori_prepare_thread("mori-proxy")
        if let processors = processors?(), !processors.isEmpty {
            // Where it may not be pinned it runs all the same.
            _ = unsafe mori_pin_thread(processors, Int32(processors.count))
        }
        var known = Roster()
        var knownChanges = -1
        var idleTurns = 0
        var isArmed = false
        var seen: UInt32 = 0
        var turnsSinceTick = 0
        var lastTick = monotonicNanoseconds()
        while true {
            let current = changes.load(ordering: .acquiring)
            if current != knownChanges {
                knownChanges = current
                known = roster.withLock { $0 }
                if known.isStopping { break }
                idleTurns = 0
            }
            var progressed = false
            var isUnderWay = false
            for channel in known.channels {
                let turn = channel.turn()
                if turn.progressed { progressed = true }
                if turn.isUnderWay { isUnderWay = true }
            }
            if !known.departures.isEmpty && release(known.departures) { continue }
            if known.channels.isEmpty {
                // Before another thread may start, whose flag it would be.
                if isArmed { unsafe mori_doorbell_disarm(doorbell) }
                isArmed = false
                if mayEnd() { return }
            }

            turnsSinceTick += 1
            if turnsSinceTick >= Self.turnsPerTick {
                turnsSinceTick = 0
                lastTick = monotonicNanoseconds()
                for channel in known.channels { channel.tick() }
            }
            if progressed {
                idleTurns = 0
                if isArmed {
                    unsafe mori_doorbell_disarm(doorbell)
                    isArmed = false
                }
                continue
            }
            idleTurns += 1
            if idleTurns <= spinTurns {
                mori_pause_core()
            } else if idleTurns <= spinTurns + yieldTurns {
                sched_yield()
            } else if !isArmed {
                // Once more around with the flag raised: what was pushed before a producer could
                // see it is found by that turn.
                seen = unsafe mori_doorbell_arm(doorbell)
                isArmed = true
            } else {
                var limit = tickNanoseconds
                if isUnderWay { limit = Self.completionNanoseconds }
                if !wakesProducers { limit = min(limit, Self.napNanoseconds) }
                unsafe mori_doorbell_sleep(doorbell, seen, limit)
                unsafe mori_doorbell_disarm(doorbell)
                isArmed = false
                let now = monotonicNanoseconds()
                if now - lastTick >= tickNanoseconds {
                    lastTick = now
                    turnsSinceTick = 0
                    for channel in known.channels { channel.tick() }
                }
            }
        }
        if isArmed { unsafe mori_doorbell_disarm(doorbell) }
        for departure in roster.withLock({ $0.departures }) { departure.finish(false) }
    }

    /// Lets go the channels that have nothing left to do, or no time.
    ///
    /// - Returns: Whether any went.
    private func release(_ departures: [Departure]) -> Bool {
        let now = monotonicNanoseconds()
        var gone: [(ProxyChannel, Bool)] = []
        for departure in departures where !gone.contains(where: { $0.0 === departure.channel }) {
            let turn = departure.channel.turn()
            let isQuiet = !turn.progressed && !turn.isUnderWay
            if isQuiet || now >= departure.deadline { gone.append((departure.channel, isQuiet)) }
        }
        guard !gone.isEmpty else { return false }
        for (channel, isQuiet) in gone {
            let finished = roster.withLock { roster in
                roster.channels.removeAll { $0 === channel }
                let finished = roster.departures.filter { $0.channel === channel }
                roster.departures.removeAll { $0.channel === channel }
                return finished
            }
            for departure in finished { departure.finish(isQuiet) }
        }
        changes.add(1, ordering: .releasing)
        return true
    }

    /// Whether there is nobody to serve; the next channel then starts another thread.
    private func mayEnd() -> Bool {
        roster.withLock { roster in
            guard roster.channels.isEmpty else { return false }
            roster.isRunning = false
            return true
        }
    }
}

/// Nanoseconds of the monotonic clock.
func monotonicNanoseconds() -> Int64 { mori_monotonic_nanoseconds() }

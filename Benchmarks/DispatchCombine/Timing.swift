import CRoofline
import Glibc
import MoriDevice
import MoriEP

/// From when to when a rank was busy, in nanoseconds of the machine's monotonic clock.
struct Interval: Hashable, Sendable {
    var began: Int64
    var ended: Int64

    var nanoseconds: Int64 { ended - began }

    /// One that begins now and has not lasted yet.
    static var now: Interval {
        let time = roofline_now()
        return Interval(began: time, ended: time)
    }

    /// Lets it end now.
    mutating func end() { ended = roofline_now() }
}

/// Puts the times of a stream's events on the machine's monotonic clock, which the ranks of a
/// machine have in common.
///
/// Events only tell the time between each other. One event, the anchor, is therefore recorded while
/// the host looks at its clock before and after; the times of all others follow from it. The error
/// is at most half of the time between the two looks.
struct EventClock {
    private let anchor: DeviceEvent
    private let anchorTime: Int64

    /// Looks for the anchor on an idle stream: of several tries the one with the smallest error.
    init(on stream: DeviceStream) throws(MoriError) {
        var best: (event: DeviceEvent, time: Int64, error: Int64)?
        for _ in 0..<32 {
            let event = try DeviceEvent(on: stream.device, timed: true)
            let before = roofline_now()
            try stream.record(event)
            while try !event.isReached() { sched_yield() }
            let after = roofline_now()
            let error = (after - before) / 2
            if best == nil || error < best?.error ?? 0 { best = (event, before + error, error) }
        }
        guard let best else { preconditionFailure("no tries") }
        anchor = best.event
        anchorTime = best.time
    }

    /// When a timed event was reached.
    func time(of event: DeviceEvent) throws(MoriError) -> Int64 {
        anchorTime + (try event.elapsed(since: anchor)).nanoseconds
    }
}

/// The two marks around a phase in a rank's stream.
///
/// A phase is everything that one call of dispatch, or of combine, enqueues, and begins when the
/// stream reaches the mark before it: waiting for peers is part of it. Before each phase the ranks
/// meet at a barrier, which is not part of it.
struct PhaseMarks {
    private let start: DeviceEvent
    private let end: DeviceEvent

    init(on device: Device) throws(MoriError) {
        start = try DeviceEvent(on: device, timed: true)
        end = try DeviceEvent(on: device, timed: true)
    }

    /// Marks the beginning.
    func begin(on stream: DeviceStream) throws(MoriError) { try stream.record(start) }

    /// Marks the end.
    func finish(on stream: DeviceStream) throws(MoriError) { try stream.record(end) }

    /// When the phase ran, once the stream has passed both marks.
    func interval(_ clock: EventClock) throws(MoriError) -> Interval {
        Interval(began: try clock.time(of: start), ended: try clock.time(of: end))
    }
}

extension SymmetricMemory {
    /// Whether all ranks are on one machine, so that their monotonic clocks are one.
    var isOneMachine: Bool { localWorldSize == worldSize }

    /// Waits for all ranks and lets them go on at the same moment, this one `delay` ns later.
    ///
    /// A barrier alone does not, for its news take their time from rank to rank. Ranks of several
    /// machines have only that.
    func meet(delay: Int64 = 0) async throws(MoriError) {
        let start = try await meetingTime()
        roofline_wait_until(start + delay)
    }

    /// Waits for all ranks; the moment at which they agree to go on.
    func meetingTime() async throws(MoriError) -> Int64 {
        let times = try await allGather(Array("\(roofline_now())".utf8)).map {
            Int64(String(decoding: $0, as: UTF8.self)) ?? 0
        }
        let now = roofline_now()
        return isOneMachine ? (times.max() ?? now) + 3_000_000 : now
    }
}

import MoriShmem

/// Makes slices, arrows and counters of the records of one rank's warps.
struct WarpTimeline {
    private typealias Record = TraceMemory.Record

    /// A phase that has begun and not ended.
    private struct Open {
        var record: Record
        /// Of a wait: when what it awaited last had come.
        var mark: UInt64
    }

    private let rank: Int
    private let number: Int
    private(set) var events: [TraceEvent] = []
    private(set) var tracks: [CollectedTrace.Track] = []
    /// Phases of which one end was missing.
    private(set) var mended = 0

    /// For one rank's operator of a number.
    init(rank: Int, number: Int) {
        self.rank = rank
        self.number = number
    }

    /// Adds all records of one operator.
    mutating func add(_ records: [TraceMemory.Record]) {
        let byTrack = Dictionary(grouping: records) {
            TraceEvent.warpTrack(slot: $0.slot, block: $0.block, warp: $0.warp)
        }
        for (track, records) in byTrack.sorted(by: { $0.key < $1.key }) {
            guard let first = records.first else { continue }
            let place = number * TraceEvent.tracksOfOperator + track
            tracks.append(
                .init(
                    number: place,
                    name: "slot \(first.slot), block \(first.block), warp \(first.warp)"))
            // The sort is stable: records of one time stay in the order in which they were begun.
            addTrack(records.sorted { $0.time < $1.time }, track: place)
        }
    }

    private mutating func addTrack(_ records: [Record], track: Int) {
        var open: [Open] = []
        for record in records {
            switch record.kind {
            case .begin:
                open.append(Open(record: record, mark: record.time))
            case .end:
                guard open.contains(where: { $0.record.phase == record.phase }) else {
                    mended += 1
                    continue
                }
                while let last = open.popLast() {
                    let isMeant = last.record.phase == record.phase
                    if !isMeant { mended += 1 }
                    // The first launch of a round begins in the one before.
                    close(last, at: record.time, epoch: record.epoch, track: track)
                    if isMeant { break }
                }
            case .signal: addSignal(record, track: track)
            case .came, .gaveUp:
                guard !open.isEmpty else { continue }
                addWait(record, since: open[open.count - 1].mark, track: track)
                open[open.count - 1].mark = record.time
            case .value:
                guard record.isReceivedRows else { continue }
                events.append(
                    TraceEvent(
                        .counter(value: record.value), track: 0, name: "received rows",
                        category: .rows, time: record.time))
                events.append(
                    TraceEvent(
                        .instant, track: track, name: "received", category: .rows,
                        time: record.time,
                        details: [
                            ("rows", record.value), ("epoch", record.epoch), ("slot", record.slot),
                        ]))
            }
        }
        // A launch that is not over, or whose last record found no room.
        let end = records.last?.time ?? 0
        while let last = open.popLast() {
            mended += 1
            close(last, at: end, epoch: records.last?.epoch ?? last.record.epoch, track: track)
        }
    }

    private mutating func close(_ open: Open, at end: UInt64, epoch: Int, track: Int) {
        let record = open.record
        events.append(
            TraceEvent(
                .slice(end: end), track: track, name: record.name,
                category: record.isWait ? .wait : .kernel, time: record.time,
                details: [("epoch", epoch), ("slot", record.slot)]))
    }

    private mutating func addSignal(_ record: Record, track: Int) {
        let details = [
            (name: "peer", value: record.peer), (name: "epoch", value: record.epoch),
            (name: "slot", value: record.slot), (name: "index", value: record.index),
            (name: "phase", value: record.phase),
        ]
        let name = "signal rank \(record.peer)"
        events.append(
            TraceEvent(
                .instant, track: track, name: name, category: .signal, time: record.time,
                details: details))
        events.append(
            TraceEvent(
                .flowOut(id: flow(record, isFrom: true)), track: track, name: record.name,
                category: .signal, time: record.time))
    }

    /// The part of a wait that was for one peer: since what came before it.
    private mutating func addWait(_ record: Record, since begin: UInt64, track: Int) {
        let came = record.kind == .came
        events.append(
            TraceEvent(
                .slice(end: record.time), track: track,
                name: came ? "wait for rank \(record.peer)" : "gave up on rank \(record.peer)",
                category: came ? .peer : .gaveUp, time: begin,
                details: [
                    ("peer", record.peer), ("epoch", record.epoch), ("slot", record.slot),
                    ("index", record.index), ("phase", record.phase),
                ]))
        guard came else { return }
        events.append(
            TraceEvent(
                .flowIn(id: flow(record, isFrom: false)), track: track, name: record.name,
                // Inside of the slice, and not on its end, where the next one begins.
                category: .signal, time: max(begin, record.time - 1)))
    }

    /// The name of an arrow: operator, phase, slot, round, source, destination, word.
    private func flow(_ record: Record, isFrom: Bool) -> String {
        let peer = record.peer
        let ends = isFrom ? "\(rank)>\(peer)" : "\(peer)>\(rank)"
        return "\(number).\(record.phase).\(record.slot).\(record.epoch).\(ends).\(record.index)"
    }
}

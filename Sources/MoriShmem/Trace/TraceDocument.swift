import MoriDevice

/// The text of a trace: the JSON that Perfetto and Chrome read, one event a line, and beside the events
/// what the report needs.
package enum TraceDocument {
    /// What the report must read; raised when that is something else.
    package static let version = 1

    /// One rank's part of a file.
    struct Part: Sendable {
        /// Events, each ended by a comma and a new line.
        var events: [UInt8] = []
        /// The rank's description, an object.
        var rank: [UInt8] = []
    }

    /// A rank, beside what its operators recorded.
    struct Origin: Sendable {
        var rank: Int
        var host: Int
        var device: String
        var clock: ClockAlignment
        /// Of this host's clock: what time 0 of the file is.
        var zero: UInt64
    }

    static func part(_ traces: [CollectedTrace], of origin: Origin) -> Part {
        var part = Part()
        var text = Writer()
        text.metadata("process_name", rank: origin.rank, track: nil, "rank \(origin.rank)")
        text.metadata("process_sort_index", rank: origin.rank, track: nil, origin.rank)
        for trace in traces {
            for track in trace.tracks {
                text.metadata("thread_name", rank: origin.rank, track: track.number, track.name)
                text.metadata(
                    "thread_sort_index", rank: origin.rank, track: track.number, track.number)
            }
            for event in trace.events { text.event(event, of: origin) }
        }
        part.events = text.bytes
        part.rank = description(traces, of: origin)
        return part
    }

    private static func description(
        _ traces: [CollectedTrace], of origin: Origin
    ) -> [UInt8] {
        var text = Writer()
        text.raw("{\"rank\":\(origin.rank),\"host\":\(origin.host),\"device\":")
        text.string(origin.device)
        text.raw(",\"clockOffsetNanoseconds\":\(origin.clock.offset)")
        text.raw(",\"clockRoundTripNanoseconds\":\(origin.clock.roundTrip),\"operators\":[")
        for (index, trace) in traces.enumerated() {
            text.raw(index == 0 ? "{\"name\":" : ",{\"name\":")
            text.string(trace.name)
            text.raw(",\"lost\":\(trace.lost),\"mended\":\(trace.mended),\"expertRanks\":")
            text.raw("\(trace.expertRanks),\"chosen\":\(trace.chosen)")
            if let clock = trace.clock {
                text.raw(",\"deviceClock\":{\"offsetNanoseconds\":\(clock.offset)")
                text.raw(",\"roundTripNanoseconds\":\(clock.roundTrip)")
                text.raw(",\"driftNanosecondsPerSecond\":\(clock.drift)")
                text.raw(",\"comparisons\":\(clock.comparisons)}")
            }
            text.raw("}")
        }
        text.raw("]}")
        return text.bytes
    }

    /// A whole file.
    static func file(_ parts: [Part], worldSize: Int, zero: UInt64) -> [UInt8] {
        var text = Writer()
        text.raw("{\"displayTimeUnit\":\"ns\",\"moriEP\":{\"version\":\(version)")
        text.raw(",\"worldSize\":\(worldSize),\"zeroNanoseconds\":\(zero),\"ranks\":[\n")
        for (index, part) in parts.enumerated() {
            if index > 0 { text.raw(",\n") }
            text.bytes += part.rank
        }
        text.raw("]},\n\"traceEvents\":[\n")
        var events = parts.flatMap(\.events)
        if events.count >= 2 { events.removeLast(2) }  // the last comma
        text.bytes += events
        text.raw("\n]}\n")
        return text.bytes
    }

    private struct Writer {
        var bytes: [UInt8] = []

        mutating func raw(_ text: String) { bytes += text.utf8 }

        mutating func string(_ text: String) {
            raw("\"")
            for byte in text.utf8 {
                switch byte {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
                case 0..<0x20: raw(" ")
                default: bytes.append(byte)
                }
            }
            raw("\"")
        }

        /// Microseconds with three decimals, which is how nanoseconds are told.
        private mutating func microseconds(_ nanoseconds: Int64) {
            let size = nanoseconds.magnitude
            let rest = "\(size % 1000)"
            raw(nanoseconds < 0 ? "-" : "")
            raw("\(size / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest)
        }

        mutating func metadata(_ name: String, rank: Int, track: Int?, _ value: Any) {
            raw("{\"ph\":\"M\",\"name\":\"\(name)\",\"pid\":\(rank)")
            if let track { raw(",\"tid\":\(track)") }
            if let text = value as? String {
                raw(",\"args\":{\"name\":")
                string(text)
            } else {
                raw(",\"args\":{\"sort_index\":\(value)")
            }
            raw("}},\n")
        }

        mutating func event(_ event: TraceEvent, of origin: Origin) {
            let start = time(event.time, of: origin)
            switch event.kind {
            case .slice(let end):
                open("X", event, at: start, of: origin)
                raw(",\"dur\":")
                microseconds(max(0, time(end, of: origin) - start))
            case .instant:
                open("i", event, at: start, of: origin)
                raw(",\"s\":\"t\"")
            case .flowOut(let id):
                open("s", event, at: start, of: origin)
                raw(",\"id\":\"\(id)\"")
            case .flowIn(let id):
                open("f", event, at: start, of: origin)
                raw(",\"bp\":\"e\",\"id\":\"\(id)\"")
            case .underWay(let end, let id):
                open("b", event, at: start, of: origin)
                raw(",\"id\":\"\(origin.rank)/\(id)\"")
                close(event)
                open("e", event, at: max(start, time(end, of: origin)), of: origin)
                raw(",\"id\":\"\(origin.rank)/\(id)\"")
            case .counter(let value):
                open("C", event, at: start, of: origin)
                raw(",\"args\":{\"value\":\(value)}},\n")
                return
            }
            close(event)
        }

        private func time(_ time: UInt64, of origin: Origin) -> Int64 {
            Int64(bitPattern: time &- origin.zero)
        }

        private mutating func open(
            _ phase: String, _ event: TraceEvent, at time: Int64, of origin: Origin
        ) {
            raw("{\"ph\":\"\(phase)\",\"name\":")
            string(event.name)
            raw(
                ",\"cat\":\"\(event.category.rawValue)\",\"pid\":\(origin.rank),\"tid\":\(event.track),\"ts\":"
            )
            microseconds(time)
        }

        private mutating func close(_ event: TraceEvent) {
            if !event.details.isEmpty {
                raw(",\"args\":{")
                for (index, detail) in event.details.enumerated() {
                    raw("\(index == 0 ? "" : ",")\"\(detail.name)\":\(detail.value)")
                }
                raw("}")
            }
            raw("},\n")
        }
    }
}

/// Bytes that become text: whole characters only, and nothing of a stop sequence.
struct CompletionText {
    private let stops: [[UInt8]]
    /// What may still turn out to belong to a stop sequence or to a longer character.
    private var held: [UInt8] = []

    init(stops: [[UInt8]]) { self.stops = stops }

    /// Takes one byte.
    ///
    /// - Returns: Text that is certain now, and whether a stop sequence ended it.
    mutating func add(_ byte: UInt8) -> (text: String, isStopped: Bool) {
        held.append(byte)
        // Each byte is looked at as it comes: a sequence can only be complete at the end.
        if let stop = stops.filter({ held.suffix($0.count) == $0[...] }).max(by: {
            $0.count < $1.count
        }) {
            held.removeLast(stop.count)
            return (rest(), true)
        }
        var keep = 0
        for stop in stops {
            for length in stride(from: min(stop.count - 1, held.count), to: keep, by: -1)
            where held.suffix(length) == stop.prefix(length) {
                keep = length
                break
            }
        }
        keep = max(keep, unfinished(held.dropLast(keep)) + keep)
        let certain = held.dropLast(keep)
        defer { held.removeFirst(certain.count) }
        return (String(decoding: certain, as: UTF8.self), false)
    }

    /// What is left when nothing more comes.
    mutating func rest() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    /// Bytes at the end that begin a character and do not end it.
    private func unfinished(_ bytes: ArraySlice<UInt8>) -> Int {
        for length in 1...3 where length <= bytes.count {
            let byte = bytes[bytes.endIndex - length]
            let needed =
                switch byte {
                case 0xC2...0xDF: 2
                case 0xE0...0xEF: 3
                case 0xF0...0xF4: 4
                case 0x80...0xBF: 0
                default: 1
                }
            if needed > 0 { return needed > length ? length : 0 }
        }
        return 0
    }
}

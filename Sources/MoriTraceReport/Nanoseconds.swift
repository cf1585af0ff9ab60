/// How far times may lie from each other so that all that is made of them are numbers.
enum Nanoseconds {
    /// A time of an event, the time between the begins of two files, and the length of a slice: at most
    /// four and a half years, so that the difference of two times is below `mostTogether`.
    static let most = 1 << 57
    /// A sum: of two differences of sums the mean still fits.
    static let mostTogether = 1 << 60

    /// Of the microseconds of a file; nil: too many.
    static func of(microseconds: Double) -> Int? {
        let value = (microseconds * 1000).rounded()
        return value.magnitude <= Double(most) ? Int(value) : nil
    }

    /// The middle one; 0 where there is none.
    static func median(_ values: [Int]) -> Int { Ordered(values).median }

    /// Values in their order, to tell the median without one of them.
    struct Ordered {
        private let values: [Int]

        init(_ values: [Int]) { self.values = values.sorted() }

        var median: Int {
            guard !values.isEmpty else { return 0 }
            let middle = values.count / 2
            return values.count % 2 == 1
                ? values[middle] : (values[middle - 1] + values[middle]) / 2
        }

        /// The median of the others; nil: there are none.
        func median(without value: Int) -> Int? {
            let count = values.count - 1
            guard count > 0 else { return nil }
            var (low, high) = (0, count)
            while low < high {
                let middle = (low + high) / 2
                if values[middle] < value { low = middle + 1 } else { high = middle }
            }
            func other(_ place: Int) -> Int { values[place < low ? place : place + 1] }
            let middle = count / 2
            return count % 2 == 1 ? other(middle) : (other(middle - 1) + other(middle)) / 2
        }
    }
}

extension Int {
    /// Adds what a file says, which may be anything: a sum ends at the most.
    mutating func addClamped(_ other: Int) {
        let (sum, overflow) = addingReportingOverflow(other)
        let most = Nanoseconds.mostTogether
        self = overflow ? (other < 0 ? -most : most) : Swift.min(Swift.max(sum, -most), most)
    }
}

extension Sequence<Int> {
    /// The sum, which ends at the most.
    var clampedSum: Int { reduce(into: 0) { $0.addClamped($1) } }
}

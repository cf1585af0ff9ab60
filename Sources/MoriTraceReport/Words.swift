/// Numbers in words.
package enum Words {
    /// A duration with a unit and three digits.
    package static func duration(_ nanoseconds: Int) -> String {
        let value = Double(nanoseconds.magnitude)
        let sign = nanoseconds < 0 ? "-" : ""
        switch value {
        case ..<1000: return "\(nanoseconds) ns"
        case ..<999_500: return sign + digits(value / 1e3) + " µs"
        case ..<999_500_000: return sign + digits(value / 1e6) + " ms"
        default: return sign + digits(value / 1e9) + " s"
        }
    }

    /// Three digits.
    static func digits(_ value: Double) -> String {
        let decimals = value < 10 ? 2 : value < 100 ? 1 : 0
        let scale = [1.0, 10, 100][decimals]
        let whole = Int((value * scale).rounded())
        guard decimals > 0 else { return "\(whole)" }
        let rest = "\(whole % Int(scale))"
        let zeros = String(repeating: "0", count: decimals - rest.count)
        return "\(whole / Int(scale)).\(zeros)\(rest)"
    }

    /// "1 round", "2 rounds".
    static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
}

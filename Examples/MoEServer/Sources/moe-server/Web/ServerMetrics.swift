import MoEServing
import Synchronization

/// Counters of the server, as Prometheus reads them.
final class ServerMetrics: Sendable {
    private struct Counts {
        var responses: [Int: Int] = [:]
        var firstTokens = Histogram()
        var completions = Histogram()
    }

    /// Times by upper bounds of seconds.
    private struct Histogram {
        static let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
        var buckets = [Int](repeating: 0, count: bounds.count)
        var count = 0
        var sum = 0.0

        mutating func add(_ seconds: Double) {
            count += 1
            sum += seconds
            for (index, bound) in Self.bounds.enumerated() where seconds <= bound {
                buckets[index] += 1
            }
        }
    }

    private let counts = Mutex(Counts())

    /// A response began, with this status.
    func respond(_ status: Int) { counts.withLock { $0.responses[status, default: 0] += 1 } }

    /// A completion's first text came so long after it was asked for.
    func beginText(after time: Duration) {
        counts.withLock { $0.firstTokens.add(time.seconds) }
    }

    /// A completion was whole.
    func endText(after time: Duration) {
        counts.withLock { $0.completions.add(time.seconds) }
    }

    /// Prometheus's text format.
    func text(_ status: RequestBoard.Status) -> String {
        let counts = counts.withLock { $0 }
        var lines: [String] = []
        func metric(_ name: String, _ kind: String, _ help: String, _ samples: [(String, Any)]) {
            lines.append("# HELP moe_\(name) \(help)")
            lines.append("# TYPE moe_\(name) \(kind)")
            for (labels, value) in samples { lines.append("moe_\(name)\(labels) \(value)") }
        }
        func histogram(_ name: String, _ help: String, _ values: Histogram) {
            metric(name, "histogram", help, [])
            for (bound, count) in zip(Histogram.bounds, values.buckets) {
                lines.append("moe_\(name)_bucket{le=\"\(bound)\"} \(count)")
            }
            lines.append("moe_\(name)_bucket{le=\"+Inf\"} \(values.count)")
            lines.append("moe_\(name)_sum \(values.sum)")
            lines.append("moe_\(name)_count \(values.count)")
        }
        metric(
            "http_responses_total", "counter", "Responses, by status.",
            counts.responses.sorted { $0.key < $1.key }.map { ("{status=\"\($0.key)\"}", $0.value) }
        )
        metric("tokens_total", "counter", "Tokens made.", [("", status.tokens)])
        metric("steps_total", "counter", "Steps of all ranks.", [("", status.steps)])
        metric("rank_failures_total", "counter", "Ends of rounds.", [("", status.failures)])
        metric("requests_waiting", "gauge", "Requests that wait.", [("", status.waiting)])
        metric("requests_running", "gauge", "Sequences that run.", [("", status.running)])
        metric("places", "gauge", "Sequences that can run.", [("", status.places)])
        metric("active_ranks", "gauge", "Ranks at work.", [("", status.activeRanks.count)])
        histogram("first_text_seconds", "From request to first text.", counts.firstTokens)
        histogram("completion_seconds", "From request to last text.", counts.completions)
        return lines.joined(separator: "\n") + "\n"
    }
}

extension Duration {
    var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}

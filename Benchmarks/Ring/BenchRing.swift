import MoriDevice

/// `bench-ring [DESCRIPTORS] [RUNS]`: how fast the proxy takes what producers push, over loopback.
///
/// Each line is the median of the runs, between the slowest and the fastest, in millions of
/// descriptors a second, all producers together.
@main
struct BenchRing {
    /// What one proxy thread is to take from one producer, in millions a second.
    private static let goal = 10.0

    static func main() async throws {
        let numbers = CommandLine.arguments.dropFirst().map { Int($0) }
        guard numbers.count <= 2,
            numbers.allSatisfy({ $0.map { (1...1 << 30).contains($0) } == true })
        else {
            print("usage: bench-ring [DESCRIPTORS of each run, 1 or more] [RUNS, 1 or more]")
            throw MoriError(.invalidArgument, "\(CommandLine.arguments.dropFirst())")
        }
        let descriptors = numbers.first.flatMap { $0 } ?? 4_000_000
        let runs = numbers.dropFirst().first.flatMap { $0 } ?? 7
        let bench = try RingBench()
        print("one thread, by processor time   M/s: slowest  median  fastest")
        for load in RingBench.Load.allCases {
            // Words wake sleepers, one system call each: fewer suffice.
            let count = load == .payloadAndWord ? max(descriptors / 8, 1) : descriptors
            var push: [Double] = []
            var pop: [Double] = []
            for _ in 0..<runs {
                let nanoseconds = try await bench.runAlone(load, descriptors: count)
                push.append(Double(count) * 1000 / Double(nanoseconds.push))
                pop.append(Double(count) * 1000 / Double(nanoseconds.pop))
            }
            report("push, \(load.rawValue)", push)
            report("pop, \(load.rawValue)", pop)
        }
        print("")
        print("proxy and producers             M/s: slowest  median  fastest")
        for load in RingBench.Load.allCases {
            let count = load == .payloadAndWord ? max(descriptors / 8, 1) : descriptors
            for producers in [1, 4] {
                let each = max(count / producers, 1)
                var rates: [Double] = []
                for _ in 0..<runs {
                    let nanoseconds = try await bench.run(
                        load, producers: producers, descriptorsEach: each)
                    rates.append(Double(each * producers) * 1000 / Double(nanoseconds))
                }
                report("\(producers) producing \(load.rawValue)", rates)
            }
        }
        print("")
        print("goal: \(goal) with one producer")
    }

    private static func report(_ name: String, _ unsorted: [Double]) {
        let rates = unsorted.sorted()
        print(
            pad(name, 37), pad(text(rates[0]), 9), pad(text(rates[rates.count / 2]), 8),
            text(rates[rates.count - 1]), separator: "")
    }

    private static func pad(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 1))
    }

    /// One decimal.
    private static func text(_ rate: Double) -> String {
        "\((rate * 10).rounded() / 10)"
    }
}

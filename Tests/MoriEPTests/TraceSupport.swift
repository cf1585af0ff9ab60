import FoundationEssentials
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

/// What the tests of traces read of a file: its events, as they stand there.
struct TraceText: Decodable {
    struct About: Decodable {
        struct Rank: Decodable {
            struct Operator: Decodable {
                var lost: Int
                var mended: Int
                var expertRanks: [Int]
                var chosen: [Int]
                var deviceClock: DeviceClock?
            }
            struct DeviceClock: Decodable {
                var roundTripNanoseconds: Int
                var driftNanosecondsPerSecond: Int
                var comparisons: Int
            }
            var rank: Int
            var operators: [Operator]
        }
        var version: Int
        var worldSize: Int
        var ranks: [Rank]
    }
    struct Event: Decodable {
        struct Details: Decodable {
            var epoch: Int?
            var slot: Int?
            var peer: Int?
            var index: Int?
            var phase: Int?
            var rows: Int?
        }
        var ph: String
        var name: String
        var cat: String?
        var pid: Int
        var tid: Int?
        var ts: Double?
        var dur: Double?
        var id: String?
        var args: Details?

        /// Nanoseconds.
        var begin: Int { Int(((ts ?? 0) * 1000).rounded()) }
        var end: Int { begin + Int(((dur ?? 0) * 1000).rounded()) }
    }
    var moriEP: About
    var traceEvents: [Event]

    init(_ path: String) throws {
        let data = try Data(contentsOf: URL(filePath: path))
        self = try JSONDecoder().decode(TraceText.self, from: data)
    }

    /// Nanoseconds by which times of a rank's kernels may be wrong: none on the host device.
    func uncertainty(of rank: Int) -> Int {
        let clocks = moriEP.ranks.filter { $0.rank == rank }.flatMap(\.operators)
            .compactMap(\.deviceClock)
        return clocks.map { $0.roundTripNanoseconds / 2 + 2 }.max() ?? 0
    }

    func slices(_ categories: String...) -> [Event] {
        traceEvents.filter { $0.ph == "X" && categories.contains($0.cat ?? "") }
    }

    /// Two slices of one track of which neither holds the other; nil: there are none.
    var overlap: (Event, Event)? {
        struct Track: Hashable {
            var rank: Int
            var track: Int
        }
        let slices = traceEvents.filter { $0.ph == "X" }
        for (_, members) in Dictionary(
            grouping: slices, by: { Track(rank: $0.pid, track: $0.tid ?? 0) })
        {
            var open: [Event] = []
            for slice in members.sorted(by: { ($0.begin, -$0.end) < ($1.begin, -$1.end) }) {
                while let last = open.last, last.end <= slice.begin { open.removeLast() }
                if let last = open.last, slice.end > last.end { return (last, slice) }
                open.append(slice)
            }
        }
        return nil
    }
}

/// Rounds that are traced.
enum TracedRounds {
    /// On the emulated device: lets its clock go wrong as a GPU's may, and not with its instructions.
    static func setClock() throws {
        guard Emulator.isWanted else { return }
        try Emulator().setClock(ahead: .seconds(-3600), gain: 50)
    }

    /// A folder that goes at the end.
    static func inFolder<Success>(_ body: (String) async throws -> Success) async throws -> Success
    {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "moriep-trace-\(UInt64.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        return try await body(folder.path)
    }

    static func workload(
        ranks: Int, tokens: Int = 40, hidden: Int = 64, seed: UInt64 = 17
    ) -> Workload {
        Workload(
            worldSize: ranks, tokens: (0..<ranks).map { tokens - $0 }, hidden: hidden, topK: 3,
            expertsPerRank: 3, seed: seed)
    }

    static func config(
        _ kernelType: KernelType = .intraNode, tokens: Int = 40, hidden: Int = 64,
        launch: LaunchConfiguration = LaunchConfiguration(),
        receiveOrder: ReceiveOrder = .unspecified
    ) -> EPDispatchCombineConfig {
        EPDispatchCombineConfig(
            elementType: .bfloat16, hiddenDim: hidden, maxInputTokensPerRank: tokens,
            receiveOrder: receiveOrder, expertsPerRank: 3, expertsPerToken: 3, launch: launch,
            kernelType: kernelType, devicesPerNode: kernelType == .intraNode ? 8 : 2)
    }

    /// Takes a trace of some rounds; one rank is so much later than the others in each of them.
    static func take(
        _ path: String, ranks: Int, config: EPDispatchCombineConfig, workload: Workload,
        rounds: Int = 4,
        late: (rank: Int, by: Duration)? = nil, capacity: Int = 1 << 16
    ) async throws -> [TraceExport] {
        try setClock()
        let routes = Routes(workload)
        // A call may ask for more warps than the rank has hardware threads; the configuration may not.
        let isDefault = config.launch == LaunchConfiguration()
        let options = RoundOptions(launch: isDefault ? nil : config.launch)
        return try await withLocalWorld(ranks) { world in
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            // One that nobody sees, so that rounds do not begin with 1.
            try await checkRound(
                routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                options: options)
            try op.startTrace(recordCapacity: capacity, on: stream)
            for _ in 0..<rounds {
                try await world.barrier()
                if let late, late.rank == world.rank { try await Task.sleep(for: late.by) }
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                    options: options)
            }
            try op.stopTrace(on: stream)
            try await stream.completion()
            let export = try await world.exportTrace(to: path)
            try await op.close()
            return export
        }
    }
}

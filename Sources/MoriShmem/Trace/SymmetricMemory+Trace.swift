import Glibc
import Logging
public import MoriDevice

/// What `SymmetricMemory.exportTrace` wrote.
public struct TraceExport: Hashable, Sendable {
    /// The file that this rank wrote; nil: another rank wrote the one of all.
    public let path: String?
    /// Whether the file has all ranks; if not, each rank has written its own, because they could not meet.
    public let isMerged: Bool
    /// Events of this rank.
    public let eventCount: Int
    /// Records of this rank that found no room: a larger `recordCapacity` keeps more.
    public let lostRecordCount: Int
}

extension SymmetricMemory {
    /// Takes note of what can be asked for what it recorded.
    package func enlist(_ source: any TraceSource) {
        state.withLock { $0.traceSources.append(source) }
    }

    /// Lets go of a source that starts anew.
    package func delist(_ source: any TraceSource) {
        state.withLock { state in state.traceSources.removeAll { $0 === source } }
    }

    /// Writes what the operators of all ranks recorded since `EPDispatchCombineOp.startTrace`, as JSON
    /// that ui.perfetto.dev and `mori-ep trace report` read.
    ///
    /// Collective: the first of the active ranks writes one file for all. Work that is to be seen must be
    /// done, so await the streams before. Recording goes on; what was exported is exported again by the
    /// next call, unless its operator was stopped or closed. Clocks of ranks on different hosts are
    /// aligned now: see docs/tracing.md.
    ///
    /// After a failure, when the ranks cannot meet any more, every rank writes a file of its own instead,
    /// `NAME-rank-R.json` for `NAME.json`; the report takes them all.
    ///
    /// - Parameter path: The file; one that is there is replaced.
    /// - Returns: What this rank wrote.
    /// - Throws: `invalidArgument` when no operator of this rank has a trace, or the file cannot be
    ///   written; `closed`; what the device's runtime says.
    ///
    /// The corresponding Python name is `mori.kernel_profiler.export_to_perfetto`.
    @discardableResult
    public func exportTrace(to path: String) async throws(MoriError) -> TraceExport {
        let (isClosed, sources) = state.withLock { ($0.isClosed, $0.traceSources) }
        guard !isClosed else {
            throw MoriError(.closed, "rank \(rank)'s part of this world was closed")
        }
        var traces: [CollectedTrace] = []
        for (index, source) in sources.enumerated() {
            traces.append(try await source.collect(number: index))
        }
        let problem: MoriError? =
            traces.isEmpty
            ? MoriError(
                .invalidArgument,
                "rank \(rank) has recorded nothing; call startTrace(on:) of an operator before the"
                    + " rounds that are to be seen") : nil
        let written: TraceExport
        do throws(MoriError) {
            // A world that failed may wait for ranks that are gone.
            if let fault { throw fault }
            written = try await exportMerged(traces, to: path, unless: problem)
        } catch {
            if let problem { throw problem }
            guard error.code != .invalidArgument else { throw error }
            logger.debug(
                "the ranks cannot meet for one trace: each writes its own",
                metadata: ["error": "\(error)"])
            written = try exportOwn(traces, to: path)
        }
        state.withLock { state in
            state.traceSources.removeAll { source in
                sources.contains { $0 === source } && !source.isRecording
            }
        }
        return written
    }

    private func exportMerged(
        _ traces: [CollectedTrace], to path: String, unless problem: MoriError?
    ) async throws(MoriError) -> TraceExport {
        let bootstrap = bootstrap
        let writer = bootstrap.members[0]
        let clock = try await ClockAlignment.measure(
            over: bootstrap, hosts: heap.hosts, timeout: bootstrapTimeout)
        let first = traces.flatMap(\.events).map(\.time).min()
        let aligned = first.map { $0 &- UInt64(bitPattern: clock.offset) } ?? UInt64.max
        let begins = try await bootstrap.allGather(
            "trace begin", Array("\(problem == nil ? 1 : 0) \(aligned)".utf8),
            timeout: bootstrapTimeout)
        let words = bootstrap.members.map { member in
            String(decoding: begins[member], as: UTF8.self).split(separator: " ").map {
                UInt64($0) ?? 0
            }
        }
        if let problem { throw problem }
        if let other = words.firstIndex(where: { $0.first != 1 }) {
            let other = bootstrap.members[other]
            throw MoriError(
                .invalidArgument,
                "rank \(other) has recorded nothing; every rank starts its trace, or none exports one",
                ranks: [other])
        }
        // Time 0 of the file, by the first rank's clock.
        let earliest = words.compactMap(\.last).min() ?? 0
        let zero = earliest == .max ? 0 : earliest  // nobody has an event
        let part = TraceDocument.part(
            traces, of: origin(clock: clock, zero: zero &+ UInt64(bitPattern: clock.offset)))
        let events = try await gather(part.events, "trace events", for: writer, over: bootstrap)
        let ranks = try await gather(part.rank, "trace ranks", for: writer, over: bootstrap)
        // The writer's success is everybody's: nobody believes in a file that is not there.
        var failure: MoriError?
        if rank == writer {
            let parts = bootstrap.members.map {
                TraceDocument.Part(events: events[$0], rank: ranks[$0])
            }
            let text = TraceDocument.file(parts, worldSize: worldSize, zero: zero)
            failure = await outcome { () throws(MoriError) in try Self.write(text, to: path) }
                .failure
        }
        let answers = try await bootstrap.allGather(
            "trace written", Array((failure?.message ?? "").utf8.prefix(1024)),
            timeout: bootstrapTimeout)
        if let failure { throw failure }
        guard answers[writer].isEmpty else {
            throw MoriError(
                .invalidArgument,
                "rank \(writer): \(String(decoding: answers[writer], as: UTF8.self))",
                ranks: [writer])
        }
        return summary(traces, path: rank == writer ? path : nil, isMerged: true)
    }

    private func exportOwn(
        _ traces: [CollectedTrace], to path: String
    ) throws(MoriError) -> TraceExport {
        let zero = traces.flatMap(\.events).map(\.time).min() ?? 0
        let part = TraceDocument.part(traces, of: origin(clock: .shared, zero: zero))
        let own = Self.path(path, ofRank: rank)
        try Self.write(TraceDocument.file([part], worldSize: worldSize, zero: zero), to: own)
        return summary(traces, path: own, isMerged: false)
    }

    /// NAME-rank-R.json for NAME.json.
    static func path(_ path: String, ofRank rank: Int) -> String {
        let name = path.hasSuffix(".json") ? String(path.dropLast(5)) : path
        return "\(name)-rank-\(rank).json"
    }

    private func origin(clock: ClockAlignment, zero: UInt64) -> TraceDocument.Origin {
        TraceDocument.Origin(
            rank: rank, host: heap.hosts[rank],
            device: (try? device.properties().name) ?? "\(device)", clock: clock, zero: zero)
    }

    private func summary(
        _ traces: [CollectedTrace], path: String?, isMerged: Bool
    ) -> TraceExport {
        TraceExport(
            path: path, isMerged: isMerged, eventCount: traces.map(\.events.count).reduce(0, +),
            lostRecordCount: traces.map(\.lost).reduce(0, +))
    }

    /// Bytes of all ranks, of any length, piece by piece; whoever does not write keeps its own only.
    private func gather(
        _ bytes: [UInt8], _ name: String, for writer: Int, over bootstrap: any Bootstrap
    ) async throws(MoriError) -> [[UInt8]] {
        let limit = min(BootstrapLimit.value(worldSize: worldSize), 1 << 20)
        let counts = try await bootstrap.allGather(
            name + " size", Array("\(bytes.count)".utf8), timeout: bootstrapTimeout)
        let most = counts.compactMap { Int(String(decoding: $0, as: UTF8.self)) }.max() ?? 0
        var all = Array(repeating: [UInt8](), count: worldSize)
        for start in stride(from: 0, to: most, by: limit) {
            let piece = bytes.dropFirst(start).prefix(limit)
            let pieces = try await bootstrap.allGather(
                name, Array(piece), timeout: bootstrapTimeout)
            guard rank == writer else { continue }
            for member in bootstrap.members { all[member] += pieces[member] }
        }
        return all
    }

    private static func write(_ bytes: [UInt8], to path: String) throws(MoriError) {
        try FilePlace(path).replace(with: bytes, what: "the trace")
    }
}

extension Result {
    /// What was thrown; nil for a success.
    fileprivate var failure: Failure? {
        if case .failure(let failure) = self { failure } else { nil }
    }
}

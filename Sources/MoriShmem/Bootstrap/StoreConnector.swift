import Logging
import MoriDevice
import NIOCore
import NIOPosix

/// Finds the world's store among the addresses where it may be, and makes this rank a member.
struct StoreConnector: Sendable {
    /// Where the store may be.
    struct Place: Hashable, Sendable {
        /// A host name or an address.
        var host: String
        /// The ports that the store may have, all of them tried at once.
        var ports: [Int]
        /// Whether nobody else can have this place, so that another world's greeting is final.
        var isExact: Bool
    }

    /// How a probe of one address ended.
    private enum Ending: Sendable {
        case connected(any Channel)
        case refused(MoriError)
        case gaveUp
    }

    /// The first pause between attempts; it grows, so that many ranks do not keep a host busy.
    private static let firstPause = Duration.milliseconds(50)
    /// The longest pause between attempts on a port where nobody listens, unless the host is busy.
    private static let longestPause = Duration.milliseconds(250)
    /// A pause is at least so many times as long as the attempt before it.
    private static let pauseForAttempt = 20
    /// The pause after somebody else was met, who should not be bothered.
    private static let pauseAfterStranger = Duration.milliseconds(1000)

    /// The event loop's group of this world.
    let group: MultiThreadedEventLoopGroup
    /// Who this rank is.
    let credentials: Credentials
    /// What it proves itself with.
    let key: WorldKey
    /// Where the store's messages go.
    let inbox: Inbox
    /// Told about every failed attempt at level debug.
    let logger: Logger

    /// Connects and shakes hands.
    ///
    /// - Parameters:
    ///   - place: Where to look.
    ///   - deadline: When to give up.
    /// - Returns: The channel; messages already flow into the inbox.
    /// - Throws: `.bootstrapFailed` with `ranks` `[0]` when there is no store before the deadline,
    ///   or what the store refused this rank with; `.aborted` when the task is cancelled.
    func connect(
        to place: Place, until deadline: ContinuousClock.Instant
    ) async throws(MoriError) -> any Channel {
        let start = ContinuousClock.now
        let targets = try await resolve(place, until: deadline)
        let claim = Claim()
        let notes = Notes()
        let ending = await withTaskGroup(of: Ending.self) { tasks in
            for target in targets {
                tasks.addTask {
                    await probe(
                        target, isExact: place.isExact, claim: claim, notes: notes, until: deadline)
                }
            }
            var best = Ending.gaveUp
            for await ending in tasks {
                if case .gaveUp = ending { continue }
                // A refusal can follow a success only from a probe that lost the claim.
                if case .gaveUp = best { best = ending }
                tasks.cancelAll()
            }
            return best
        }
        switch ending {
        case .connected(let channel): return channel
        case .refused(let error): throw error
        case .gaveUp: throw notFound(place, notes, after: ContinuousClock.now - start)
        }
    }

    private func resolve(
        _ place: Place, until deadline: ContinuousClock.Instant
    ) async throws(MoriError) -> [SocketAddress] {
        while true {
            let found = await addresses(of: place.host)
            let targets = found.flatMap { address in
                place.ports.compactMap { try? address.socketAddress(port: $0) }
            }
            if !targets.isEmpty { return targets }
            guard !Task.isCancelled, ContinuousClock.now + Self.pauseAfterStranger < deadline else {
                throw MoriError(
                    .bootstrapFailed,
                    "rank \(credentials.rank) cannot find rank \(inbox.leader): the host name "
                        + "\"\(place.host)\" has no address", ranks: [inbox.leader])
            }
            try? await Task.sleep(for: Self.pauseAfterStranger)
        }
    }

    private func probe(
        _ target: SocketAddress, isExact: Bool, claim: Claim, notes: Notes,
        until deadline: ContinuousClock.Instant
    ) async -> Ending {
        var pause = Self.firstPause
        while !Task.isCancelled, ContinuousClock.now < deadline {
            let note: String
            let start = ContinuousClock.now
            do {
                return .connected(try await attempt(target, claim: claim, until: deadline))
            } catch ProbeFailure.final(let error) {
                return .refused(error)
            } catch ProbeFailure.otherWorld {
                guard !isExact else { return .refused(otherWorld(target)) }
                note = "it serves another world, of another secret, launcher port or job"
                pause = Self.pauseAfterStranger
            } catch ProbeFailure.passing(let words) {
                note = words
                pause = Self.pauseAfterStranger
            } catch let error as IOError where error.errnoCode == ECONNREFUSED {
                note = ""
                let took = ContinuousClock.now - start
                pause = min(
                    max(min(pause * 2, Self.longestPause), took * Self.pauseForAttempt),
                    Self.pauseAfterStranger)
            } catch ChannelError.connectTimeout {
                // The last attempt is cut short by the deadline, which says nothing.
                note = ContinuousClock.now < deadline ? "it does not answer" : ""
                pause = Self.pauseAfterStranger
            } catch {
                note = "\(error)"
                pause = Self.pauseAfterStranger
            }
            if notes.add(note, about: target) {
                logger.debug(
                    "no store of this world there",
                    metadata: ["address": "\(target)", "reason": "\(note)"])
            }
            try? await Task.sleep(until: min(ContinuousClock.now + pause, deadline))
        }
        return .gaveUp
    }

    private func attempt(
        _ target: SocketAddress, claim: Claim, until deadline: ContinuousClock.Instant
    ) async throws -> any Channel {
        let outcome = group.any().makePromise(of: (any Channel).self)
        let connected = ClientBootstrap(group: group)
            .connectTimeout(min(.seconds(2), TimeAmount(deadline - .now)))
            .memberOptions()
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let decoder = FrameDecoder()
                    let handler = RankHandler(
                        credentials, key: key, decoder: decoder, inbox: inbox, claim: claim,
                        outcome: outcome)
                    try channel.pipeline.syncOperations.addHandlers(
                        ByteToMessageHandler(decoder), handler)
                }
            }
            .connect(to: target)
        connected.whenFailure { outcome.fail($0) }
        // A channel that is closed before it became active never tells its handler so.
        connected.flatMap { $0.closeFuture }.whenSuccess {
            outcome.fail(ProbeFailure.passing("it closed the connection"))
        }
        // The world's deadline also ends a handshake that is under way.
        let late = group.any().scheduleTask(in: TimeAmount(deadline - .now)) {
            connected.whenSuccess { $0.close(promise: nil) }
        }
        outcome.futureResult.whenComplete { _ in late.cancel() }
        return try await withTaskCancellationHandler {
            try await outcome.futureResult.get()
        } onCancel: {
            connected.whenSuccess { $0.close(promise: nil) }
        }
    }

    private func otherWorld(_ target: SocketAddress) -> MoriError {
        let message =
            "rank \(credentials.rank) did not join: its unique id is of another world than the one "
            + "that rank \(inbox.leader) serves at \(target)"
        return MoriError(.bootstrapFailed, message, ranks: [inbox.leader])
    }

    private func notFound(_ place: Place, _ notes: Notes, after time: Duration) -> MoriError {
        let first = place.ports.first ?? 0
        let last = place.ports.last ?? 0
        let range = first == last ? "port \(first)" : "ports \(first) to \(last)"
        if Task.isCancelled {
            return MoriError(.aborted, "rank \(credentials.rank) joining: the task was cancelled")
        }
        let milliseconds = Duration.milliseconds(time / .milliseconds(1))
        return MoriError(
            .bootstrapFailed,
            "rank \(credentials.rank) did not find rank \(inbox.leader) at \(place.host), \(range), within "
                + "\(milliseconds.inSeconds): \(notes.summary)", ranks: [inbox.leader])
    }
}

/// What was met at the addresses tried.
private final class Notes: Sendable {
    private let byPort = Locked<[Int: String]>([:])

    /// Keeps a note; true when it is not the one kept already.
    func add(_ note: String, about target: SocketAddress) -> Bool {
        byPort.withLock { notes in
            let port = target.port ?? 0
            guard !note.isEmpty, notes[port] != note else { return false }
            notes[port] = note
            return true
        }
    }

    /// All notes in one line.
    var summary: String {
        let notes = byPort.withLock { $0.sorted { $0.key < $1.key } }
        guard !notes.isEmpty else { return "nobody listens there" }
        return notes.map { "port \($0.key): \($0.value)" }.joined(separator: "; ")
    }
}

extension TimeAmount {
    /// The time of a duration; 0 for a negative one, at most a year.
    init(_ duration: Duration) {
        let inRange = min(max(duration, .zero), .seconds(365 * 24 * 3600))
        self = .nanoseconds(inRange.nanoseconds)
    }
}

/// Options that both ends of a connection set.
enum MemberOptions {
    /// TCP_USER_TIMEOUT: how long sent bytes may stay without acknowledgement, in milliseconds.
    private static let userTimeout = NIOBSDSocket.Option(rawValue: 18)
    /// TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
    private static let keepalive: [NIOBSDSocket.Option] = [4, 5, 6].map { .init(rawValue: $0) }

    /// A host that vanishes is noticed after 30 s: 15 s idle, then three probes 5 s apart.
    static let all: [(ChannelOptions.Types.SocketOption, SocketOptionValue)] = [
        (.init(level: .tcp, name: .tcp_nodelay), 1),
        (.init(level: .socket, name: .so_keepalive), 1),
        (.init(level: .tcp, name: keepalive[0]), 15),
        (.init(level: .tcp, name: keepalive[1]), 5),
        (.init(level: .tcp, name: keepalive[2]), 3),
        (.init(level: .tcp, name: userTimeout), 30_000),
    ]
}

extension ClientBootstrap {
    /// Sets the options of a member's connection.
    func memberOptions() -> ClientBootstrap {
        MemberOptions.all.reduce(self) { $0.channelOption($1.0, value: $1.1) }
    }
}

package import MoriDevice

/// How the ranks of a world find each other and agree.
///
/// A bootstrap carries small values at the start and the end of things; the data path never uses
/// it. Every wait has a deadline.
package protocol Bootstrap: AnyObject, Sendable {
    /// The rank of this member, in `0..<worldSize`.
    var rank: Int { get }

    /// The number of ranks that the world began with, 1 or more.
    var worldSize: Int { get }

    /// The ranks that take part, ascending: all of them, until some are left behind.
    var members: [Int] { get }

    /// Gives every rank's bytes to every rank, and so doubles as a barrier.
    ///
    /// Calls are numbered per name, so a name may be reused; the n-th call of a name meets the n-th
    /// call of that name on the other ranks. One rank must not have two calls of one name under
    /// way at once.
    ///
    /// - Parameters:
    ///   - name: What is gathered, the same on all ranks, at most 1024 bytes of UTF-8, not empty.
    ///   - value: This rank's bytes. Lengths may differ between ranks.
    ///   - timeout: How long to wait for the other ranks.
    /// - Returns: The bytes of all ranks, by rank; none for a rank that is no member.
    /// - Throws: `.timedOut` naming the ranks that did not come, `.peerLost` naming a rank that died
    ///   or left, `.aborted` after an abort or when the task is cancelled, `.closed` after `close`,
    ///   `.invalidArgument` for a name or value that is too long.
    func allGather(
        _ name: String, _ value: [UInt8], timeout: Duration
    ) async throws(MoriError) -> [[UInt8]]

    /// Waits until all ranks called it with this name.
    ///
    /// Names of barriers and of all-gathers do not meet.
    ///
    /// - Throws: As `allGather(_:_:timeout:)`.
    func barrier(_ name: String, timeout: Duration) async throws(MoriError)

    /// Tells all other ranks that a rank ended the world's rounds.
    ///
    /// Does not wait. Afterwards all-gathers and barriers throw `.aborted` on every rank.
    ///
    /// - Parameters:
    ///   - culprit: The rank that caused it; nil when none in particular did.
    ///   - message: Why, for people; cut to 4096 bytes.
    func abort(culprit: Int?, message: String)

    /// Tells every rank, this one too, for whom this rank waited when a round failed.
    ///
    /// Does not wait and ends nothing. Who does not hear its own words knows that the rank which
    /// serves the store is silent.
    ///
    /// - Parameter ranks: Those whose words had not come.
    func report(waitingFor ranks: [Int])

    /// Sets what is called when a peer is lost without goodbye, or aborts.
    ///
    /// It is called at most once per event, on any thread, and must not block. Events that came
    /// before are delivered at once. A later handler replaces an earlier one; after `close` none
    /// is called.
    func onEvent(_ handler: @escaping @Sendable (BootstrapEvent) -> Void)

    /// Meets some of the members anew, whatever became of the others: what comes after a failure.
    ///
    /// Collective over `members`. Nothing of this bootstrap is needed for it but what was exchanged
    /// at the start, so it also works when the rank that serves its store is gone; the smallest member
    /// serves the new one. This bootstrap stays as it is.
    ///
    /// - Parameters:
    ///   - members: Who takes part, ascending, this rank among them; the same on each of them.
    ///   - generation: Which meeting it is, larger than every one before that succeeded.
    ///   - timeout: How long to wait for the others.
    /// - Returns: This rank's member of the new meeting.
    /// - Throws: `.timedOut` naming the members that did not come, `.ranksDisagree` when their sets of
    ///   members differ, `.bootstrapFailed` when no connection comes about.
    func regroup(
        _ members: [Int], generation: Int, timeout: Duration
    ) async throws(MoriError) -> any Bootstrap

    /// Says goodbye, so that this rank's later silence is no loss, and closes the connections.
    ///
    /// Rank 0's store goes on serving until all others said goodbye or were lost, or `timeout` has
    /// passed. May be called several times; later calls wait for the first.
    func close(timeout: Duration) async
}

/// What happened to a peer without this rank's asking.
package enum BootstrapEvent: Hashable, Sendable {
    /// The connection of a rank ended without goodbye: it died, or its host or network did.
    case peerLost(rank: Int)
    /// A rank ended the world's rounds, and says which rank it holds responsible, and why.
    case aborted(by: Int, culprit: Int?, message: String)
    /// A round failed while a rank, perhaps this one, waited for others.
    case waits(by: Int, for: [Int])
}

extension Bootstrap {
    package var members: [Int] { Array(0..<worldSize) }

    /// Waits until all ranks called it with this name.
    package func barrier(_ name: String, timeout: Duration) async throws(MoriError) {
        // The prefix keeps barriers apart from all-gathers of the same name.
        _ = try await allGather("barrier " + name, [], timeout: timeout)
    }
}

/// The sizes that the bootstrap refuses to exceed, in bytes.
enum BootstrapLimit {
    /// A frame before its sender has proved that it belongs to the world.
    static let strangersFrame = 4 << 10
    /// A frame of a member: also the most that one all-gather can return, all ranks together.
    static let membersFrame = 16 << 20
    /// The name of an all-gather, with the prefix of a barrier.
    static let name = 1024
    /// The message of an abort.
    static let message = 4096
    /// The ranks of a world, so that a rank list always fits into a stranger's frame.
    static let worldSize = 1 << 16

    /// The most that one rank may contribute to an all-gather in a world of `worldSize`.
    static func value(worldSize: Int) -> Int {
        (membersFrame - name - 64) / worldSize - 4
    }
}

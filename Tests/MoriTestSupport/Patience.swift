import Synchronization

/// How long tests wait, on a machine that may be busy with other things.
public enum Patience {
    /// The deadline of what is to succeed: only what hangs reaches it.
    public static let healthy = Duration.seconds(120)
    /// The bound of what has to happen at once, long before `healthy`.
    public static let prompt = Duration.seconds(60)
    /// Deadlines that one rank is to miss and the others are to keep. Where a busy machine held up
    /// one of the others for as long as the first, the next ones are for.
    public static let missed: [Duration] = [.milliseconds(500), .seconds(5), .seconds(25)]
}

/// Counts the ranks that came somewhere, so that others can wait for them instead of guessing how
/// long they take.
public final class Arrivals: Sendable {
    private let count = Atomic(0)

    /// Nobody came yet.
    public init() {}

    /// One more.
    public func arrive() { count.add(1, ordering: .releasing) }

    /// Waits until so many came.
    ///
    /// - Throws: `Mismatch` when they do not.
    public func wait(for wanted: Int) async throws {
        let end = ContinuousClock.now + Patience.healthy
        while count.load(ordering: .acquiring) < wanted {
            guard ContinuousClock.now < end else {
                throw Mismatch(
                    "\(count.load(ordering: .relaxed)) of \(wanted) ranks came within"
                        + " \(Patience.healthy)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}

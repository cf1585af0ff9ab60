package import CoreMetrics
import MoriDevice

/// What one rank counts of its world: failures and recoveries (docs/metrics.md).
///
/// Made once for each world, and only where somebody collects metrics.
package struct WorldMetrics: Sendable {
    /// Where operators make their own handles.
    package let factory: any MetricsFactory
    /// The labels that everything of this rank has.
    package let dimensions: [(String, String)]

    private let recoveries: Counter
    private let recoveryTime: Timer
    private let activeRanks: Gauge

    /// Nothing where no factory was given, or the one that drops everything.
    init?(_ factory: (any MetricsFactory)?, rank: Int) {
        guard let factory, !(factory is NOOPMetricsHandler) else { return nil }
        self.factory = factory
        dimensions = [("rank", "\(rank)")]
        recoveries = Counter(
            label: "moriep.recoveries", dimensions: dimensions, factory: factory)
        recoveryTime = Timer(
            label: "moriep.recovery.duration", dimensions: dimensions, factory: factory)
        activeRanks = Gauge(
            label: "moriep.world.active_ranks", dimensions: dimensions, factory: factory)
    }

    /// The factory that holds here; nil where the process has none.
    static var bootstrapped: (any MetricsFactory)? {
        let factory = MetricsSystem.factory
        return factory is NOOPMetricsHandler ? nil : factory
    }

    /// Says of how many ranks the world is.
    func note(activeRanks count: Int) { activeRanks.record(count) }

    /// Counts the end of the world's rounds.
    func countFailure(_ error: MoriError) {
        // By code, so it is made when it is known; nothing that is done often ends here.
        Counter(
            label: "moriep.failures", dimensions: dimensions + [("code", "\(error.code)")],
            factory: factory
        ).increment()
        guard let wait = error.wait, wait.peer >= 0 else { return }
        Counter(
            label: "moriep.waits.failed",
            dimensions: dimensions + [("peer", "\(wait.peer)"), ("phase", wait.phase)],
            factory: factory
        ).increment()
    }

    /// Counts a recovery that succeeded.
    func countRecovery(_ duration: Duration, activeRanks count: Int) {
        recoveries.increment()
        recoveryTime.recordNanoseconds(duration.nanoseconds)
        note(activeRanks: count)
    }
}

import Testing

/// Every test that runs worlds on the host device, one after the other: ranks of many worlds at
/// once would only take each other's cores, and tests of deadlines need theirs.
@Suite(.serialized) enum WorldTests {
    /// The upstream project's grid.
    @Suite struct IntraNodeTests {}
    /// Shapes that no model has, each of which has broken somebody's kernel.
    @Suite struct ShapeTests {}
    /// No result depends on the grid that made it.
    @Suite struct LaunchTests {}
    /// Many rounds, operators, streams and worlds.
    @Suite struct RoundTests {}
    /// More rows than a rank has room for.
    @Suite struct OverflowTests {}
    /// What a round does not write.
    @Suite struct UntouchedMemoryTests {}
    /// What rounds leave behind when somebody wants to see them.
    @Suite struct TraceTests {}
    /// Captured rounds, replayed.
    @Suite struct GraphTests {}
    /// Not a number, infinities, signs of zeros, order of sums.
    @Suite struct NumericsTests {}
    /// What an operator may be made for.
    @Suite struct ConfigurationTests {}
    /// Calls that are refused before anything is launched.
    @Suite struct BadInputTests {}
    /// Ranks that call differently, which only the kernels can see.
    @Suite struct DisagreementTests {}
    /// Deadlines, aborts, use after close.
    @Suite struct FailureTests {}
    /// Worlds, operators and outputs that go in any order; each test has a process of its own.
    @Suite struct LifetimeTests {}
    /// The kernels between nodes: every geometry, shape, type and grid.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeTests {}
    /// Many rounds of them, with operators and streams in between.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeRoundTests {}
    /// The same bits again and again, by any number of queues and on every grid.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeRepeatTests {}
    /// The same rounds over a network that is late, or serves its queues in any order.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeScheduleTests {}
    /// Networks that fail, ranks that do not come.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeFailureTests {}
    /// What they ask of the network, against what the routing alone asks for.
    @Suite(.enabled(if: InterNodeSupport.isBuilt)) struct InterNodeCountTests {}
    /// Sends and receives apart.
    @Suite struct SplitPhaseTests {}
    /// What a world counts, and what it logs.
    @Suite struct MetricsTests {}
    /// Worlds that lose ranks and go on.
    @Suite struct RecoveryTests {}
    /// Recoveries and ends, in any order; each test has a process of its own.
    @Suite struct CloseTests {}
    /// Every wait for a peer, missed.
    @Suite struct DeadlineTests {}
    /// The same of processes that are killed and stopped.
    @Suite struct SurvivalTests {}
    /// Rounds of ranks that met over TCP.
    @Suite struct UniqueIDWorldTests {}
}

/// How a proxy serves a channel.
package struct ProxySettings: Hashable, Sendable {
    /// Bytes that may be under way on one queue; a request that is larger goes alone.
    package var queueByteLimit = Int.max
    /// Descriptors taken from one ring in one turn, at most.
    package var ringBatch = 1024
    /// Of one post's requests every n-th is signaled, and the last.
    package var signalInterval = 16
    /// Whether producers are host threads, which sleep on counts and ring the doorbell; on GPUs
    /// nobody does either.
    package var wakesProducers = true

    /// Turns without work that an idle thread takes without giving its core away, and then with a
    /// yield between them, before it sleeps.
    package var spinTurns = 200
    package var yieldTurns = 32
    /// How often an idle thread wakes up by itself and looks after its channels.
    package var tickInterval = Duration.milliseconds(1)

    /// The settings that operators use.
    package init() {}
}

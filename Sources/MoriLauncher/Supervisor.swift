import CMoriSystem
import Glibc
import MoriDevice

/// Starts processes, carries their output and waits for them; all on one thread.
struct Supervisor: ~Copyable {
    /// A process that was started.
    private struct Process {
        var id: Int32
        var reason: RankExit.Reason?
        var wasKilled = false
        var order = 0
    }

    /// The end of this pipe tells the ranks that this process has ended.
    private let lifeline: Pipe
    private let grace: Duration
    private let forwardsSignals: Bool
    private var isEnding = false
    private var processes: [Process] = []
    private var relays: Relays = Relays()
    private var graceEnd: ContinuousClock.Instant?

    init(grace: Duration, forwardsSignals: Bool) throws(MoriError) {
        // Noncopyable types throw before the first stored property is set.
        let pipe = try Descriptor.pipe()
        lifeline = pipe
        self.grace = grace
        self.forwardsSignals = forwardsSignals
    }

    /// Starts all processes, or none.
    mutating func start(_ plans: [ProcessPlan]) throws(MoriError) {
        do throws(MoriError) {
            let input = try Descriptor.null()
            for (index, plan) in plans.enumerated() {
                let output = try relays.add(
                    plan.standardOutput, process: index, stream: STDOUT_FILENO)
                let error = try relays.add(
                    plan.standardError, process: index, stream: STDERR_FILENO)
                let id = try plan.spawn(
                    input: input.number, output: output, error: error,
                    lifeline: lifeline.read.number)
                processes.append(Process(id: id))
            }
        } catch {
            killAll()
            for process in processes { waitpid(process.id, nil, 0) }
            throw error
        }
        relays.closeWriteEnds()
    }

    /// Waits for the end of every process.
    mutating func run(_ cancellation: Cancellation) -> [RankExit] {
        while processes.contains(where: { $0.reason == nil }) {
            relays.poll(milliseconds: 50)
            reap()
            if forwardsSignals { forwardSignals() }
            if cancellation.isRequested { killAll() }
            if let graceEnd, ContinuousClock.now >= graceEnd { killAll() }
        }
        // A grandchild may still hold an output; what the ranks wrote is there already.
        relays.finish()
        return processes.enumerated().map { index, process in
            RankExit(
                rank: index, processID: process.id, reason: process.reason ?? .exited(0),
                wasEndedByLauncher: process.wasKilled, order: process.order,
                standardOutput: relays.collected(of: index, stream: STDOUT_FILENO),
                standardError: relays.collected(of: index, stream: STDERR_FILENO))
        }
    }

    /// Takes note of the processes that have ended.
    private mutating func reap() {
        for index in processes.indices where processes[index].reason == nil {
            guard mori_has_ended(processes[index].id) != 0 else { continue }
            // Its number, and its group's, are nobody else's before it is reaped: what it has started
            // and not awaited goes with it.
            kill(-processes[index].id, SIGKILL)
            var status: Int32 = 0
            guard unsafe waitpid(processes[index].id, &status, 0) == processes[index].id
            else { continue }
            let signal = status & 0x7F
            let reason: RankExit.Reason =
                signal == 0 ? .exited((status >> 8) & 0xFF) : .signalled(signal)
            processes[index].order = processes.count { $0.reason != nil }
            processes[index].reason = reason
            if reason != .exited(0) && graceEnd == nil { graceEnd = .now + grace }
        }
    }

    /// Passes on what came since; a second one that asks for the end gets it.
    private mutating func forwardSignals() {
        let signals = mori_take_signals()
        guard signals != 0 else { return }
        for signal in Int32(1)..<64 where signals >> UInt64(signal) & 1 == 1 {
            for process in processes where process.reason == nil { kill(-process.id, signal) }
            guard [SIGINT, SIGTERM, SIGHUP, SIGQUIT].contains(signal) else { continue }
            if isEnding { killAll() }
            isEnding = true
            if graceEnd == nil { graceEnd = .now + grace }
        }
    }

    private mutating func killAll() {
        // Only processes that were not reaped: their numbers cannot belong to others.
        for index in processes.indices where processes[index].reason == nil {
            processes[index].wasKilled = true
            // Its group: what it started itself goes too.
            kill(-processes[index].id, SIGKILL)
        }
    }
}

/// The outputs of all processes.
private struct Relays: ~Copyable {
    private var all: [Box] = []

    // Arrays hold no noncopyable values.
    private final class Box {
        var relay: OutputRelay
        /// What the process gets, until it was started.
        var write: Descriptor?

        init(_ relay: consuming OutputRelay, write: consuming Descriptor) {
            self.relay = relay
            self.write = consume write
        }
    }

    /// Makes the pipe of one output, if it needs one, and gives the descriptor for the process.
    mutating func add(
        _ output: RankLauncher.Output, process: Int, stream: Int32
    ) throws(MoriError) -> Int32 {
        guard output != .inherited else { return stream }
        let pipe = try Descriptor.pipe()
        let number = pipe.write.number
        let prefix = output == .prefixed ? "[\(process)] " : nil
        let relay = OutputRelay(pipe.read, process: process, stream: stream, prefix: prefix)
        all.append(Box(relay, write: pipe.write))
        return number
    }

    /// Leaves the write ends to the processes, so that an output ends with its process.
    func closeWriteEnds() {
        for box in all { box.write = nil }
    }

    /// Waits until there is output or the time is over, and takes what came.
    func poll(milliseconds: Int32) {
        var waiting = all.compactMap { $0.relay.pollable }.map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        _ = unsafe Glibc.poll(&waiting, nfds_t(waiting.count), milliseconds)
        for box in all { box.relay.drain() }
    }

    /// Takes the last output and unfinished lines.
    func finish() {
        for box in all {
            box.relay.drain()
            box.relay.flush()
        }
    }

    func collected(of process: Int, stream: Int32) -> [UInt8] {
        for box in all where box.relay.process == process && box.relay.stream == stream {
            return box.relay.bytes
        }
        return []
    }
}

extension ProcessPlan {
    /// Starts the process with these descriptors and no others.
    fileprivate func spawn(
        input: Int32, output: Int32, error: Int32, lifeline: Int32
    ) throws(MoriError) -> Int32 {
        let variables = environment.map { "\($0.key)=\($0.value)" }.sorted()
        var id: Int32 = 0
        let failure = unsafe withCStrings(arguments) { arguments in
            unsafe withCStrings(variables) { variables in
                unsafe path.withCString { path in
                    var request = unsafe mori_spawn_request(
                        path: path, arguments: arguments, environment: variables, input: input,
                        output: output, error: error, lifeline: lifeline)
                    return unsafe mori_spawn(&request, &id)
                }
            }
        }
        guard failure == 0 else {
            throw MoriError(
                .invalidArgument, "\(path) cannot be started",
                cause: .errno(call: "execve", code: failure))
        }
        return id
    }
}

/// Calls `body` with C's form of a list of texts.
private func withCStrings<Result>(
    _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
    let copies = unsafe texts.map { unsafe strdup($0) }
    defer { unsafe copies.forEach { unsafe free($0) } }
    let list = unsafe copies.map { unsafe UnsafePointer($0) } + [nil]
    return unsafe list.withUnsafeBufferPointer { buffer in
        // A list of one or more entries has a base.
        guard let base = buffer.baseAddress else { preconditionFailure("an empty list") }
        return unsafe body(base)
    }
}

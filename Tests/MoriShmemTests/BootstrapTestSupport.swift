import Glibc
import Logging
import MoriDevice
import MoriTestSupport
import Synchronization
import Testing

@testable import MoriShmem

typealias Launcher = TCPBootstrap.Parameters.Launcher

/// A logger that writes nothing.
let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A launcher's world of its own, on ports that no other test of this process uses.
func launcher(port: Int? = nil, isLocal: Bool = true, secret: String = "") -> Launcher {
    Launcher(
        address: "127.0.0.1", port: port ?? freePorts(), isLocal: isLocal,
        secret: Array(secret.utf8), job: "job \(UInt64.random(in: 0 ... .max))")
}

/// The first of 17 ports, below the ephemeral ones, of which the first four are free.
private func freePorts() -> Int {
    while true {
        let offset = nextOffset.withLock { next in
            defer { next = (next + 20) % 1000 }
            return next
        }
        let port = thousand * 1000 + offset
        // A port on which somebody listens cannot be bound.
        let isFree = (port..<port + 4).allSatisfy {
            (try? BoundSocket(address: .loopback, port: $0)) != nil
        }
        if isFree { return port }
    }
}

private let nextOffset = Mutex(0)

/// A thousand ports that no other test process uses: it listens on a port that stands for them.
private let thousand: Int = {
    for thousand in (12...28).shuffled() {
        let socket = try? BoundSocket(address: .loopback, port: 11_000 + thousand)
        if let descriptor = socket?.take(), listen(descriptor, 1) == 0 { return thousand }
    }
    return 12
}()

/// The parameters of one rank.
func member(
    _ rank: Int, of worldSize: Int, at launcher: Launcher, timeout: Duration = Patience.healthy
) -> TCPBootstrap.Parameters {
    .init(
        rank: rank, worldSize: worldSize, meetingPoint: .launcher(launcher), timeout: timeout)
}

/// Joins with all of these at once.
func join(_ parameters: [TCPBootstrap.Parameters]) async -> [Result<TCPBootstrap, MoriError>] {
    await together(parameters.count) { index throws(MoriError) in
        try await TCPBootstrap.join(parameters[index], logger: quietLogger)
    }
}

/// A launcher's world where `occupy` could take the ports that it wants.
///
/// Another process may be quicker; then it is tried with other ports.
func launcher<Occupied>(
    secret: String = "", occupying occupy: (Launcher) async throws -> Occupied
) async throws -> (Launcher, Occupied) {
    for _ in 0..<10 {
        let place = launcher(secret: secret)
        if let occupied = try? await occupy(place) { return (place, occupied) }
    }
    let place = launcher(secret: secret)
    return (place, try await occupy(place))
}

/// Tries again with more time, for what a slow machine cannot do in a short one.
func withGrowingPatience(
    from first: Duration = .seconds(1), _ body: (Duration) async throws -> Bool
) async throws {
    for patience in [first, .seconds(6)] where try await body(patience) {
        return
    }
    #expect(try await body(.seconds(25)), "even with patience")
}

/// Makes a world of TCP members in this process, by rank.
func tcpWorld(size: Int, at launcher: Launcher = launcher()) async throws -> [TCPBootstrap] {
    try await join((0..<size).map { member($0, of: size, at: launcher) }).map { try $0.get() }
}

/// Runs the body once for each index, all at the same time, and gives the results by index.
func together<Value: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (Int) async throws(MoriError) -> Value
) async -> [Result<Value, MoriError>] {
    await withTaskGroup(of: (Int, Result<Value, MoriError>).self) { tasks in
        for index in 0..<count {
            tasks.addTask {
                do throws(MoriError) {
                    return (index, .success(try await body(index)))
                } catch {
                    return (index, .failure(error))
                }
            }
        }
        var results: [Int: Result<Value, MoriError>] = [:]
        for await (index, result) in tasks { results[index] = result }
        return (0..<count).compactMap { results[$0] }
    }
}

/// Closes all of these at once.
func close(_ members: [some Bootstrap], timeout: Duration = .seconds(10)) async {
    await withTaskGroup { tasks in
        for member in members { tasks.addTask { await member.close(timeout: timeout) } }
    }
}

extension Result where Failure == MoriError {
    /// The error, if it is one.
    var error: MoriError? {
        if case .failure(let error) = self { return error }
        return nil
    }
}

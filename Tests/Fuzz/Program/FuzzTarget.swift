import MoriDevice
@testable import MoriEP
@testable import MoriShmem
import NIOCore

/// What is parsed from outside the process.
///
/// A target traps where a promise is broken: whatever comes is read, or refused with words, and what
/// was read is written again as the same.
enum FuzzTarget: String, CaseIterable, Sendable {
    /// Messages of the bootstrap, and what ranks tell each other over it.
    case messages
    /// A connection to the store, as a stranger and as a member.
    case store
    /// The 128 bytes of a unique id.
    case uniqueID = "unique-id"
    /// Environment variables, a line each.
    case environment
    /// Slurm's lists.
    case slurm
    /// A tuning file.
    case tuning
    /// A file of a trace.
    case trace

    /// The one of this process.
    nonisolated(unsafe) static var current = FuzzTarget.messages

    /// Looks at one input.
    func check(_ bytes: [UInt8]) {
        switch self {
        case .messages: checkMessages(bytes)
        case .store: StoreTarget.check(bytes)
        case .uniqueID: checkUniqueID(bytes)
        case .environment: checkEnvironment(bytes)
        case .slurm: checkSlurm(String(decoding: bytes, as: UTF8.self))
        case .tuning: checkTuning(bytes)
        case .trace: TraceTarget.check(bytes)
        }
    }

    /// The first byte says what is read, for the fuzzer to know.
    private func checkMessages(_ bytes: [UInt8]) {
        let payload = ByteBuffer(bytes: bytes.dropFirst())
        switch bytes.first {
        case 0:
            guard let message = RankMessage(decoding: payload) else { return }
            precondition(RankMessage(decoding: message.encoded()) == message)
        case 1:
            guard let message = StoreMessage(decoding: payload) else { return }
            precondition(StoreMessage(decoding: message.encoded()) == message)
        case 2:
            guard let hello = Hello(decoding: payload) else { return }
            precondition(hello.encoded() == payload)
            let key = WorldKey(secret: [1], tag: [])
            let greeting = Greeting(.challenge, tag: [])
            precondition(!key.accepts(hello.proof, of: hello.transcript(greeting)))
        case 3:
            guard let greeting = Greeting(decoding: payload) else { return }
            precondition(Greeting(decoding: greeting.encoded()) == greeting)
        case 4:
            let key = WorldKey(secret: [1], tag: [])
            let greeting = Greeting(.challenge, tag: key.tag)
            let credentials = Credentials(rank: 0, worldSize: 1, processID: 1)
            let hello = Hello(credentials, to: greeting, key: key)
            let verdict = Verdict(decoding: payload, to: hello, after: greeting, key: key)
            precondition(verdict == nil || verdict == .wrongSecret)
        case 5:
            guard let endpoints = VerbsEndpoints(Array(payload.readableBytesView)) else { return }
            precondition(VerbsEndpoints(endpoints.bytes) == endpoints)
        default: break
        }
    }

    private func checkUniqueID(_ bytes: [UInt8]) {
        do throws(MoriError) {
            let id = try UniqueID(bytes: bytes)
            precondition((try? UniqueID(bytes: id.bytes)) == id)
            precondition((1..<65536).contains(id.port))
        } catch {
            precondition(error.code == .invalidArgument && !error.message.isEmpty)
        }
    }

    private func checkEnvironment(_ bytes: [UInt8]) {
        var variables: [String: String] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: "=", maxSplits: 1)
            if parts.count == 2 { variables[String(parts[0])] = String(parts[1]) }
        }
        do throws(MoriError) {
            let environment = try MoriEnvironment(variables)
            precondition(environment.bootstrapTimeout > .zero && environment.heapByteLimit > 0)
        } catch {
            precondition(error.code == .invalidConfiguration && !error.message.isEmpty)
        }
        do throws(MoriError) {
            guard let launcher = try LauncherEnvironment(variables) else { return }
            precondition((0..<launcher.worldSize).contains(launcher.rank))
            precondition((0..<launcher.localWorldSize).contains(launcher.localRank))
            precondition(launcher.localWorldSize <= launcher.worldSize)
            precondition((1..<65536).contains(launcher.masterPort))
        } catch {
            let codes: [MoriError.Code] = [.invalidConfiguration, .invalidArgument]
            precondition(codes.contains(error.code) && !error.message.isEmpty)
        }
    }

    private func checkSlurm(_ text: String) {
        if let hosts = SlurmList.hosts(text) {
            precondition(!hosts.isEmpty && hosts.count <= BootstrapLimit.worldSize)
            precondition(hosts.allSatisfy { !$0.isEmpty })
        }
        if let counts = SlurmList.counts(text) {
            precondition(!counts.isEmpty && counts.count <= BootstrapLimit.worldSize)
            precondition(counts.allSatisfy { $0 > 0 })
        }
    }

    private func checkTuning(_ bytes: [UInt8]) {
        do throws(MoriError) {
            let file = try TuningFile(bytes, name: "input")
            for rule in file.tables.flatMap(\.rules) {
                precondition(rule.launch.blocks > 0 && rule.launch.warpsPerBlock > 0)
                precondition(rule.bandwidth.map { $0.isFinite && $0 >= 0 } ?? true)
                precondition(rule.latency.map { $0.isFinite && $0 >= 0 } ?? true)
            }
        } catch {
            precondition(error.code == .invalidConfiguration)
            precondition(error.message.hasPrefix("input, line "))
        }
    }
}

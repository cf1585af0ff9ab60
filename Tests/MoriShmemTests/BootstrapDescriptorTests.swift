import Glibc
import MoriDevice
import MoriTestSupport
import Testing

@testable import MoriShmem

/// A process that may open no more files and sockets is told so, and goes on when it may.
@Suite struct BootstrapDescriptorTests {
    @Test(.timeLimit(.minutes(1)))
    func ranksWithoutDescriptorsAreToldAndMeetLater() async {
        await #expect(processExitsWith: .success) {
            let launcher = launcher()
            let parameters = (0..<2).map { member($0, of: 2, at: launcher) }
            let members = try await join(parameters).map { try $0.get() }

            let held = try holdAllDescriptors(but: 2)
            for result in await regroup(members, generation: 1) {
                expectNoDescriptors(result)
            }
            for result in await join((0..<2).map { member($0, of: 2, at: launcher) }) {
                expectNoDescriptors(result)
            }
            for descriptor in held { close(descriptor) }

            let later = try await regroup(members, generation: 1).map { try $0.get() }
            _ = await together(2) { await later[$0].close(timeout: Patience.healthy) }
            await close(members)
        }
    }
}

private func regroup(
    _ members: [TCPBootstrap], generation: Int
) async -> [Result<any Bootstrap, MoriError>] {
    await together(members.count) { index throws(MoriError) in
        try await members[index].regroup(
            [0, 1], generation: generation, timeout: Patience.healthy)
    }
}

private func expectNoDescriptors<Success>(_ result: Result<Success, MoriError>) {
    do {
        _ = try result.get()
        Issue.record("they met")
    } catch {
        #expect(error.code == .bootstrapFailed, "\(error)")
        #expect(error.message.contains("more descriptors"), "\(error)")
        #expect(error.message.contains("ulimit -n"), "\(error)")
    }
}

/// Opens descriptors until so many more can be had.
private func holdAllDescriptors(but count: Int) throws -> [CInt] {
    var limit = rlimit(rlim_cur: 200, rlim_max: 200)
    try #require(unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    var held: [CInt] = []
    while true {
        let descriptor = dup(STDOUT_FILENO)
        guard descriptor >= 0 else { break }
        held.append(descriptor)
    }
    for _ in 0..<count { close(held.removeLast()) }
    return held
}

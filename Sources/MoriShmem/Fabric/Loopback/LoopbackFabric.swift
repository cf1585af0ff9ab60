package import MoriDevice

/// A fabric without a network: it copies into the mapped memory of peers, in one process or over
/// shared memory.
///
/// For hosts without a NIC, and for tests: it can be late, shuffle and fail.
package final class LoopbackFabric: Fabric {
    package let name = "loopback"
    private let behavior: LoopbackBehavior

    /// Makes a fabric.
    package init(_ behavior: LoopbackBehavior = .immediate) { self.behavior = behavior }

    package func connect(
        _ request: FabricRequest, over bootstrap: any Bootstrap, timeout: Duration
    ) async throws(MoriError) -> any FabricLink {
        // Said to everyone instead of thrown: the others are waiting.
        let problem = Self.problem(with: request)
        let problems = try await bootstrap.allGather(
            "loopback \(request.purpose)", Array(problem.utf8), timeout: timeout)
        let failing = problems.indices.filter { !problems[$0].isEmpty }
        guard failing.isEmpty else {
            let list = failing.map { rank in
                "rank \(rank) \(String(decoding: problems[rank], as: UTF8.self))"
            }
            throw MoriError(
                .unsupported,
                "\(request.purpose): the loopback fabric copies into mapped host memory, and "
                    + list.joined(separator: "; ")
                    + "; use an RDMA NIC, or ranks of one machine on the host device",
                ranks: failing)
        }
        return LoopbackLink(request, rank: bootstrap.rank, behavior: behavior)
    }

    /// Why this rank cannot, or nothing.
    private static func problem(with request: FabricRequest) -> String {
        do throws(MoriError) {
            guard try request.device.properties().memoryIsHostMemory else {
                return "is on device \(request.device), whose memory is not host memory"
            }
        } catch {
            return "cannot ask its device: \(error)"
        }
        let known = request.mappedAddresses.indices
        let unmapped = request.peers.filter {
            !known.contains($0) || request.mappedAddresses[$0] == 0
        }
        return unmapped.isEmpty ? "" : "does not map the memory of ranks \(unmapped)"
    }
}

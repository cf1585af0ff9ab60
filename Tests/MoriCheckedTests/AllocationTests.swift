#if Checked
import CHIP
import MoriEP
import MoriHostKernels
import MoriOracle
import MoriShmem
import MoriTestSupport
import Testing

extension CheckedTests.AllocationTests {
    /// The life of a world with a network: everything that the host device takes memory,
    /// threads or mappings for.
    private static func live() async throws {
        VirtualTime.start()
        var environment = try MoriEnvironment()
        environment.bootstrapTimeout = .seconds(2)
        environment.roundTimeout = .seconds(2)
        let worlds = try await SymmetricMemory.local(
            worldSize: 2, device: Device(.host), fabric: LoopbackFabric(),
            environment: environment)
        var workload = Schedule.rounds([[20, 30]], seed: 1)[0].workload
        workload.tokens = [20, 30]
        let routes = Routes(workload)
        var round = RoundCase(workload)
        round.kernelType = .asyncLL
        round.devicesPerNode = 1
        let config = round.config
        for _ in worlds { VirtualTime.hold() }
        VirtualTime.release()
        defer { VirtualTime.hold() }
        let results = await onEveryRank(of: worlds) { world in
            defer { VirtualTime.release() }
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            let event = try DeviceEvent(on: world.device)
            for _ in 0..<2 {
                try await checkRound(
                    routes, of: BFloat16.self, combining: BFloat16.self, with: op, on: stream,
                    options: RoundOptions(
                        launch: LaunchConfiguration(blocks: 2, warpsPerBlock: 2)))
            }
            try stream.record(event)
            try await stream.completion()
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
    }

    /// Whichever it is: a typed error on every rank or a right result, and nothing is left.
    @Test(.timeLimit(.minutes(5)))
    func everyAllocationMayFail() async throws {
        try await Self.live()
        let before = try liveCounts()
        var sites: [String: Int] = [:]
        var number: Int64 = 0
        while true {
            number += 1
            moriep_fail_allocation(number)
            var found: (any Error)?
            do { try await Self.live() } catch { found = error }
            let site = unsafe moriep_failed_allocation().map { unsafe String(cString: $0) }
            moriep_fail_allocation(0)
            guard let site else {
                #expect(found == nil, "nothing failed: \(String(describing: found))")
                break
            }
            sites[site, default: 0] += 1
            if let found {
                #expect(found is MoriError, "allocation \(number), \(site): \(found)")
            }
            try await Self.requireNoMore(than: before, after: "allocation \(number), \(site)")
        }
        print("\(number - 1) allocations failed, one by one: \(sites)")
        for site in ["memory", "symmetric memory", "a stream's thread", "an event", "an import"] {
            #expect(sites[site] != nil, "no \(site) failed")
        }
    }

    /// Throws unless nothing is left, after what is being released had its time.
    private static func requireNoMore(
        than before: moriep_live_counts, after what: String
    ) async throws {
        var counts = try liveCounts()
        for _ in 0..<500 where !counts.isWithin(before) {
            try await Task.sleep(for: .milliseconds(10))
            counts = try liveCounts()
        }
        #expect(counts.isWithin(before), "\(what) left \(counts.words)")
    }
}
#endif

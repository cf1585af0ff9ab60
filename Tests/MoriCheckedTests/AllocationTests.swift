#if Checked
import CHIP
import MoriDevice
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
        // Before ranks run side by side: its number is the same in each life, and it fails once for sure.
        _ = try DeviceEvent(on: Device(.host))
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

    /// A world of three ranks that goes on without the last; its recovery meets the failing allocation.
    ///
    /// - Returns: What failed, nil: nothing did; and what the two survivors' first attempts threw.
    private static func recovery(
        failing number: Int64
    ) async throws -> (site: String?, errors: [any Error]) {
        VirtualTime.start()
        var environment = try MoriEnvironment()
        environment.roundTimeout = .seconds(2)
        let worlds = try await SymmetricMemory.local(
            worldSize: 3, device: Device(.host), fabric: LoopbackFabric(), environment: environment)
        var round = RoundCase(Schedule.rounds([[20, 30, 10]], seed: 2)[0].workload)
        round.kernelType = .interNodeV1
        round.devicesPerNode = 2
        let config = round.config
        let workload = round.workload
        let attempted = Arrivals()
        let first = Locked<(site: String?, errors: [any Error])>((nil, []))
        for _ in worlds { VirtualTime.hold() }
        VirtualTime.release()
        defer { VirtualTime.hold() }
        let results = await onEveryRank(of: worlds) { world in
            defer { VirtualTime.release() }
            let op = try await EPDispatchCombineOp(config, in: world)
            let stream = try DeviceStream(on: world.device)
            try await checkRound(
                Routes(workload), of: BFloat16.self, combining: BFloat16.self, with: op, on: stream)
            try await world.barrier()
            guard world.rank < 2 else { return }
            if world.rank == 0 { moriep_fail_allocation(number) }
            do {
                try await world.recover(activeRanks: [0, 1], timeout: .seconds(1))
            } catch {
                first.withLock { $0.errors.append(error) }
            }
            attempted.arrive()
            try await attempted.wait(for: 2)
            if world.rank == 0 {
                let site = unsafe moriep_failed_allocation().map { unsafe String(cString: $0) }
                moriep_fail_allocation(0)
                first.withLock { $0.site = site }
            }
            attempted.arrive()
            try await attempted.wait(for: 4)
            if !first.withLock({ $0.errors.isEmpty }) {
                try await world.recover(activeRanks: [0, 1])
            }
            try await checkRound(
                Routes(workload.without([2])), of: BFloat16.self, combining: BFloat16.self,
                with: op,
                on: stream)
            try await op.close()
            try await world.close()
        }
        for result in results { try result.get() }
        try await worlds[2].close()
        return first.withLock { $0 }
    }

    /// A recovery that throws leaves the world as it was, on every rank: the next one succeeds, and
    /// rounds are as the oracle says without the rank that is gone.
    @Test(.timeLimit(.minutes(5)))
    func everyAllocationOfARecoveryMayFail() async throws {
        _ = try await Self.recovery(failing: 0)
        let before = try liveCounts()
        var sites: [String: Int] = [:]
        var thrown = 0
        var number: Int64 = 0
        while true {
            number += 1
            let (site, errors) = try await Self.recovery(failing: number)
            guard let site else {
                #expect(errors.isEmpty, "nothing failed: \(errors)")
                break
            }
            sites[site, default: 0] += 1
            thrown += errors.isEmpty ? 0 : 1
            // No rank goes on while the other does not.
            #expect(errors.isEmpty || errors.count == 2, "allocation \(number), \(site): \(errors)")
            #expect(errors.allSatisfy { $0 is MoriError })
            try await Self.requireNoMore(than: before, after: "allocation \(number), \(site)")
        }
        print("\(number - 1) allocations of a recovery failed, \(thrown) ended it: \(sites)")
        #expect(thrown > 0)
    }

    /// Throws unless nothing is left, after what is being released had its time.
    private static func requireNoMore(
        than before: moriep_live_counts, after what: String
    ) async throws {
        // A proxy gives what is under way for an operator that was dropped a second of its clock.
        VirtualTime.release()
        defer { VirtualTime.hold() }
        var counts = try liveCounts()
        for _ in 0..<500 where !counts.isWithin(before) {
            try await Task.sleep(for: .milliseconds(10))
            counts = try liveCounts()
        }
        #expect(counts.isWithin(before), "\(what) left \(counts.words)")
    }
}
#endif

import CHIP
import Glibc
import MoriDevice
import MoriEP
import MoriOracle
import MoriTestSupport
import Testing

extension EmulatedTests {
    /// What gfx942 runs for the two steps that every packet between nodes takes. The table of
    /// docs/kernels-isa.md has them: `scripts/check-isa.py --write` takes it from what this writes.
    @Suite(.enabled(if: Emulator.canExecute, "no translation of the kernels: TINYGRAD was not set"))
    struct InstructionCountTests {
        /// Instructions of the wave that pushes so many descriptors.
        private static func pushing(_ count: Int, with emulator: Emulator) throws -> Int {
            let device = try Device(.emulated)
            var shape = moriep_shape()
            shape.kernel_type = Int32(MORIEP_INTERNODE_V1.rawValue)
            (shape.world_size, shape.node_ranks, shape.landing_sections) = (2, 1, 1)
            (shape.max_tokens, shape.max_received, shape.top_k, shape.slots) = (8, 16, 2, 1)
            (shape.experts_per_rank, shape.expert_count, shape.queue_pairs) = (1, 2, 1)
            (shape.rings, shape.ring_entries) = (1, 64)
            (shape.dispatch_row_bytes, shape.combine_row_bytes) = (64, 64)
            var layout = moriep_layout()
            try device.library.check(
                unsafe device.library.table.pointee.plan(&shape, &layout), "plan")
            func zeros(_ byteCount: UInt64) throws -> DeviceBuffer {
                try DeviceBuffer(zeroedPinnedByteCount: Int(byteCount) + 64, on: device)
            }
            let symmetric = try zeros(layout.symmetric_bytes)
            let local = try zeros(layout.local_bytes)
            let pinned = try zeros(layout.pinned_bytes)
            let words = try zeros(256)
            for rank in 0..<2 {
                unsafe UnsafeMutablePointer<UInt64>(bitPattern: words.address + UInt(rank) * 8)?
                    .pointee = UInt64(symmetric.address)
            }
            var arguments = moriep_dispatch_arguments()
            arguments.op.shape = shape
            arguments.op.layout = layout
            arguments.op.peers = UInt64(words.address)
            arguments.op.abort_peers = UInt64(words.address) + 64
            arguments.op.host_abort = UInt64(words.address) + 128
            arguments.op.local = UInt64(local.address)
            arguments.op.failure = UInt64(pinned.address)
            arguments.token_count = Int32(count)
            let counts = try emulator.run(
                "primitives_push", of: "primitives", blocks: 1, warps: 1, sharedByteCount: 0,
                arguments)
            // All of them are in the ring: the first word of each has its lap bit.
            let descriptors = UInt(pinned.address) + UInt(layout.ring_descriptors)
            let firsts = (0...count).map { number -> UInt64 in
                unsafe UnsafePointer<UInt64>(bitPattern: descriptors + UInt(number) * 32)?.pointee
                    ?? 0
            }
            #expect(firsts.map { $0 >> 63 } == [UInt64](repeating: 1, count: count) + [0])
            withExtendedLifetime((symmetric, local, pinned, words)) {}
            return counts.mostOfOneWave
        }

        /// Instructions of the one wave that forwards what a rank of another node sent.
        private static func forwarding(
            tokens: Int, hidden: Int, with emulator: Emulator
        ) async throws -> Int {
            let routes = Routes(
                Workload(
                    worldSize: 2, tokens: [tokens, tokens], hidden: hidden, topK: 2,
                    expertsPerRank: 1, pattern: .spread, seed: 1))
            let config = EPDispatchCombineConfig(
                elementType: .bfloat16, hiddenDim: hidden, maxInputTokensPerRank: 128,
                expertsPerRank: 1, expertsPerToken: 2, kernelType: .interNodeV1,
                devicesPerNode: 1)
            emulator.reset()
            _ = try await withLocalWorld(2) { world in
                let op = try await EPDispatchCombineOp(config, in: world)
                let stream = try DeviceStream(on: world.device)
                let launch = LaunchConfiguration(blocks: 1, warpsPerBlock: 1)
                let inputs = try RoundInputs<BFloat16>(routes, rank: world.rank, on: stream)
                let pending = try op.dispatchSend(
                    inputs.tokens, weights: inputs.weights, indices: inputs.indices,
                    launch: launch, on: stream)
                try await stream.completion()
                try await world.barrier()
                // The network has delivered: nothing is counted that only waits.
                try await Task.sleep(for: .milliseconds(200))
                try op.discard(try op.dispatchReceive(pending, launch: launch, on: stream))
                try await stream.completion()
                try await op.close()
            }
            return emulator.launched("moriep_internodev1_dispatch_forward").mostOfOneWave
        }

        @Test(.timeLimit(.minutes(2))) func aPushAndAChunkTakeAsManyAsTheTableSays() async throws {
            let emulator = try Emulator()
            emulator.reset()
            emulator.setSchedule(seed: 1, lateStores: 0)
            let push = (try Self.pushing(33, with: emulator) - Self.pushing(1, with: emulator)) / 32
            let hidden = 7168
            let one = try await Self.forwarding(tokens: 64, hidden: hidden, with: emulator)
            let two = try await Self.forwarding(tokens: 128, hidden: hidden, with: emulator)
            let chunk = two - one
            let text = """
                Counted by the emulator (`make test-emulated`), of one wave, with nothing to wait for.

                | step | instructions |
                |---|--:|
                | pushing a descriptor into a ring, from the ticket to the fourth word | \(push) |
                | forwarding a chunk: 64 rows of \(hidden) bf16 and their metadata to one rank | \(chunk) |
                | of that, for each row | \(chunk / 64) |

                """
            print(text)
            let library = try KernelLibrary.load(.emulated).path
            let folder = library.split(separator: "/", omittingEmptySubsequences: false).dropLast()
            let path = (folder + ["instructions.md"]).joined(separator: "/")
            guard let file = unsafe fopen(path, "w") else { throw Mismatch("cannot write \(path)") }
            _ = unsafe fputs(text, file)
            _ = unsafe fclose(file)
            // Far more would be a loop where there should be none.
            #expect((50..<1000).contains(push))
            #expect((64 * 50..<64 * 2000).contains(chunk))
        }
    }
}

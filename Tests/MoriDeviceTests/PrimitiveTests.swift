import CPrimitives
import MoriDevice
import MoriOracle
import MoriTestSupport
import Testing

/// Each primitive of the kernel language by itself, on the device that MORI_EP_DEVICE names: they are
/// different code on every machine.
@Suite(
    .serialized,
    .enabled(if: PrimitiveMachine.isThere, "no translation of the kernels: TINYGRAD was not set"))
struct PrimitiveTests {
    private let machine: PrimitiveMachine
    private let memory: PrimitiveMemory
    private let generator = Generator(seed: 20)

    init() throws {
        machine = try PrimitiveMachine()
        memory = try PrimitiveMemory(byteCount: 1 << 21, on: machine)
    }

    static let counts = [0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200]
    static let grids = [(1, 1), (1, 4), (3, 2)]

    private func arguments(
        _ operation: primitives_operation, _ change: (inout primitives_arguments) throws -> Void
    ) rethrows -> primitives_arguments {
        var arguments = primitives_arguments()
        arguments.operation = Int32(operation.rawValue)
        try change(&arguments)
        return arguments
    }

    private func integers(_ count: Int, _ what: Int) -> [Int32] {
        (0..<count).map { Int32(truncatingIfNeeded: generator.bits(what, $0, count) % 100_003) }
    }

    // Lanes ----------------------------------------------------------------------------------------

    @Test(arguments: counts) func lanesDoEveryIndexOnce(_ count: Int) throws {
        for (blocks, warps) in Self.grids {
            let input = integers(count, 1)
            let output = try memory.room(count * blocks * warps * 4)
            try machine.run(
                arguments(PRIMITIVES_LANES) {
                    $0.count = Int32(count)
                    $0.input = try memory.place(input)
                    $0.output = output
                }, blocks: blocks, warps: warps)
            let found = memory.values(Int32.self, at: output, count: count * blocks * warps)
            for warp in 0..<blocks * warps {
                #expect(
                    Array(found[warp * count..<(warp + 1) * count])
                        == input.map { 3 * $0 + Int32(warp) })
            }
            #expect(memory.isUntouched(around: output, byteCount: found.count * 4))
        }
    }

    @Test(arguments: counts) func whatRunsOnceRunsOnce(_ count: Int) throws {
        for (blocks, warps) in Self.grids {
            let output = try memory.room(blocks * 16)
            try machine.run(
                arguments(PRIMITIVES_ONCE) {
                    $0.count = Int32(count)
                    $0.output = output
                }, blocks: blocks, warps: warps)
            let each = UInt32(count * (count + 1) / 2)
            for block in 0..<blocks {
                let found = memory.values(
                    UInt32.self, at: output + UInt64(block) * 16, count: 4)
                #expect(found == [UInt32(warps), UInt32(warps) * each, 1, each])
            }
        }
    }

    @Test(arguments: counts) func sumsAreOverEveryIndex(_ count: Int) throws {
        for (blocks, warps) in Self.grids {
            let input = integers(count, 2).map { $0 - 50_000 }
            let output = try memory.room(blocks * warps * 8)
            try machine.run(
                arguments(PRIMITIVES_SUM) {
                    $0.count = Int32(count)
                    $0.input = try memory.place(input)
                    $0.output = output
                }, blocks: blocks, warps: warps)
            let found = memory.values(Int64.self, at: output, count: blocks * warps)
            let sum = input.reduce(Int64(0)) { $0 + Int64($1) }
            #expect(found.allSatisfy { $0 == sum }, "\(found), not \(sum)")
        }
    }

    @Test(arguments: counts) func bitsAreThoseOfEveryIndex(_ count: Int) throws {
        let input = (0..<count).map { index in
            UInt64(1) << (generator.bits(3, index, count) % 64)
        }
        let output = try memory.room(6 * 8)
        try machine.run(
            arguments(PRIMITIVES_BITS) {
                $0.count = Int32(count)
                $0.input = try memory.place(input)
                $0.output = output
            }, blocks: 3, warps: 2)
        let all = input.reduce(0, |)
        #expect(memory.values(UInt64.self, at: output, count: 6).allSatisfy { $0 == all })
    }

    @Test(arguments: counts) func anyFindsTheOneThatHolds(_ count: Int) throws {
        let input = integers(count, 4)
        for wanted in input + [-7] {
            let output = try memory.room(8)
            try machine.run(
                arguments(PRIMITIVES_ANY) {
                    $0.count = Int32(count)
                    $0.start = wanted
                    $0.input = try memory.place(input)
                    $0.output = output
                }, blocks: 2, warps: 2)
            let expected: UInt32 = input.contains(wanted) ? 1 : 0
            #expect(
                memory.values(UInt32.self, at: output, count: 2) == [expected, expected])
        }
    }

    /// A set's members numbered in ascending order: a ballot and a scan of it.
    @Test(arguments: [1, 2, 7, 31, 32, 33, 63, 64, 65, 128, 130, 200])
    func membersOfASetAreNumberedInOrder(_ count: Int) throws {
        for density in [1, 2, 5, 100] {
            let members = (0..<count).filter {
                generator.bits(5, $0, count, density) % UInt64(density) == 0
            }
            var sets = [UInt64](repeating: 0, count: (count + 63) / 64)
            for member in members { sets[member / 64] |= 1 << (member % 64) }
            // Every third copy was dropped.
            let slots = members.indices.map { $0 % 3 == 2 ? Int32(-1) : Int32(1000 + $0) }
            let output = try memory.room(count * 16)
            try machine.run(
                arguments(PRIMITIVES_SCAN) {
                    $0.count = Int32(count)
                    $0.input = try memory.place(sets)
                    $0.words = try memory.place(slots + [0])
                    $0.output = output
                }, blocks: 2, warps: 2)
            let found = memory.values(UInt64.self, at: output, count: members.count * 2)
            let expected = zip(members, slots).flatMap { member, slot -> [UInt64] in
                slot < 0 ? [UInt64(0), 0] : [UInt64(member + 1), UInt64(slot)]
            }
            #expect(found == expected)
            #expect(memory.isUntouched(around: output, byteCount: members.count * 16, margin: 16))
        }
    }

    // Barriers -------------------------------------------------------------------------------------

    @Test(arguments: [1, 2, 3, 8, 16])
    func aBarrierLetsEveryWarpSeeWhatAllStored(_ warps: Int) throws {
        let output = try memory.room(2 * warps * 4)
        let turns = 20
        try machine.run(
            arguments(PRIMITIVES_BARRIER) {
                $0.count = Int32(turns)
                $0.output = output
            }, blocks: 2, warps: warps)
        let sum = (0..<turns).reduce(0) { $0 + warps * (warps - 1) / 2 + warps * $1 }
        let found = memory.values(UInt32.self, at: output, count: 2 * warps)
        #expect(found.allSatisfy { $0 == UInt32(sum) }, "\(found), not \(sum)")
    }

    /// What all blocks published, the last one to finish reads whole.
    @Test(arguments: [(1, 1), (1, 4), (4, 1), (5, 3), (8, 4)])
    func theLastBlockSeesWhatAllBlocksStored(_ blocks: Int, _ warps: Int) throws {
        let words = try memory.place([UInt32](repeating: 0, count: 4))
        for turn in 1...8 {
            let count = 500
            let input = (0..<count).map { UInt32(generator.bits(6, $0, turn) % 1000) }
            let output = try memory.room(count * 4)
            try machine.run(
                arguments(PRIMITIVES_LAST_BLOCK) {
                    $0.count = Int32(count)
                    $0.input = try memory.place(input)
                    $0.output = output
                    $0.words = words
                }, blocks: blocks, warps: warps)
            let found = memory.values(UInt32.self, at: words, count: 3)
            #expect(found == [0, UInt32(turn), input.reduce(0, +) + UInt32(count)])
        }
    }

    // Rows -----------------------------------------------------------------------------------------

    private func bytes(_ count: Int, _ what: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: generator.bits(what, $0, count)) }
    }

    @Test(arguments: [0, 1, 2, 3, 4, 15, 16, 17, 63, 1023, 1024, 1040, 4096, 5000, 9217])
    func copiesAreExactForEveryLengthAndAlignment(_ count: Int) throws {
        for (from, to) in [(0, 0), (4, 0), (0, 8), (2, 6), (1, 0), (3, 5), (12, 12)] {
            let memory = try PrimitiveMemory(on: machine)
            let input = bytes(count, 7)
            let output = try memory.room(count, misalignment: to)
            try machine.run(
                arguments(PRIMITIVES_COPY) {
                    $0.bytes = Int64(count)
                    $0.input = try memory.place(input, misalignment: from)
                    $0.output = output
                })
            #expect(memory.values(UInt8.self, at: output, count: count) == input)
            #expect(memory.isUntouched(around: output, byteCount: count))
        }
    }

    @Test(arguments: counts) func fillsStoreEveryElement(_ count: Int) throws {
        let output = try memory.room(count * 4)
        try machine.run(
            arguments(PRIMITIVES_FILL) {
                $0.count = Int32(count)
                $0.start = -123
                $0.output = output
            })
        #expect(
            memory.values(Int32.self, at: output, count: count).allSatisfy { $0 == -123 })
        #expect(memory.isUntouched(around: output, byteCount: count * 4))
    }

    /// Many rows from one reading, some of them not there, from any of them on.
    @Test(arguments: [1, 2, 5, 8, 63, 64, 65, 130])
    func aRowIsStoredToEveryRowOfATable(_ count: Int) throws {
        for (length, first, stride) in [(64, 0, 64), (4112, 16, 4224), (70, 6, 94), (33, 1, 49)]
        where count * stride < 1_500_000 {
            let memory = try PrimitiveMemory(byteCount: 1 << 21, on: machine)
            let input = bytes(first + length, 8)
            let base = try memory.room(count * stride + first + length)
            let present = (0..<count).map { $0 % 4 != 3 }
            let rows = (0..<count).flatMap { row -> [UInt64] in
                present[row] ? [base - 32, UInt64(count - 1 - row)] : [0, 0]
            }
            try machine.run(
                arguments(PRIMITIVES_COPY_TO_MANY) {
                    $0.count = Int32(count)
                    $0.start = Int32(count / 3)
                    $0.rows = try memory.place(rows)
                    $0.offset = 32
                    $0.stride = Int64(stride)
                    $0.input = try memory.place(input)
                    $0.first = Int64(first)
                    $0.bytes = Int64(length)
                })
            for row in 0..<count {
                let at = base + UInt64((count - 1 - row) * stride)
                let found = memory.values(UInt8.self, at: at, count: first + length)
                let untouched = [UInt8](repeating: PrimitiveMemory.poison, count: first + length)
                #expect(Array(found[..<first]) == Array(untouched[..<first]))
                #expect(
                    Array(found[first...]) == Array((present[row] ? input : untouched)[first...]))
            }
        }
    }
}

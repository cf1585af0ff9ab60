import CPrimitives
import MoriDevice
import MoriOracle
import MoriTestSupport
import Testing

/// Conversions and sums of the element types alone, against the oracle.
@Suite(
    .serialized,
    .enabled(if: PrimitiveMachine.isThere, "no translation of the kernels: TINYGRAD was not set"))
struct PrimitiveNumberTests {
    private let machine: PrimitiveMachine
    private let generator = Generator(seed: 21)

    init() throws { machine = try PrimitiveMachine() }

    static let types: [ElementType] = [
        .bfloat16, .float32, .float16, .float8E4M3, .float8E4M3FNUZ, .float8E5M2, .float4E2M1,
    ]

    private func arguments(
        _ operation: primitives_operation, _ type: ElementType,
        _ change: (inout primitives_arguments) throws -> Void
    ) rethrows -> primitives_arguments {
        var arguments = primitives_arguments()
        arguments.operation = Int32(operation.rawValue)
        arguments.element_type = Int32(Self.types.firstIndex(of: type) ?? 0)
        try change(&arguments)
        return arguments
    }

    /// Values in an entry: 2 where they are packed.
    private func values(of type: ElementType) -> Int { type == .float4E2M1 ? 2 : 1 }

    /// fp32 numbers of every size, among them halfway between neighbours of the narrow types,
    /// subnormal ones, infinities and NaNs.
    private func numbers() -> [Float] {
        var numbers: [Float] = [
            0, -0.0, 1, -1, .infinity, -.infinity, .nan, -.nan, .leastNonzeroMagnitude,
            .leastNormalMagnitude, .greatestFiniteMagnitude, 448, 464, 480, 57344, 61440, 240, 248,
            65504, 65520, 6, 7, 5, 0.25, 0.75, 0x1p-9, 0x1p-10, 0x1.8p-10, 0x1p-24, 0x1p-25,
            0x1p-17,
        ]
        for index in 0..<3000 {
            let bits = generator.bits(1, index, 0)
            // Few bits of the fraction, so that ties are common.
            let mask: UInt32 = [0xFFFF_FFFF, 0xFFF0_0000, 0xFFFF_8000, 0xFFF8_0000][index % 4]
            numbers.append(Float(bitPattern: UInt32(truncatingIfNeeded: bits) & mask))
            let exponent = Int(bits >> 40 % 40) - 20
            numbers.append(
                Float(bitPattern: UInt32(truncatingIfNeeded: bits >> 8) & 0x807F_FFFF & mask)
                    .isNaN
                    ? 0
                    : Float(
                        sign: bits & 1 == 0 ? .plus : .minus, exponent: exponent % 20,
                        significand: 1 + Float(bits >> 60) / 16))
        }
        return numbers.count % 2 == 0 ? numbers : numbers + [0]
    }

    private func check<Element: TokenElement>(
        _: Element.Type, _ found: [Element], _ expected: [Element], _ what: String
    ) {
        #expect(found.count == expected.count)
        for index in found.indices where found[index] != expected[index] {
            if found[index].float.isNaN && expected[index].float.isNaN { continue }
            Issue.record("\(what) \(index): \(found[index]), not \(expected[index])")
            return
        }
    }

    private func checkRounding<Element: TokenElement>(
        _: Element.Type, _ type: ElementType
    ) throws {
        let memory = try PrimitiveMemory(on: machine)
        let input = numbers()
        let count = input.count / values(of: type)
        let output = try memory.room(count * MemoryLayout<Element>.stride)
        try machine.run(
            arguments(PRIMITIVES_ROUND, type) {
                $0.count = Int32(count)
                $0.input = try memory.place(input)
                $0.output = output
            })
        check(
            Element.self, memory.values(Element.self, at: output, count: count),
            Element.rounded(input), "\(type) of number")
    }

    @Test(arguments: types) func numbersAreRoundedAsTheOracleRoundsThem(_ type: ElementType) throws
    {
        let element = try #require(type.tokenElement)
        try checkRounding(element, type)
    }

    /// All bit patterns, or of fp32 some.
    private func checkWidening<Element: TokenElement>(
        _: Element.Type, _ type: ElementType
    ) throws {
        let memory = try PrimitiveMemory(on: machine)
        let size = MemoryLayout<Element>.stride
        let count = size == 1 ? 256 : 65536
        let bits = (0..<count).map { index -> UInt32 in
            size == 4 ? UInt32(truncatingIfNeeded: generator.bits(2, index, 0)) : UInt32(index)
        }
        let input =
            switch size {
            case 1: try memory.place(bits.map { UInt8($0) })
            case 2: try memory.place(bits.map { UInt16($0) })
            default: try memory.place(bits)
            }
        let output = try memory.room(count * values(of: type) * 4)
        try machine.run(
            arguments(PRIMITIVES_WIDEN, type) {
                $0.count = Int32(count)
                $0.input = input
                $0.output = output
            })
        let elements = memory.values(Element.self, at: input, count: count)
        let found = memory.values(
            Float.self, at: output, count: count * values(of: type))
        let step = values(of: type)
        for index in 0..<count {
            let expected = elements[index].float
            let value = found[index * step]
            // Added to +0, which the sums begin with: -0 becomes +0.
            guard value == expected || value.isNaN && expected.isNaN else {
                Issue.record(
                    "\(type) 0x\(String(bits[index], radix: 16)): \(value), not \(expected)")
                return
            }
        }
    }

    @Test(arguments: types) func everyBitPatternHasItsValue(_ type: ElementType) throws {
        let element = try #require(type.tokenElement)
        try checkWidening(element, type)
    }

    /// Rows summed in order, in fp32, with one rounding; each row perhaps with a factor.
    private func checkSums<Element: TokenElement>(
        _: Element.Type, _ type: ElementType, rows count: Int, entries: Int, first: Int,
        isWeighted: Bool, misalignment: Int
    ) throws {
        let memory = try PrimitiveMemory(byteCount: 1 << 21, on: machine)
        let size = MemoryLayout<Element>.stride
        let width = values(of: type)
        let length = first + entries
        let table = (0..<count).map { row in
            Element.rounded(
                (0..<length * width).map { generator.unit(3, row, $0) * 4 - 2 })
        }
        let stride = (length * size + 47) / 16 * 16 + misalignment
        let base = try memory.room(count * stride + length * size, misalignment: misalignment)
        var whole = memory.values(UInt8.self, at: base, count: count * stride + length * size)
        for (row, elements) in table.enumerated() {
            unsafe elements.withUnsafeBytes {
                for offset in 0..<$0.count { whole[row * stride + offset] = unsafe $0[offset] }
            }
        }
        let placed = try memory.place(whole, misalignment: misalignment)
        // The third of every five rows was dropped.
        let present = (0..<count).map { $0 % 5 != 2 }
        let rows = (0..<count).flatMap { row -> [UInt64] in
            present[row] ? [placed, UInt64(row)] : [0, 0]
        }
        let factors = (0..<count).map { generator.unit(4, $0, 0) }
        let output = try memory.room(length * size, misalignment: misalignment)
        try machine.run(
            arguments(isWeighted ? PRIMITIVES_WEIGHTED : PRIMITIVES_ACCUMULATE, type) {
                $0.count = Int32(count)
                $0.rows = try memory.place(rows + [0])
                $0.words = try memory.place(factors + [0])
                $0.stride = Int64(stride)
                $0.first = Int64(first)
                $0.bytes = Int64(entries)
                $0.output = output
            })
        // Of packed pairs both values, by the oracle's own table.
        let unpacked = table.map { elements in
            elements.flatMap { element -> [Float] in
                guard let pair = element as? Float4E2M1Pair else { return [element.float] }
                return [pair.first, pair.second]
            }
        }
        let sums = (first * width..<length * width).map { column in
            var sum: Float = 0
            for row in 0..<count where present[row] {
                let value = unpacked[row][column]
                sum += isWeighted ? value * factors[row] : value
            }
            return sum
        }
        let found = memory.values(
            Element.self, at: output + UInt64(first * size), count: entries)
        check(Element.self, found, Element.rounded(sums), "\(type), \(count) rows, entry")
        #expect(
            memory.isUntouched(around: output + UInt64(first * size), byteCount: entries * size))
    }

    @Test(arguments: types, [false, true])
    func rowsAreSummedInOrderWithOneRounding(_ type: ElementType, isWeighted: Bool) throws {
        let element = try #require(type.tokenElement)
        for (rows, entries, first) in [
            (0, 40, 0), (1, 1024, 0), (2, 7, 0), (5, 640, 64), (8, 2056, 0), (13, 130, 2),
            (70, 70, 0), (130, 33, 1),
        ] {
            for misalignment in [0, 4] {
                try checkSums(
                    element, type, rows: rows, entries: entries, first: first,
                    isWeighted: isWeighted, misalignment: misalignment)
            }
        }
    }
}

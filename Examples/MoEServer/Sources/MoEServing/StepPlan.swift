/// What a completion asks for.
package struct CompletionParameters: Hashable, Sendable {
    /// Bytes, without the boundary that begins every text; they and `maxTokens` fit the context.
    package var prompt: [UInt8]
    /// Tokens to be made, 1 or more.
    package var maxTokens: Int
    /// 0: always the likeliest.
    package var temperature: Float
    package var seed: UInt64

    package init(prompt: [UInt8], maxTokens: Int, temperature: Float = 0, seed: UInt64 = 0) {
        self.prompt = prompt
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.seed = seed
    }
}

/// What all ranks do next, as rank 0 says.
package struct StepPlan: Hashable, Sendable {
    /// A sequence that begins, at the rank that it stays with.
    package struct Admission: Hashable, Sendable {
        package var id: UInt64
        package var rank: Int
        package var parameters: CompletionParameters

        package init(id: UInt64, rank: Int, parameters: CompletionParameters) {
            (self.id, self.rank, self.parameters) = (id, rank, parameters)
        }
    }

    package var admissions: [Admission]
    /// Sequences that nobody wants any more.
    package var cancellations: [UInt64]
    /// Whether there is something to continue.
    package var decodes: Bool
    /// Whether this is the end.
    package var stops: Bool

    package init(
        admissions: [Admission] = [], cancellations: [UInt64] = [], decodes: Bool = false,
        stops: Bool = false
    ) {
        (self.admissions, self.cancellations) = (admissions, cancellations)
        (self.decodes, self.stops) = (decodes, stops)
    }
}

/// A token that a rank made, and whether it was its sequence's last.
package struct TokenEvent: Hashable, Sendable {
    package enum Finish: UInt8, Sendable {
        /// More follows.
        case none = 0
        /// The text ended; this token is the boundary, and no text.
        case stop = 1
        /// It has as many tokens as were asked for.
        case length = 2
    }

    package var id: UInt64
    package var token: UInt8
    package var finish: Finish

    package init(id: UInt64, token: UInt8, finish: Finish) {
        (self.id, self.token, self.finish) = (id, token, finish)
    }
}

/// What a rank tells all others before each step: rank 0 the plan, each its new tokens.
package struct StepMessage: Hashable, Sendable {
    package var plan: StepPlan?
    package var events: [TokenEvent] = []

    /// What cannot be read.
    package struct Malformed: Error {}

    package var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.write(events.count)
        for event in events {
            writer.write(event.id)
            writer.bytes += [event.token, event.finish.rawValue]
        }
        guard let plan else { return writer.bytes }
        writer.bytes.append((plan.decodes ? 1 : 0) | (plan.stops ? 2 : 0))
        writer.write(plan.cancellations.count)
        for id in plan.cancellations { writer.write(id) }
        writer.write(plan.admissions.count)
        for admission in plan.admissions {
            let parameters = admission.parameters
            writer.write(admission.id)
            writer.write(admission.rank)
            writer.write(parameters.maxTokens)
            writer.write(UInt64(parameters.temperature.bitPattern))
            writer.write(parameters.seed)
            writer.write(parameters.prompt.count)
            writer.bytes += parameters.prompt
        }
        return writer.bytes
    }

    package init(plan: StepPlan? = nil, events: [TokenEvent] = []) {
        self.plan = plan
        self.events = events
    }

    package init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes)
        for _ in 0..<(try reader.count()) {
            let id = try reader.word()
            let token = try reader.byte()
            guard let finish = TokenEvent.Finish(rawValue: try reader.byte()) else {
                throw Malformed()
            }
            events.append(TokenEvent(id: id, token: token, finish: finish))
        }
        guard !reader.isAtEnd else { return }
        let flags = try reader.byte()
        var plan = StepPlan(decodes: flags & 1 != 0, stops: flags & 2 != 0)
        for _ in 0..<(try reader.count()) { plan.cancellations.append(try reader.word()) }
        for _ in 0..<(try reader.count()) {
            let (id, rank) = (try reader.word(), try reader.count())
            let maxTokens = try reader.count()
            let temperature = Float(bitPattern: UInt32(truncatingIfNeeded: try reader.word()))
            let seed = try reader.word()
            let prompt = try reader.bytes(try reader.count())
            plan.admissions.append(
                StepPlan.Admission(
                    id: id, rank: rank,
                    parameters: CompletionParameters(
                        prompt: prompt, maxTokens: maxTokens, temperature: temperature, seed: seed)
                ))
        }
        self.plan = plan
    }
}

/// Numbers as 8 bytes each, little-endian.
private struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func write(_ value: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    mutating func write(_ value: Int) { write(UInt64(value)) }
}

private struct ByteReader {
    private let all: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { all = bytes }

    var isAtEnd: Bool { position == all.count }

    mutating func bytes(_ count: Int) throws -> [UInt8] {
        guard count <= all.count - position else { throw StepMessage.Malformed() }
        defer { position += count }
        return Array(all[position..<position + count])
    }

    mutating func byte() throws -> UInt8 { try bytes(1)[0] }

    mutating func word() throws -> UInt64 {
        try bytes(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A number of things that come next, or another small one.
    mutating func count() throws -> Int {
        guard let value = Int(exactly: try word()), value <= 1 << 32 else {
            throw StepMessage.Malformed()
        }
        return value
    }
}

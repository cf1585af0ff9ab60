import MoriDevice
import MoriShmem

/// Makes tuning rules of JSON, and says line and key of what is wrong.
enum TuningReader {
    /// The version of the file's form.
    private static let version = "1.0"

    /// Reads a file, called `name` in errors.
    static func file(
        _ json: LocatedJSON, name: String
    ) throws(MoriError) -> (origin: String, tables: [TuningFile.Table]) {
        let fields = try LocatedFields(
            json, name: name, key: nil, needs: ["version", "tables"], knows: ["origin", "comment"])
        _ = try fields.text("version", among: [version])
        var tables: [TuningFile.Table] = []
        for json in try fields.array("tables") { tables.append(try table(json, name: name)) }
        return (try fields.has("origin") ? fields.text("origin") : "", tables)
    }

    private static func table(
        _ json: LocatedJSON, name: String
    ) throws(MoriError) -> TuningFile.Table {
        let fields = try LocatedFields(
            json, name: name, key: "tables",
            needs: ["device", "architecture", "kernel", "ep_size", "phase", "rules"],
            knows: ["comment"])
        let kernel = try fields.text("kernel", among: KernelType.allCases.map(\.description))
        let phase = try fields.text("phase", among: TuningFile.Phase.allCases.map(\.rawValue))
        var table = TuningFile.Table(
            device: try fields.text("device"), architecture: try fields.text("architecture"),
            kernelType: KernelType.allCases.first { $0.description == kernel } ?? .intraNode,
            worldSize: try fields.integer("ep_size", in: 1...SymmetricMemory.maxWorldSize),
            phase: TuningFile.Phase(rawValue: phase) ?? .dispatch, rules: [])
        for json in try fields.array("rules") {
            table.rules.append(try rule(json, name: name, phase: table.phase))
        }
        return table
    }

    private static func rule(
        _ json: LocatedJSON, name: String, phase: TuningFile.Phase
    ) throws(MoriError) -> TuningRule {
        // Dispatch reads the caller's tensors in any case.
        let zeroCopy = phase == .combine ? ["zero_copy"] : []
        let fields = try LocatedFields(
            json, name: name, key: "rules",
            needs: ["dtype", "num_tokens", "hidden_dim", "block_num", "warp_per_block"],
            knows: zeroCopy
                + [
                    "topk", "quant_type", "rdma_block_num", "bandwidth_gbps", "latency_us",
                    "comment",
                ])
        let blocks = try fields.integer("block_num", in: 1...1 << 16)
        let launch = LaunchConfiguration(
            blocks: blocks,
            rdmaBlocks: try fields.has("rdma_block_num")
                ? fields.integer("rdma_block_num", in: 0...blocks) : 0,
            warpsPerBlock: try fields.integer("warp_per_block", in: 1...32))
        return TuningRule(
            elementType: try fields.text("dtype", among: TuningRule.elementTypes),
            tokenCount: try fields.integer("num_tokens", in: 1...1 << 24),
            hiddenDim: try fields.integer("hidden_dim", in: 1...1 << 20),
            expertsPerToken: try fields.has("topk") ? fields.integer("topk", in: 1...1 << 20) : nil,
            isZeroCopy: try fields.has("zero_copy") ? fields.boolean("zero_copy") : nil,
            quantization: try fields.has("quant_type")
                ? fields.text("quant_type", among: TuningRule.quantizations) : nil,
            launch: launch,
            bandwidth: try fields.has("bandwidth_gbps") ? fields.amount("bandwidth_gbps") : nil,
            latency: try fields.has("latency_us") ? fields.amount("latency_us") : nil,
            line: json.line)
    }
}

/// The fields of an object, each read as what it must be.
private struct LocatedFields {
    private let name: String
    private var values: [String: LocatedJSON] = [:]

    /// Takes an object, the value of `key`, that must have what it `needs` and may have what it
    /// `knows`.
    init(
        _ json: LocatedJSON, name: String, key: String?, needs: [String], knows: [String]
    ) throws(MoriError) {
        self.name = name
        guard case .object(let members) = json.value else {
            throw located(
                name, json.line, key: key, "found \(json.words); legal is an object")
        }
        for member in members {
            guard (needs + knows).contains(member.key) else {
                let nearest = nearestName(to: member.key, among: needs + knows) ?? ""
                throw located(
                    name, member.line, key: member.key,
                    "unknown; did you mean \(nearest)? Legal are"
                        + " \((needs + knows).joined(separator: ", "))")
            }
            guard values.updateValue(member.value, forKey: member.key) == nil else {
                throw located(name, member.line, key: member.key, "given twice; leave one out")
            }
        }
        if let missing = needs.first(where: { values[$0] == nil }) {
            throw located(
                name, json.line, key: missing, "missing in the object that begins here; add it")
        }
    }

    func has(_ key: String) -> Bool { values[key] != nil }

    func text(_ key: String) throws(MoriError) -> String {
        let json = try self[key]
        guard case .string(let text) = json.value, !text.isEmpty else {
            throw wrong(key, json, "a string that is not empty")
        }
        return text
    }

    func text(_ key: String, among legal: [String]) throws(MoriError) -> String {
        let json = try self[key]
        guard case .string(let text) = json.value, legal.contains(text) else {
            throw wrong(key, json, legal.map { "\"\($0)\"" }.joined(separator: ", "))
        }
        return text
    }

    func integer(_ key: String, in legal: ClosedRange<Int>) throws(MoriError) -> Int {
        let json = try self[key]
        guard case .number(let number) = json.value, let integer = Int(exactly: number),
            legal.contains(integer)
        else {
            throw wrong(
                key, json, "a whole number from \(legal.lowerBound) to \(legal.upperBound)")
        }
        return integer
    }

    func amount(_ key: String) throws(MoriError) -> Double {
        let json = try self[key]
        guard case .number(let number) = json.value, number >= 0 else {
            throw wrong(key, json, "a number, 0 or more")
        }
        return number
    }

    func boolean(_ key: String) throws(MoriError) -> Bool {
        let json = try self[key]
        guard case .boolean(let truth) = json.value else { throw wrong(key, json, "true or false") }
        return truth
    }

    func array(_ key: String) throws(MoriError) -> [LocatedJSON] {
        let json = try self[key]
        guard case .array(let elements) = json.value else { throw wrong(key, json, "an array") }
        return elements
    }

    private subscript(_ key: String) -> LocatedJSON {
        get throws(MoriError) {
            guard let json = values[key] else {
                throw located(name, 1, key: key, "missing; add it")
            }
            return json
        }
    }

    private func wrong(_ key: String, _ json: LocatedJSON, _ legal: String) -> MoriError {
        located(name, json.line, key: key, "found \(json.words); legal is \(legal)")
    }
}

import FoundationEssentials
import MoriDevice
import MoriShmem

/// The text of one file of a trace, decoded and not yet believed.
struct TraceText: Decodable {
    struct About: Decodable {
        var version: Int
        var worldSize: Int
        var zeroNanoseconds: UInt64
        var ranks: [TraceFile.Rank]
    }
    struct Event: Decodable {
        struct Details: Decodable {
            var epoch: Int?
            var slot: Int?
            var peer: Int?
            var index: Int?
            var phase: Int?
            var rows: Int?
        }
        var ph: String
        var name: String
        var cat: String?
        var pid: Int
        var tid: Int?
        var ts: Double?
        var dur: Double?
        var id: String?
        var args: Details?
    }
    var moriEP: About
    var traceEvents: [Event]

    /// As much of a text as tells what it is.
    private struct Probe: Decodable {
        struct About: Decodable { var version: Int? }
        var moriEP: About?
    }

    private static let legal =
        "legal is a file of SymmetricMemory.exportTrace or bench-dispatch-combine --trace"

    /// The bytes of a file.
    static func bytes(of path: String) throws(MoriError) -> Data {
        guard let data = try? Data(contentsOf: URL(filePath: path)) else {
            throw MoriError(.invalidArgument, "\(path) cannot be read; \(legal)")
        }
        return data
    }

    /// Decodes a file's bytes.
    static func decode(_ data: Data, of path: String) throws(MoriError) -> TraceText {
        guard !data.isEmpty else {
            throw MoriError(.invalidArgument, "\(path) is empty; \(legal)")
        }
        let probe: Probe
        do {
            probe = try JSONDecoder().decode(Probe.self, from: data)
        } catch {
            throw MoriError(.invalidArgument, "\(path) is no JSON object; \(legal)")
        }
        guard let about = probe.moriEP else {
            throw MoriError(
                .invalidArgument,
                "\(path) is JSON without \"moriEP\", so no trace of MoriEP; \(legal)")
        }
        guard about.version == TraceDocument.version else {
            throw MoriError(
                .invalidArgument,
                "\(path) is a trace of version \(about.version.map(String.init) ?? "none"); this mori-ep"
                    + " reads version \(TraceDocument.version): take the mori-ep of the package that"
                    + " wrote it")
        }
        do {
            return try JSONDecoder().decode(TraceText.self, from: data)
        } catch DecodingError.keyNotFound(let key, let context) {
            throw damaged(path, at: context.codingPath, "\"\(key.stringValue)\" is missing")
        } catch DecodingError.typeMismatch(_, let context) {
            throw damaged(path, at: context.codingPath, context.debugDescription)
        } catch DecodingError.dataCorrupted(let context) {
            throw damaged(path, at: context.codingPath, context.debugDescription)
        } catch {
            throw damaged(path, "\(error)")
        }
    }

    private static func damaged(
        _ path: String, at place: [any CodingKey], _ problem: String
    ) -> MoriError {
        let words = place.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
        return damaged(path, "at \(words.joined(separator: " ")) \(problem)")
    }

    /// A file that says what no trace says.
    static func damaged(_ path: String, _ problem: String) -> MoriError {
        MoriError(.invalidArgument, "\(path) is a damaged trace: \(problem); export it anew")
    }
}

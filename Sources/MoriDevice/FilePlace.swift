import Glibc

/// The file that a path leads to, whether or not it is there yet.
@safe
package struct FilePlace: Sendable {
    /// What is there.
    package enum Kind: Sendable {
        case nothing
        case file
        case folder
        /// A pipe, a terminal, a device: written to, and never replaced.
        case other
    }

    package let kind: Kind
    /// The path without links in it.
    package let path: String
    /// As it was given.
    private let words: String
    private let device: UInt
    private let inode: UInt
    private let mode: mode_t

    /// Looks where a path leads.
    package init(_ path: String) {
        words = path
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            kind = .nothing
            self.path = Self.newPath(path)
            (device, inode, mode) = (0, 0, 0)
            return
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: kind = .file
        case S_IFDIR: kind = .folder
        default: kind = .other
        }
        // That of a pipe leads nowhere.
        self.path = kind == .other ? path : Self.realPath(path) ?? path
        (device, inode, mode) = (UInt(status.st_dev), UInt(status.st_ino), status.st_mode & 0o777)
    }

    /// Whether what is written to one is read from the other, by whatever name.
    package func isSame(as other: FilePlace) -> Bool {
        switch (kind, other.kind) {
        case (.file, .file): device == other.device && inode == other.inode
        case (.nothing, .nothing): path == other.path
        default: false
        }
    }

    /// The folder that it is in, or would be.
    package var folder: String { Self.folder(of: path) }

    /// Why it cannot be written; nil: it can.
    package var problem: String? {
        guard !words.isEmpty else { return "is empty; legal is a file" }
        switch kind {
        case .folder: return "is a folder; legal is a file"
        case .other: break
        // A file is written beside the one that it replaces. With "/." what is no folder is refused.
        case .file, .nothing:
            guard unsafe access(folder + "/.", W_OK | X_OK) == 0 else {
                return "is in \(folder), which cannot be written"
            }
        }
        guard unsafe kind == .nothing || access(path, W_OK) == 0 else {
            return "cannot be written"
        }
        return nil
    }

    /// Writes the file as a whole: whoever reads it meanwhile sees the former one or the new one, and
    /// where that fails, the former one stays.
    ///
    /// - Parameters:
    ///   - bytes: All that the file will have.
    ///   - what: What they are, for the error: "the trace".
    /// - Throws: `invalidArgument` with what the system said.
    package func replace(with bytes: [UInt8], what: String) throws(MoriError) {
        func refused(_ call: String) -> MoriError {
            MoriError(
                .invalidArgument, "\(what) cannot be written to \(words); give a path that can be",
                cause: .errno(call: call, code: errno))
        }
        guard kind != .other else { return try write(bytes, to: path, "we", refused) }
        let beside = "\(path).\(UInt64.random(in: 0 ... .max))"
        do throws(MoriError) {
            try write(bytes, to: beside, "wxe", refused)
            if kind == .file, unsafe chmod(beside, mode) != 0 { throw refused("chmod") }
            guard unsafe rename(beside, path) == 0 else { throw refused("rename") }
        } catch {
            unsafe unlink(beside)
            throw error
        }
    }

    private func write(
        _ bytes: [UInt8], to path: String, _ mode: String, _ refused: (String) -> MoriError
    ) throws(MoriError) {
        guard let file = unsafe fopen(path, mode) else { throw refused("fopen") }
        let written = unsafe fwrite(bytes, 1, bytes.count, file)
        let problem = written == bytes.count ? nil : refused("fwrite")
        // What was buffered goes out here, or does not.
        guard unsafe fclose(file) == 0 else { throw problem ?? refused("fclose") }
        if let problem { throw problem }
    }

    /// The path of what is not there: links to nothing are followed, and the folder is.
    private static func newPath(_ path: String) -> String {
        var path = path
        // As many as the kernel follows.
        for _ in 0..<40 {
            guard let target = link(path) else { break }
            path = target.hasPrefix("/") ? target : folder(of: path) + "/" + target
        }
        let name = path.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        return (realPath(folder(of: path)) ?? folder(of: path)) + "/" + name
    }

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func realPath(_ path: String) -> String? {
        guard let found = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(found) }
        return unsafe String(cString: found)
    }

    private static func link(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink(path, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

import FoundationEssentials
import Glibc
import MoriDevice
import Testing

/// Where a path leads, and how a file is written as a whole.
@Suite struct FilePlaceTests {
    private static func inFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "moriep-place-\(UInt64.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder.path)
    }

    private static func text(_ path: String) -> String? {
        (try? Data(contentsOf: URL(filePath: path))).map { String(decoding: $0, as: UTF8.self) }
    }

    private static func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test func oneFileIsTheSameByAllItsNames() throws {
        try Self.inFolder { folder in
            let files = FileManager.default
            try Data("a".utf8).write(to: URL(filePath: folder + "/a"))
            try Data("a".utf8).write(to: URL(filePath: folder + "/other"))
            try files.createDirectory(atPath: folder + "/b", withIntermediateDirectories: false)
            try files.createSymbolicLink(atPath: folder + "/link", withDestinationPath: "a")
            try files.linkItem(atPath: folder + "/a", toPath: folder + "/hard")
            try files.createSymbolicLink(atPath: folder + "/soon", withDestinationPath: "b/../new")
            try files.createSymbolicLink(
                atPath: folder + "/later", withDestinationPath: folder + "/soon")
            try files.createSymbolicLink(atPath: folder + "/turn", withDestinationPath: "turn")
            func isSame(_ a: String, _ b: String) -> Bool {
                FilePlace(folder + a).isSame(as: FilePlace(folder + b))
            }
            for name in ["/link", "/hard", "//a", "/b/../a", "/./a"] { #expect(isSame("/a", name)) }
            for name in ["/soon", "/later", "/b/../new"] {
                #expect(isSame("/new", name), "\(name)")
            }
            #expect(!isSame("/a", "/other") && !isSame("/new", "/newer") && !isSame("/a", "/new"))
            #expect(FilePlace(folder + "/turn").kind == .nothing)
            // Whoever writes to these loses nothing.
            #expect(!FilePlace("/dev/null").isSame(as: FilePlace("/dev/null")))
        }
    }

    @Test func whatCannotBeWrittenIsKnownBefore() throws {
        try Self.inFolder { folder in
            try Data().write(to: URL(filePath: folder + "/a"))
            for path in ["/a", "/new"] { #expect(FilePlace(folder + path).problem == nil) }
            #expect(FilePlace("/dev/null").problem == nil)
            #expect(FilePlace("").problem == "is empty; legal is a file")
            #expect(FilePlace(folder).problem == "is a folder; legal is a file")
            for path in ["/a/below", "/none/new", "/none/"] {
                #expect(
                    FilePlace(folder + path).problem?.hasSuffix("which cannot be written") == true)
            }
        }
    }

    @Test func aFileIsReplacedAsAWhole() throws {
        try Self.inFolder { folder in
            let path = folder + "/a"
            try FilePlace(path).replace(with: Array("first".utf8), what: "it")
            #expect(Self.text(path) == "first")
            #expect(unsafe chmod(path, 0o640) == 0)
            // Whoever has the former one open reads it to its end.
            let former = unsafe open(path, O_RDONLY | O_CLOEXEC)
            defer { close(former) }
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/link", withDestinationPath: "a")
            try FilePlace(folder + "/link").replace(with: Array("second".utf8), what: "it")
            #expect(Self.text(path) == "second")
            var bytes = [UInt8](repeating: 0, count: 16)
            #expect(unsafe read(former, &bytes, bytes.count) == 5)
            #expect(String(decoding: bytes[..<5], as: UTF8.self) == "first")
            #expect(try Self.names(folder) == ["a", "link"])
            var status = stat()
            #expect(unsafe stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
            #expect(unsafe lstat(folder + "/link", &status) == 0)
            #expect(status.st_mode & S_IFMT == S_IFLNK)
        }
    }

    @Test func aPipeIsWrittenToAndStays() throws {
        try Self.inFolder { folder in
            let path = folder + "/pipe"
            #expect(unsafe mkfifo(path, 0o600) == 0)
            let reader = unsafe open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
            defer { close(reader) }
            try FilePlace(path).replace(with: Array("words".utf8), what: "it")
            var bytes = [UInt8](repeating: 0, count: 16)
            #expect(unsafe read(reader, &bytes, bytes.count) == 5)
            #expect(try Self.names(folder) == ["pipe"])
        }
    }

    @Test func whatFailsLeavesTheFormerFileAndNoOther() throws {
        try Self.inFolder { folder in
            // A file system that is full from the first byte on.
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/full", withDestinationPath: "/dev/full")
            let full = #expect(throws: MoriError.self) {
                try FilePlace(folder + "/full").replace(with: [1, 2, 3], what: "the trace")
            }
            #expect(full?.code == .invalidArgument)
            #expect(full?.message.contains("the trace cannot be written to \(folder)/full") == true)
            #expect(full?.description.contains("fclose") == true, "\(String(describing: full))")
            // Renaming fails where a folder has come between.
            let place = FilePlace(folder + "/a")
            try FileManager.default.createDirectory(
                atPath: folder + "/a", withIntermediateDirectories: false)
            #expect(throws: MoriError.self) { try place.replace(with: [1, 2, 3], what: "it") }
            #expect(try Self.names(folder) == ["a", "full"])
            #expect(try Self.names(folder + "/a").isEmpty)
            #expect(throws: MoriError.self) {
                try FilePlace(folder + "/none/a").replace(with: [1], what: "it")
            }
        }
    }
}

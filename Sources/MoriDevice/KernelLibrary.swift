package import CHIP
import Glibc
import MoriHostKernels

/// One library of kernels: the host device's, which is linked in, or a GPU's shared object.
@safe
package final class KernelLibrary: Sendable {
    /// Which devices the library drives.
    package let kind: Device.Kind
    /// Where it was found; "linked in" for the host device.
    package let path: String
    /// The table of functions.
    ///
    /// It lives as long as the process: libraries are never unloaded.
    package nonisolated(unsafe) let table: UnsafePointer<moriep_device_api>

    private init(kind: Device.Kind, path: String, table: UnsafePointer<moriep_device_api>) {
        self.kind = kind
        self.path = path
        unsafe self.table = table
    }

    /// The host device's library.
    package static let host: Result<KernelLibrary, MoriError> = Result {
        () throws(MoriError) -> KernelLibrary in
        guard let address = unsafe moriep_host_api(UInt32(MORIEP_API_VERSION)) else {
            throw MoriError(
                .unsupported, "the host device's kernels are not of version \(MORIEP_API_VERSION)")
        }
        let table = unsafe address.assumingMemoryBound(to: moriep_device_api.self)
        unsafe try check(table, path: "linked in")
        return unsafe KernelLibrary(kind: .host, path: "linked in", table: table)
    }

    private static let loaded = Locked<[Device.Kind: KernelLibrary]>([:])

    /// The library of a kind of device, opened on first use.
    ///
    /// - Throws: `noDevice` with every path tried and the loader's words.
    package static func load(_ kind: Device.Kind) throws(MoriError) -> KernelLibrary {
        guard kind != .host else { return try host.get() }
        return try loaded.withLock { (known) throws(MoriError) in
            if let library = known[kind] { return library }
            let library = try open(kind)
            known[kind] = library
            return library
        }
    }

    /// The places where the shared object of a kind is looked for, in order.
    package static func candidates(
        _ kind: Device.Kind, environment: [String: String], executable: String?
    ) -> [String] {
        let name = "libmoriep_\(kind.rawValue).so"
        var paths: [String] = []
        if let path = environment["MORI_EP_LIBRARY"], !path.isEmpty {
            // A folder, or the file itself.
            paths.append(path.hasSuffix(".so") ? path : "\(path)/\(name)")
        }
        if let executable, let slash = executable.lastIndex(of: "/") {
            let folder = executable[..<slash]
            paths.append("\(folder)/\(name)")
            // `make install` puts programs into bin and libraries into lib, beside it.
            if folder.hasSuffix("/bin") { paths.append("\(folder.dropLast(3))lib/\(name)") }
            // `make kernels` builds into .build/kernels; executables lie in .build/<triple>/<mode>.
            if let build = folder.range(of: "/.build") {
                paths.append("\(folder[..<build.lowerBound])/.build/kernels/\(name)")
            }
        }
        paths.append(".build/kernels/\(name)")
        paths.append(name)
        return paths
    }

    private static func open(_ kind: Device.Kind) throws(MoriError) -> KernelLibrary {
        try open(
            kind,
            at: candidates(
                kind, environment: ProcessVariables.all, executable: ProcessVariables.executable))
    }

    /// Opens the first library of these paths that there is.
    ///
    /// - Throws: `noDevice` with every path tried and the loader's words; `unsupported` for a library
    ///   of another version, with both versions.
    package static func open(
        _ kind: Device.Kind, at paths: [String]
    ) throws(MoriError) -> KernelLibrary {
        var tried: [String] = []
        for path in paths {
            let getAPI: GetAPI
            do {
                unsafe getAPI = try entryPoint(of: path)
            } catch {
                tried.append("\(path) (\(error.reason))")
                continue
            }
            guard let table = unsafe getAPI(UInt32(MORIEP_API_VERSION)) else {
                let other = (0...UInt32(64)).first { unsafe getAPI($0) != nil }
                throw MoriError(
                    .unsupported,
                    "\(path) has version \(other.map(String.init) ?? "unknown") of the interface to"
                        + " kernels, and this program is of version \(MORIEP_API_VERSION): build both"
                        + " from one checkout, the library with `make \(target(kind))`")
            }
            unsafe try check(table, path: path)
            return unsafe KernelLibrary(kind: kind, path: path, table: table)
        }
        throw MoriError(
            .noDevice,
            "no library for \(kind) devices could be opened; tried \(tried.joined(separator: ", "))."
                + " Build it with `make \(target(kind))`, or name it in MORI_EP_LIBRARY")
    }

    private typealias GetAPI = @convention(c) (UInt32) -> UnsafePointer<moriep_device_api>?

    /// Why a path is no library of kernels.
    private struct Missing: Error {
        let reason: String
    }

    /// What a library of kernels exports.
    private static func entryPoint(of path: String) throws(Missing) -> GetAPI {
        guard let handle = unsafe dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            // The loader says the path first, which whoever reports this does too.
            let words = loaderMessage()
            let named = "\(path): "
            throw Missing(
                reason: words.hasPrefix(named) ? String(words.dropFirst(named.count)) : words)
        }
        guard let symbol = unsafe dlsym(handle, "moriep_get_api") else {
            throw Missing(reason: "no moriep_get_api in it")
        }
        return unsafe unsafeBitCast(symbol, to: GetAPI.self)
    }

    /// The places where the library of a kind is looked for, and of each why it is not taken.
    ///
    /// - Returns: The paths in order, up to the first that can be opened, which has no reason.
    package static func search(_ kind: Device.Kind) -> [(path: String, reason: String?)] {
        guard kind != .host else { return [("linked in", nil)] }
        var tried: [(path: String, reason: String?)] = []
        for path in candidates(
            kind, environment: ProcessVariables.all, executable: ProcessVariables.executable)
        {
            do {
                _ = unsafe try entryPoint(of: path)
                tried.append((path, nil))
                break
            } catch {
                tried.append((path, error.reason))
            }
        }
        return tried
    }

    /// What builds the library of a kind.
    package static func target(_ kind: Device.Kind) -> String {
        switch kind {
        case .host: "build"
        case .amd: "kernels"
        case .nvidia: "kernels-nvidia"
        case .emulated: "emulator"
        }
    }

    private static func loaderMessage() -> String {
        guard let words = unsafe dlerror() else { return "unknown" }
        return unsafe String(cString: words)
    }

    /// Refuses a library whose structs were compiled from another header.
    private static func check(
        _ table: UnsafePointer<moriep_device_api>, path: String
    ) throws(MoriError) {
        let api = unsafe table.pointee
        let sizes: [(String, UInt32, Int)] = [
            ("moriep_device_api", api.byte_count, MemoryLayout<moriep_device_api>.size),
            (
                "moriep_device_properties", api.size_of_properties,
                MemoryLayout<moriep_device_properties>.size
            ),
            ("moriep_shape", api.size_of_shape, MemoryLayout<moriep_shape>.size),
            ("moriep_layout", api.size_of_layout, MemoryLayout<moriep_layout>.size),
            ("moriep_control", api.size_of_control, MemoryLayout<moriep_control>.size),
            ("moriep_failure", api.size_of_failure, MemoryLayout<moriep_failure>.size),
            ("moriep_operator", api.size_of_operator, MemoryLayout<moriep_operator>.size),
            (
                "moriep_dispatch_arguments", api.size_of_dispatch,
                MemoryLayout<moriep_dispatch_arguments>.size
            ),
            (
                "moriep_received_arguments", api.size_of_received,
                MemoryLayout<moriep_received_arguments>.size
            ),
            (
                "moriep_combine_arguments", api.size_of_combine,
                MemoryLayout<moriep_combine_arguments>.size
            ),
            (
                "moriep_clock_reading", api.size_of_clock_reading,
                MemoryLayout<moriep_clock_reading>.size
            ),
        ]
        for (name, found, expected) in sizes where Int(found) != expected {
            throw MoriError(
                .unsupported,
                "\(path) was compiled from another moriep.h: \(name) has \(found) bytes there and"
                    + " \(expected) here; rebuild it")
        }
    }

    /// Turns a status into an error that names the call and carries the runtime's own words.
    package func check(_ status: moriep_status, _ call: String) throws(MoriError) {
        guard status != MORIEP_SUCCESS else { return }
        let words = unsafe table.pointee.last_message().map { unsafe String(cString: $0) } ?? ""
        let number = unsafe table.pointee.last_code()
        let code: MoriError.Code =
            switch status {
            case MORIEP_INVALID_ARGUMENT, MORIEP_CAPTURE_INVALID: .invalidArgument
            case MORIEP_OUT_OF_MEMORY: .outOfMemory
            case MORIEP_NO_DEVICE: .noDevice
            case MORIEP_NOT_SUPPORTED: .unsupported
            case MORIEP_NOT_RESIDENT: .capacityExceeded
            default: .deviceFailure
            }
        throw MoriError(
            code, "\(kind) device: \(call) failed (library: \(path))",
            cause: .runtime(code: number, message: words))
    }

    /// What this process holds of the library.
    package func liveCounts() throws(MoriError) -> moriep_live_counts {
        var counts = moriep_live_counts()
        try check(unsafe table.pointee.live_counts(&counts), "live_counts")
        return counts
    }
}

/// The process's own surroundings, read without Foundation.
package enum ProcessVariables {
    /// The environment as it is now.
    package static var all: [String: String] {
        var variables: [String: String] = [:]
        var entry = unsafe environ
        while let text = unsafe entry.pointee {
            let pair = unsafe String(cString: text)
            if let equals = pair.firstIndex(of: "=") {
                variables[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
            }
            unsafe entry += 1
        }
        return variables
    }

    /// The path of the running program; nil where procfs does not tell.
    package static var executable: String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension Substring {
    /// The first range of `text`, without Foundation.
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) {
                return start..<index(start, offsetBy: text.count)
            }
            start = index(after: start)
        }
        return nil
    }
}

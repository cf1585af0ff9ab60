import CHIP

/// A processor that runs kernels: the host itself, or a GPU.
public struct Device: Hashable, Sendable, CustomStringConvertible {
    /// Which machine the kernels are compiled for.
    public enum Kind: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
        /// The host processor: always there.
        case host
        /// An AMD GPU, through `libmoriep_amd.so`.
        case amd
        /// An NVIDIA GPU, through `libmoriep_nvidia.so`.
        case nvidia
        /// The code of the AMD kernels, executed on the host by the emulator of this package's
        /// tests, through `libmoriep_emulated.so`.
        case emulated

        /// "host", "amd", "nvidia" or "emulated".
        public var description: String { rawValue }
    }

    /// What `MORI_EP_DEVICE` can say.
    package enum Choice: String, Hashable, Sendable, CaseIterable {
        /// A GPU if one answers, else the host.
        case auto
        /// The host processor.
        case host
        /// AMD GPUs.
        case amd
        /// NVIDIA GPUs.
        case nvidia
        /// The emulator.
        case emulated

        /// The kind; nil for `auto`.
        var kind: Kind? { Kind(rawValue: rawValue) }
    }

    /// What a device is and has.
    public struct Properties: Hashable, Sendable {
        /// The device's own name.
        public let name: String
        /// "gfx942:sramecc+:xnack-", "sm_90", "x86_64".
        public let architecture: String
        /// 64 on AMD's gfx9, 32 on NVIDIA, 1 on the host.
        public let lanesPerWarp: Int
        /// Compute units, multiprocessors, hardware threads.
        public let computeUnits: Int
        /// Warps of one block, at most.
        public let maxWarpsPerBlock: Int
        /// Warps of one launch that can be resident at once.
        public let maxResidentWarps: Int
        /// Whether the host may read and write device memory through plain pointers.
        public let memoryIsHostMemory: Bool
        /// Bytes of memory.
        public let memoryByteCount: Int
    }

    /// Which machine.
    public let kind: Kind
    /// Which of them, from 0.
    public let ordinal: Int
    /// Its library.
    package let library: KernelLibrary

    /// A device by kind and number.
    ///
    /// - Throws: `noDevice` when the library cannot be opened or has no such device, with the paths
    ///   tried and the runtime's own words.
    public init(_ kind: Kind, ordinal: Int = 0) throws(MoriError) {
        let library = try KernelLibrary.load(kind)
        let count = try Self.count(library)
        guard ordinal >= 0 && ordinal < count else {
            throw MoriError(
                .noDevice,
                "there is no \(kind) device \(ordinal); this machine has \(count), numbered from 0")
        }
        self.kind = kind
        self.ordinal = ordinal
        self.library = library
    }

    /// The first device of a library, which need not be the one that programs find.
    package init(of library: KernelLibrary) {
        kind = library.kind
        ordinal = 0
        self.library = library
    }

    /// The device that `MORI_EP_DEVICE` asks for (`auto`, `host`, `amd`, `nvidia`,
    /// `emulated`); `auto`, the default, takes a GPU if one answers.
    ///
    /// Ranks of one node take the device of their local rank, and share devices round-robin when
    /// there are fewer.
    ///
    /// - Throws: `invalidConfiguration` for another value, `noDevice` when the kind does not answer.
    public static func selected(localRank: Int = 0) throws(MoriError) -> Device {
        let wish = ProcessVariables.all["MORI_EP_DEVICE"] ?? ""
        guard let choice = Choice(rawValue: wish.isEmpty ? "auto" : wish) else {
            throw MoriError(
                .invalidConfiguration,
                "MORI_EP_DEVICE is \"\(wish)\"; legal are auto, host, amd, nvidia and"
                    + " emulated")
        }
        return try selected(choice, localRank: localRank)
    }

    /// The same for a choice that was read before.
    package static func selected(
        _ choice: Choice, localRank: Int
    ) throws(MoriError) -> Device {
        guard let kind = choice.kind else {
            for kind in [Kind.amd, .nvidia] {
                if let device = try? Device(kind, sharedBy: localRank) { return device }
            }
            return try Device(.host)
        }
        return try Device(kind, sharedBy: localRank)
    }

    private init(_ kind: Kind, sharedBy localRank: Int) throws(MoriError) {
        let library = try KernelLibrary.load(kind)
        let count = try Self.count(library)
        guard count > 0 else {
            throw MoriError(.noDevice, "no \(kind) device answers (library: \(library.path))")
        }
        try self.init(kind, ordinal: localRank % count)
    }

    private static func count(_ library: KernelLibrary) throws(MoriError) -> Int {
        var count: Int32 = 0
        try library.check(unsafe library.table.pointee.device_count(&count), "device_count")
        return Int(count)
    }

    /// What the device is and has.
    public func properties() throws(MoriError) -> Properties {
        var found = moriep_device_properties()
        try library.check(
            unsafe library.table.pointee.device_properties(Int32(ordinal), &found),
            "device_properties")
        return Properties(
            name: text(of: &found.name), architecture: text(of: &found.architecture),
            lanesPerWarp: Int(found.lanes_per_warp), computeUnits: Int(found.compute_units),
            maxWarpsPerBlock: Int(found.max_warps_per_block),
            maxResidentWarps: Int(found.max_resident_warps),
            memoryIsHostMemory: found.memory_is_host_memory != 0,
            memoryByteCount: Int(found.memory_bytes))
    }

    /// "host:0", "amd:3".
    public var description: String { "\(kind):\(ordinal)" }

    /// Kind and number.
    public static func == (left: Device, right: Device) -> Bool {
        left.kind == right.kind && left.ordinal == right.ordinal
    }

    /// Kind and number.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        hasher.combine(ordinal)
    }
}

/// The text in a C array of characters, up to its end or its first zero.
private func text<Characters>(of characters: inout Characters) -> String {
    unsafe withUnsafeBytes(of: &characters) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}

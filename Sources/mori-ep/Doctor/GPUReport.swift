import MoriDevice
import MoriShmem

/// A GPU on the PCI bus, whether or not anything can use it.
struct PCIGPU: Encodable {
    /// "amd" or "nvidia".
    var kind: String
    /// "0000:3b:00.0".
    var address: String
    /// The kernel's driver for it; nil: none is bound.
    var driver: String?
    var numaNode: Int?
    /// For distances only.
    let location: HostLocation

    enum CodingKeys: String, CodingKey { case kind, address, driver, numaNode }

    /// Vendors' numbers on the bus.
    private static let vendors = ["0x1002": "amd", "0x10de": "nvidia"]

    init?(_ address: String, _ files: SystemFiles) {
        let folder = "/sys/bus/pci/devices/\(address)"
        guard let kind = files.text(of: folder + "/vendor").flatMap({ Self.vendors[$0] }),
            let kindOfDevice = files.text(of: folder + "/class"),
            // Display controllers and processing accelerators.
            kindOfDevice.hasPrefix("0x03") || kindOfDevice.hasPrefix("0x12")
        else { return nil }
        self.kind = kind
        self.address = address
        driver = files.linkName(folder + "/driver")
        location = files.location(ofDevice: folder)
        numaNode = location.numaNode
    }

    static func all(_ files: SystemFiles) -> [PCIGPU] {
        files.entries(of: "/sys/bus/pci/devices").compactMap { PCIGPU($0, files) }
    }
}

/// What this host has for one kind of GPU, and what its kernels' library says.
struct GPUReport: Encodable {
    /// A path at which the library was looked for.
    struct Attempt: Encodable {
        var path: String
        /// Why it was not taken; nil: it was.
        var reason: String?
    }

    /// A device that answers.
    struct Found: Encodable {
        /// "amd:0".
        var device: String
        var name: String
        var architecture: String
        var computeUnits: Int
        var lanesPerWarp: Int
        var memoryBytes: Int
    }

    /// "host", "amd", "nvidia" or "emulated".
    var kind: String
    /// The library that is used; nil: none was found, or it was not looked for.
    var library: String?
    var attempts: [Attempt]
    var devices: [Found]
    /// Why there are none.
    var reason: String?
    /// The version of the kernel's driver and of the vendor's software, where they tell.
    var driverVersion: String?
    var softwareVersion: String?

    init(_ kind: Device.Kind, _ files: SystemFiles, asksLibraries: Bool) {
        self.kind = kind.rawValue
        attempts = []
        devices = []
        switch kind {
        case .amd:
            driverVersion =
                files.text(of: "/sys/module/amdgpu/version")
                ?? (files.exists("/sys/module/amdgpu") ? "the kernel's own" : nil)
            softwareVersion = files.text(of: "/opt/rocm/.info/version").map { "ROCm \($0)" }
        case .nvidia:
            driverVersion = files.text(of: "/sys/module/nvidia/version")
            softwareVersion = files.line("\"version\" :", of: "/usr/local/cuda/version.json")
        default: break
        }
        guard asksLibraries else { return }
        attempts = KernelLibrary.search(kind).map { Attempt(path: $0.path, reason: $0.reason) }
        library = attempts.first { $0.reason == nil }?.path
        do throws(MoriError) {
            while true {
                let device = try Device(kind, ordinal: devices.count)
                let found = try device.properties()
                devices.append(
                    Found(
                        device: "\(device)", name: found.name, architecture: found.architecture,
                        computeUnits: found.computeUnits, lanesPerWarp: found.lanesPerWarp,
                        memoryBytes: found.memoryByteCount))
            }
        } catch {
            // Past the last device; with none, the words say why.
            if devices.isEmpty { reason = error.description }
        }
    }
}
